//! MySQL and MariaDB.
//!
//! They have no UPDATE … RETURNING: the rows that an update would change are first locked and read, and then
//! changed. Texts compare by their columns' collation, which takes `A` for `a`, so statements also compare keys
//! byte for byte.

mod caller_connection;
mod connecting;
mod engine;
mod indexes;
mod migrating;
mod properties;
mod server;
mod socket;
mod statement;

pub(super) use engine::MysqlEngine;
pub(super) use server::MysqlServer;

use super::sql::Connector;
use super::{MigrationReporter, StoreError, Tables};

impl Connector for MysqlServer {
    type Engine = MysqlEngine;
    const MIGRATES_ITSELF: bool = false;

    fn open(&self) -> Result<MysqlEngine, StoreError> {
        MysqlEngine::open(self)
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
