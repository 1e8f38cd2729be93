//! The seam to the database: what the rest of the crate may ask of it. Only this room names diesel.
//!
//! A [`Store`] makes [`Session`]s, each a connection of one thread, which is used by its roles ([`OutboxStore`],
//! [`RunStore`], [`RecoveryStore`] and so on). All times are the database's
//! clock. Everything is guarded inside its statement, so that any number of services on one database
//! keep out of each other's way.

mod batch;
mod database;
mod error;
mod history;
pub(crate) mod liveness;
#[cfg(feature = "mysql")]
mod mysql;
mod planned_for;
mod postgres;
mod progress;
mod recorded;
mod refusal;
mod row;
mod schedule;
mod session;
mod sql;
mod sqlite;
pub mod transaction;
mod turns;

pub use batch::{
    Batch, BatchResult, Begin, BrokerCopy, Claim, ClaimRequest, FinishResult, PutOff, PutOffDue,
    PutOffResult, Republish,
};
pub(crate) use database::{Database, retry_conflicts};
pub use error::StoreError;
pub use history::{PruneRange, Pruned};
pub use progress::{MigrationProgress, MigrationReporter};
pub use recorded::RecordedMessages;
pub use refusal::ScheduleRefusal;
pub use row::{Finish, NewRow, UndecodableRow};
pub use schedule::{
    Advance, Agenda, Candidate, EditResult, ReadySchedules, RecomputeScope, ScheduleRow,
    ScheduleSpec, UnfinishedMessage, WhichSchedules,
};

pub use session::{
    EmbeddedQueueStore, FactStore, OccurrenceStore, OutboxStore, RecoveryStore, RequeueStore,
    RetentionStore, RunStore, ScheduleStore, Session, TestSession, WorkerStore,
};

use sql::SqlStore;

use std::time::Duration;

use crate::config::{Config, DatabaseKind, DatabaseUrl};
use crate::message::Message;

/// After this long without a heartbeat, a worker counts as silent, and who has seen that it was, and can
/// vouch that the database was there to take its heartbeats, removes it. A worker is dead when it has no row: one place decides,
/// and no statement of the hot path compares times.
pub const DEAD_AFTER: Duration = Duration::from_secs(20);

/// For this long a recorded message is its recorder's to publish; then it is the sweep's.
pub const PUBLISH_LEASE: Duration = Duration::from_secs(5);

/// The longest delay of a message: a hundred years of 365.25 days. The databases' calendars end in the year 9999.
pub const MOST_DELAY: Duration = Duration::from_hours(36_525 * 24);

/// About so many bytes of what senders and tasks wrote go to the database at once, or come from it, unless one
/// row alone has more. A server has a longest statement (MariaDB's `max_allowed_packet` is 16 MiB), which the
/// escaped text has to fit, and what is read is in memory at once.
pub const BATCH_BYTES: usize = 4 << 20;

/// For this long a message that was given back to a queue that may drop it is left to be delivered again;
/// then the sweep publishes it.
pub const REDELIVERY_GRACE: Duration = Duration::from_secs(30);

/// A row of `carrot_worker`. Never used again after its worker's end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct WorkerId(pub i64);

/// What a worker says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkerProcess {
    /// The host's name, for people.
    pub host: String,
    /// Where the pid means something.
    pub namespace: String,
    /// The process.
    pub pid: i32,
    /// When it began, in clock ticks since boot.
    pub process_start: i64,
}

/// A worker's last heartbeat.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heartbeat {
    /// Whose.
    pub worker: WorkerId,
    /// The database's time of it, to be told from another.
    pub time: String,
    /// Whether that is [`DEAD_AFTER`] or more ago, by the same clock.
    pub is_old: bool,
}

/// Which messages to requeue.
#[derive(Debug, Clone)]
pub enum Requeue {
    /// Those with these keys: also what is PUBLISHED, since the broker may have lost it.
    Keys(Vec<String>),
}

/// What became of a message that was to be requeued.
#[derive(Debug)]
pub enum Requeued {
    /// A new message stands in its place, PENDING.
    Replaced {
        /// The old key.
        old: String,
        /// Whether the broker was to have the old one still.
        was_published: bool,
        /// The new message.
        new: Box<Message>,
    },
    /// It is not over yet.
    NotFinal {
        /// Its key.
        key: String,
        /// Where it stands.
        status: String,
    },
    /// Its arguments cannot be read.
    Undecodable(UndecodableRow),
    /// There is no such message.
    Unknown(String),
}

