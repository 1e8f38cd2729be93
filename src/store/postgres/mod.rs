//! PostgreSQL.

mod connection;
mod guards;
mod ledger;
mod publishing;
mod requeue;
mod statement;
mod workers;

use diesel::connection::SimpleConnection;
use diesel::migration::{Migration, MigrationSource};
use diesel::pg::{Pg, PgConnection};
use diesel::prelude::*;
use diesel::sql_types::Text;
use diesel_migrations::{EmbeddedMigrations, MigrationHarness, embed_migrations};

use self::connection::Link;
use super::{
    Batch, BatchResult, NewRow, Requeue, Requeued, Session, Store, StoreError, UndecodableRow,
    WorkerId, WorkerProcess,
};
use crate::config::DatabaseUrl;
use crate::message::Message;

const MIGRATIONS: EmbeddedMigrations = embed_migrations!("migrations/postgresql");

/// The advisory lock that migrations hold: "carrot" in ASCII.
const MIGRATION_LOCK: i64 = 0x6361_7272_6f74;

/// A PostgreSQL database.
pub(super) struct Postgres {
    link: Link,
}

impl Postgres {
    pub(super) fn new(url: &DatabaseUrl) -> Result<Self, StoreError> {
        Link::new(url).map(|link| Self { link })
    }
}

impl Store for Postgres {
    fn connect(&self) -> Result<Box<dyn Session>, StoreError> {
        let connection = self.link.open()?;
        Ok(Box::new(PgSession {
            connection,
            link: self.link.clone(),
        }))
    }

    fn migrate(&self) -> Result<Vec<String>, StoreError> {
        let mut connection = self.link.open()?;
        // The lock is the session's: it goes with the connection should we die half-way.
        connection
            .batch_execute(&format!("SELECT pg_advisory_lock({MIGRATION_LOCK})"))
            .map_err(|error| self.link.error(&mut connection, &error))?;
        let versions = connection
            .run_pending_migrations(MIGRATIONS)
            .map_err(|error| StoreError::Refused(self.link.scrub(&error.to_string())))?;
        Ok(versions.iter().map(ToString::to_string).collect())
    }

    fn describe(&self) -> String {
        self.link.describe()
    }
}

/// A connection to PostgreSQL.
struct PgSession {
    connection: PgConnection,
    link: Link,
}

impl PgSession {
    /// Runs `work` on the connection and sorts its error.
    fn run<T>(
        &mut self,
        work: impl FnOnce(&mut PgConnection) -> QueryResult<T>,
    ) -> Result<T, StoreError> {
        work(&mut self.connection).map_err(|error| self.link.error(&mut self.connection, &error))
    }

    /// Runs `work` in a transaction of its own.
    fn transaction<T>(
        &mut self,
        work: impl FnOnce(&mut PgConnection) -> QueryResult<T>,
    ) -> Result<T, StoreError> {
        self.run(|connection| connection.transaction(work))
    }
}

#[derive(QueryableByName)]
struct Version {
    #[diesel(sql_type = Text)]
    version: String,
}

impl Session for PgSession {
    fn version(&mut self) -> Result<String, StoreError> {
        let query = "SELECT current_setting('server_version') AS version";
        self.run(|connection| diesel::sql_query(query).get_result::<Version>(connection))
            .map(|row| format!("PostgreSQL {}", row.version))
    }

    fn is_migrated(&mut self) -> Result<bool, StoreError> {
        // By reading alone: a service need not have the right to create tables.
        let noted = "SELECT tablename::text AS version FROM pg_tables \
            WHERE tablename = '__diesel_schema_migrations' AND schemaname = current_schema()";
        let noted: Vec<Version> =
            self.run(|connection| diesel::sql_query(noted).load(connection))?;
        if noted.is_empty() {
            return Ok(false);
        }
        let run = "SELECT version::text AS version FROM __diesel_schema_migrations";
        let run: Vec<Version> = self.run(|connection| diesel::sql_query(run).load(connection))?;
        let ours: Vec<Box<dyn Migration<Pg>>> = MIGRATIONS
            .migrations()
            .map_err(|error| StoreError::Unsupported(error.to_string()))?;
        Ok(ours.iter().all(|migration| {
            let version = migration.name().version().to_string();
            run.iter().any(|row| row.version == version)
        }))
    }

    fn active_schedules(&mut self) -> Result<i64, StoreError> {
        use super::schema::carrot_scheduledtask::dsl::{active, carrot_scheduledtask};
        self.run(|connection| {
            carrot_scheduledtask
                .filter(active.eq(true))
                .count()
                .get_result(connection)
        })
    }

    fn record(&mut self, rows: &[NewRow]) -> Result<(), StoreError> {
        self.run(|connection| publishing::record(connection, rows))
    }

    fn mark_published(&mut self, keys: &[String]) -> Result<(), StoreError> {
        self.run(|connection| publishing::mark_published(connection, keys))
    }

    fn fail_pending(&mut self, failures: &[(String, String)]) -> Result<(), StoreError> {
        self.run(|connection| publishing::fail_pending(connection, failures))
    }

    fn take_due(
        &mut self,
        limit: usize,
    ) -> Result<Vec<Result<Message, UndecodableRow>>, StoreError> {
        self.run(|connection| publishing::take_due(connection, limit))
    }

    fn recover(&mut self, limit: usize) -> Result<usize, StoreError> {
        self.transaction(|connection| publishing::recover(connection, limit))
    }

    fn write(&mut self, owner: WorkerId, batch: &Batch) -> Result<BatchResult, StoreError> {
        self.transaction(|connection| ledger::write(connection, owner, batch))
    }

    fn requeue(&mut self, which: &Requeue) -> Result<Vec<Requeued>, StoreError> {
        self.transaction(|connection| requeue::requeue(connection, which))
    }

    fn register(&mut self, process: &WorkerProcess) -> Result<WorkerId, StoreError> {
        self.run(|connection| workers::register(connection, process))
    }

    fn heartbeat(&mut self, id: WorkerId, process: &WorkerProcess) -> Result<(), StoreError> {
        self.run(|connection| workers::heartbeat(connection, id, process))
    }

    fn workers_in(
        &mut self,
        namespace: &str,
    ) -> Result<Vec<(WorkerId, WorkerProcess)>, StoreError> {
        self.run(|connection| workers::workers_in(connection, namespace))
    }

    fn deregister(&mut self, ids: &[WorkerId]) -> Result<(), StoreError> {
        self.run(|connection| workers::deregister(connection, ids))
    }

    fn silent_workers(&mut self) -> Result<Vec<WorkerId>, StoreError> {
        self.run(workers::silent_workers)
    }
}
