//! A connection of the caller's, on which messages are recorded in the caller's transaction.

use diesel::pg::PgConnection;
use diesel::prelude::*;

use super::engine::PostgresEngine;
use super::statement::{CHANNEL, source, statement};
use crate::store::sql::{InsertTarget, ValueTable};

/// An insert also sends a NOTIFY, which reaches the services when the caller commits.
impl InsertTarget<PostgresEngine> for PgConnection {
    fn highest_character(&mut self) -> QueryResult<char> {
        Ok(char::MAX)
    }

    fn values_sql(&self, values: &ValueTable<'_>) -> String {
        source(values)
    }

    fn insert(&mut self, sql: &str, values: &ValueTable<'_>) -> QueryResult<usize> {
        let sql = format!("WITH recorded AS ({sql} RETURNING 1) SELECT pg_notify({CHANNEL}, '')");
        statement(&sql, Some(values)).execute(self)
    }
}
