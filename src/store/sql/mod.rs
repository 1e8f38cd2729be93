//! The statements that all databases share; each [`Engine`] supplies its dialect.

mod bounds;
mod candidates;
mod current_states;
mod embedded_queue;
mod engine;
mod guards;
mod index_check;
mod indexes;
mod late_rows;
mod leases;
mod ledger;
mod lock_wait;
mod loose;
mod message_row;
mod migration;
mod occurrences;
mod overlap;
mod prune;
mod publishing;
mod put_off;
mod republish;
mod requeue;
mod rows;
mod schedule_row;
mod schedules;
mod session;
mod statement;
mod sweep;
mod times;
mod transition;
mod values;
mod workers;

#[cfg(any(feature = "mysql", test))]
pub(super) use engine::ALWAYS_TRUE;
pub(super) use engine::{Connector, Engine, MessageUpdate, assignments, in_transaction};
pub(super) use index_check::index_faults;
pub(super) use indexes::{Index, IndexFault};
pub(super) use lock_wait::{LockWait, run_watched};
pub(super) use migration::{MigrationSteps, forget_lost_steps};
pub(super) use publishing::{InsertPurpose, InsertTarget, insert};
pub(super) use rows::{IdRow, KeyedRow, LoadableRow};
pub(super) use schedules::load_now;
pub(super) use statement::Statement;
pub(super) use values::{ValueColumn, ValueTable};

use diesel::migration::MigrationSource;
use diesel_migrations::EmbeddedMigrations;

use self::session::SqlSession;
use super::session::{Session, TestSession};
use super::{MigrationReporter, Store, StoreError, Tables, TestStore};

/// A database, and which tables and indexes it needs.
pub(super) struct SqlStore<L>(pub(super) L, pub(super) Tables);

impl<L: Connector> Store for SqlStore<L>
where
    EmbeddedMigrations: MigrationSource<<L::Engine as Engine>::Backend>,
{
    fn connect(&self) -> Result<Box<dyn Session>, StoreError> {
        Ok(Box::new(SqlSession(self.0.open()?, self.1)))
    }

    fn migrate_reporting(&self, reporter: &mut MigrationReporter<'_>) -> Result<(), StoreError> {
        // A user without the right to change tables may run this where nothing is missing.
        if self.connect()?.is_migrated()? {
            return Ok(());
        }
        self.0.migrate(self.1, reporter)
    }

    fn migrates_itself(&self) -> bool {
        L::MIGRATES_ITSELF
    }

    fn describe(&self) -> String {
        self.0.describe()
    }
}

impl<L: Connector> TestStore for SqlStore<L>
where
    EmbeddedMigrations: MigrationSource<<L::Engine as Engine>::Backend>,
{
    fn connect_for_tests(&self) -> Result<Box<dyn TestSession>, StoreError> {
        Ok(Box::new(SqlSession(self.0.open()?, self.1)))
    }
}
