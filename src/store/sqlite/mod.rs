//! SQLite: one file on this machine.
//!
//! SQLite has one writer at a time. Its connections in one process take turns to write, first come, first served:
//! SQLite itself would have them poll, and the ledger would starve the others. Processes poll, but more often than
//! SQLite's busy timeout does.

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
