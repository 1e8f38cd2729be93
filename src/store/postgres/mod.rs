//! PostgreSQL.

mod caller_connection;
mod engine;
mod indexes;
mod migrating;
mod rights;
mod server;
mod statement;

pub(super) use engine::PostgresEngine;
pub(super) use server::PostgresServer;

use super::sql::Connector;
use super::{MigrationReporter, StoreError, Tables};

impl Connector for PostgresServer {
    type Engine = PostgresEngine;
    const MIGRATES_ITSELF: bool = false;

    fn open(&self) -> Result<PostgresEngine, StoreError> {
        PostgresEngine::open(self)
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