/// What has become of a message that was CANCELLED because it had no row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LateRowResult {
    /// Its row has not come.
    StillMissing,
    /// Its row has come. It is PENDING and due, and the row that said that there was none is gone.
    Republished,
    /// There is nothing to do: it was requeued, or its row has come and somebody has run it.
    Settled,
}

/// A database that holds messages.
pub trait Store: Send + Sync {
    /// Opens a connection.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] when the database is away or refuses us.
    fn connect(&self) -> Result<Box<dyn Session>, StoreError>;

    /// Creates what is missing of the tables and their indexes, under a lock. It waits for others as long as
    /// it takes, and says so.
    ///
    /// # Errors
    /// When the database is away or refuses a step.
    fn migrate_reporting(&self, tell: &mut MigrationReporter<'_>) -> Result<(), StoreError>;

    /// The same, with the log told of what takes long. Returns the names of the steps that were run and of the
    /// indexes that were built.
    ///
    /// # Errors
    /// When the database is away or refuses a step.
    fn migrate(&self) -> Result<Vec<String>, StoreError> {
        let mut done = Vec::new();
        self.migrate_reporting(&mut |progress| match progress {
            MigrationProgress::Step(name) | MigrationProgress::Index(name) => {
                done.push(name.to_owned())
            }
            MigrationProgress::Note(note) => log::info!("migrating {}: {note}", self.describe()),
        })?;
        Ok(done)
    }

    /// Whether a service may migrate it by itself: it is a file that nobody else administers.
    fn migrates_itself(&self) -> bool;

    /// Where it is, without secrets.
    fn describe(&self) -> String;
}

/// What a program needs of the tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tables {
    /// What all need: messages wait in RabbitMQ.
    Plain,
    /// Also what the embedded broker reads.
    WithQueues,
}

impl Tables {
    fn of(config: &Config) -> Self {
        if config.has_embedded_queues() {
            Self::WithQueues
        } else {
            Self::Plain
        }
    }
}

/// The store that a configuration names, with the tables that it needs.
///
/// # Errors
/// [`StoreError::Unsupported`] for a database that is not built in; it says what to do.
pub fn open_for(config: &Config) -> Result<Box<dyn Store>, StoreError> {
    open(&config.database_url, Tables::of(config))
}

/// A connection to a database whose tables are as this program needs them; where nobody else
/// administers it, they are made so.
///
/// # Errors
/// When it is away, or not migrated; the error names the command.
pub fn session(store: &dyn Store) -> Result<Box<dyn Session>, StoreError> {
    let mut session = store.connect()?;
    if session.is_migrated()? {
        return Ok(session);
    }
    if !store.migrates_itself() {
        return Err(StoreError::NotMigrated(store.describe()));
    }
    let steps = store.migrate()?;
    if !steps.is_empty() {
        let steps = steps.join(", ");
        log::info!("made the tables of {}: {steps}", store.describe());
    }
    Ok(session)
}

/// A session of a test's on the database that a configuration names.
///
/// # Errors
/// When it is away, or not built in.
pub fn connect_for_tests(config: &Config) -> Result<Box<dyn TestSession>, StoreError> {
    named(&config.database_url, Tables::of(config))?.connect_for_tests()
}

/// The store that `url` names.
///
/// # Errors
/// [`StoreError::Unsupported`] for a database that is not built in; it says what to do.
pub fn open(url: &DatabaseUrl, tables: Tables) -> Result<Box<dyn Store>, StoreError> {
    let store = named(url, tables)?;
    Ok(store)
}

/// A store as tests see it.
trait TestStore: Store {
    /// Opens a connection.
    fn connect_for_tests(&self) -> Result<Box<dyn TestSession>, StoreError>;
}

fn named(url: &DatabaseUrl, tables: Tables) -> Result<Box<dyn TestStore>, StoreError> {
    match url.kind() {
        DatabaseKind::Postgresql => Ok(Box::new(SqlStore(
            postgres::PostgresServer::new(url)?,
            tables,
        ))),
        DatabaseKind::Sqlite => Ok(Box::new(SqlStore(sqlite::SqliteFile::new(url), tables))),
        #[cfg(feature = "mysql")]
        DatabaseKind::Mysql => Ok(Box::new(SqlStore(mysql::MysqlServer::new(url), tables))),
        #[cfg(not(feature = "mysql"))]
        DatabaseKind::Mysql => Err(StoreError::Unsupported(
            "database_url names MySQL, which this build is without: build with `--features mysql` \
             (it needs libmariadb-dev)"
                .to_owned(),
        )),
    }
}
