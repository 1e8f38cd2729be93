//! A connection of the caller's, on which messages are recorded in the caller's transaction.

use diesel::mysql::MysqlConnection;
use diesel::prelude::*;

use super::engine::MysqlEngine;
use super::properties::{self, ServerProperties};
use super::statement::{most_bytes, source, statement};
use crate::store::sql::{InsertTarget, ValueTable};

/// Every server accepts a statement with so many bytes of values, so that its limit need not be read.
const ALWAYS_FITS: usize = 64 * 1024;

/// The server's properties are only read where they matter.
impl InsertTarget<MysqlEngine> for MysqlConnection {
    fn highest_character(&mut self) -> QueryResult<char> {
        Ok(ServerProperties::of(self)?.highest_character)
    }

    fn most_bytes(&mut self) -> QueryResult<usize> {
        Ok(most_bytes(&ServerProperties::of(self)?))
    }

    fn values_sql(&self, values: &ValueTable<'_>) -> String {
        source(values, |_| properties::TEXT)
    }

    fn insert(&mut self, sql: &str, values: &ValueTable<'_>) -> QueryResult<usize> {
        let limit = |bytes| match bytes {
            ..ALWAYS_FITS => Ok(usize::MAX),
            _ => Ok(ServerProperties::of(self)?.most_bytes),
        };
        statement(sql, Some(values), limit)?.execute(self)
    }
}
