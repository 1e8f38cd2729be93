//! Rows that statements return.

use diesel::deserialize::QueryableByName;
use diesel::pg::Pg;
use diesel::prelude::*;
use diesel::result::Error;
use diesel::sql_types::{BigInt, Text};
use diesel::sqlite::Sqlite;

/// A row that loads from every database, by the names of its columns.
#[cfg(feature = "mysql")]
pub(in crate::store) trait LoadableRow:
    QueryableByName<Pg> + QueryableByName<Sqlite> + QueryableByName<diesel::mysql::Mysql> + 'static
{
}

#[cfg(feature = "mysql")]
impl<R> LoadableRow for R where
    R: QueryableByName<Pg>
        + QueryableByName<Sqlite>
        + QueryableByName<diesel::mysql::Mysql>
        + 'static
{
}

/// A row that loads from every database, by the names of its columns.
#[cfg(not(feature = "mysql"))]
pub(in crate::store) trait LoadableRow:
    QueryableByName<Pg> + QueryableByName<Sqlite> + 'static
{
}

#[cfg(not(feature = "mysql"))]
impl<R> LoadableRow for R where R: QueryableByName<Pg> + QueryableByName<Sqlite> + 'static {}

/// A row of `carrot_messagelog` with its `uuid`.
pub(in crate::store) trait KeyedRow: LoadableRow {
    /// Its `uuid`.
    #[cfg_attr(
        not(feature = "mysql"),
        expect(
            dead_code,
            reason = "the other databases return rows from the update itself"
        )
    )]
    fn key(&self) -> &str;
}

/// The id of a row.
#[derive(QueryableByName)]
pub(in crate::store) struct IdRow {
    #[diesel(sql_type = BigInt)]
    pub(in crate::store) id: i64,
}

impl IdRow {
    /// The id of the only row.
    pub(in crate::store) fn only(rows: &[Self]) -> QueryResult<i64> {
        rows.first().map(|row| row.id).ok_or(Error::NotFound)
    }
}

/// A number, as `n`.
#[derive(QueryableByName)]
pub(super) struct CountRow {
    #[diesel(sql_type = BigInt)]
    pub(super) n: i64,
}

/// The key of a message.
#[derive(QueryableByName)]
pub(super) struct KeyRow {
    #[diesel(sql_type = Text)]
    pub(super) uuid: String,
}

impl KeyedRow for KeyRow {
    fn key(&self) -> &str {
        &self.uuid
    }
}

/// The key of a message and the status that our update gave it.
#[derive(QueryableByName)]
pub(super) struct KeyStatusRow {
    #[diesel(sql_type = Text)]
    pub(super) uuid: String,
    #[diesel(sql_type = Text)]
    pub(super) status: String,
}

impl KeyedRow for KeyStatusRow {
    fn key(&self) -> &str {
        &self.uuid
    }
}
