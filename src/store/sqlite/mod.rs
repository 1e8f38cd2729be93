//! SQLite: one file on this machine.
//!
//! It has one writer at a time. The connections of this process take turns for that, first come,
//! first served, since SQLite itself only lets them try again and again, and the ledger would starve
//! the others. Between processes it is asked again and again, but sooner than its busy timeout would.

mod caller_connection;
mod engine;
mod file;
mod indexes;
mod migrating;
#[cfg(test)]
mod plan;
mod statement;

pub(super) use engine::SqliteEngine;
pub(super) use file::SqliteFile;

use super::sql::Connector;
use super::{MigrationReporter, StoreError, Tables};

impl Connector for SqliteFile {
    type Engine = SqliteEngine;
    const MIGRATES_ITSELF: bool = true;

    fn open(&self) -> Result<SqliteEngine, StoreError> {
        SqliteEngine::open(self)
    }

    fn migrate(
        &self,
        tables: Tables,
        reporter: &mut MigrationReporter<'_>,
    ) -> Result<(), StoreError> {
        migrating::migrate(self, tables, reporter)
    }

    fn describe(&self) -> String {
        Self::describe(self)
    }
}
