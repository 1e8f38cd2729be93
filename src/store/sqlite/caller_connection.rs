//! A connection of the caller's, on which messages are recorded in the caller's transaction.

use diesel::prelude::*;
use diesel::sqlite::SqliteConnection;

use super::engine::SqliteEngine;
use super::statement::{source, statement};
use crate::store::sql::{InsertTarget, ValueTable};

impl InsertTarget<SqliteEngine> for SqliteConnection {
    fn highest_character(&mut self) -> QueryResult<char> {
        Ok(char::MAX)
    }

    fn values_sql(&self, values: &ValueTable<'_>) -> String {
        source(values)
    }

    fn insert(&mut self, sql: &str, values: &ValueTable<'_>) -> QueryResult<usize> {
        statement(sql, Some(values)).execute(self)
    }
}
