//! The seam to the database: everything that the rest of the crate may ask of it. Only this room names diesel.
//!
//! A [`Store`] opens [`Session`]s. A session is a connection that belongs to one thread, which uses it through its
//! roles ([`OutboxStore`], [`RunStore`], [`RecoveryStore`] and so on). All times are the database's clock. Every
//! change is guarded inside its statement, so that any number of services can share one database.

mod batch;
mod database;
mod error;
mod history;
pub(crate) mod liveness;
#[cfg(feature = "mysql")]
mod mysql;
mod opening;
mod planned_for;
mod postgres;
mod progress;
mod recorded;
mod refusal;
mod report_lines;
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
pub use opening::{connect_for_tests, open, open_for, session};
pub use progress::{MigrationProgress, MigrationReporter};
pub use recorded::RecordedMessages;
pub use refusal::ScheduleRefusal;
pub use row::{Finish, NewRow, UndecodableRow};
pub use schedule::{
    Advance, Agenda, Candidate, EditResult, ReadySchedules, RecomputeReason, ScheduleRow,
    ScheduleSpec, UnfinishedMessage, WhichSchedules,
};

pub(crate) use session::record_messages;
pub use session::{
    EmbeddedQueueStore, FactStore, OccurrenceStore, OutboxStore, RecoveryStore, RequeueStore,
    RetentionStore, RunStore, ScheduleStore, Session, TestSession, WorkerStore,
};

use std::time::Duration;

use crate::config::Config;
use crate::message::Message;

/// After this long without a heartbeat, a worker counts as silent. A service that has watched it be silent for so
/// long, while the database was there to take heartbeats, removes its row. A worker without a row is dead: one
/// place decides that, and no statement on the hot path compares times.
pub const DEAD_AFTER: Duration = Duration::from_secs(20);

/// Whoever records a message has this long to publish it; after that, the sweep does.
pub const PUBLISH_LEASE: Duration = Duration::from_secs(5);

/// The longest delay of a message: a hundred years of 365.25 days. The databases' calendars end in the year 9999.
pub const MOST_DELAY: Duration = Duration::from_hours(36_525 * 24);

/// About how many bytes of senders' and tasks' data one statement writes or reads, unless a single row has more.
/// Servers limit the length of a statement (MariaDB's `max_allowed_packet` is 16 MiB), which the escaped text has
/// to fit, and everything that is read is in memory at once.
pub const BATCH_BYTES: usize = 4 << 20;

/// A message that was given back to a queue which may drop it has this long to be delivered again; after that, the
/// sweep publishes it.
pub const REDELIVERY_GRACE: Duration = Duration::from_secs(30);

/// The id of a row of `carrot_worker`. It is never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct WorkerId(pub i64);

/// The process of a worker, as its row describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkerProcess {
    /// The host's name, for people.
    pub host: String,
    /// The boot of the machine and the process namespace in which `pid` is valid.
    pub namespace: String,
    /// The process id.
    pub pid: i32,
    /// When the process began, in clock ticks since boot.
    pub process_start: i64,
}

/// A worker's last heartbeat.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heartbeat {
    /// The worker.
    pub worker: WorkerId,
    /// Its time by the database's clock, only to tell one heartbeat from another.
    pub time: String,
    /// Whether that time is [`DEAD_AFTER`] or more ago, by the same clock.
    pub is_old: bool,
}

/// Which messages to requeue.
#[derive(Debug, Clone)]
pub enum Requeue {
    /// Those with these keys, also if they are PUBLISHED, since the broker may have lost them.
    Keys(Vec<String>),
}

/// What a requeue did with one message.
#[derive(Debug)]
pub enum Requeued {
    /// A new PENDING message has replaced it.
    Replaced {
        /// The old key.
        old: String,
        /// Whether the old message was PUBLISHED, so that the broker may still have it.
        was_published: bool,
        /// The new message.
        new: Box<Message>,
    },
    /// It is not in a final state.
    NotFinal {
        /// Its key.
        key: String,
        /// Its state.
        status: String,
    },
    /// Its arguments cannot be read.
    Undecodable(UndecodableRow),
    /// There is no such message.
    Unknown(String),
}

/// What was found for a message that was CANCELLED because it had no row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LateRowResult {
    /// Its row has not arrived.
    StillMissing,
    /// Its row has arrived and is now PENDING and due; the CANCELLED row is deleted.
    Republished,
    /// Nothing is left to do: it was requeued, or its row has arrived and it has run.
    Settled,
}

/// A database that holds messages.
pub trait Store: Send + Sync {
    /// Opens a connection.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] when the database is away or refuses the connection.
    fn connect(&self) -> Result<Box<dyn Session>, StoreError>;

    /// Creates the missing tables, columns and indexes, under a lock. It waits for other transactions as long as
    /// necessary, and reports that it does.
    ///
    /// # Errors
    /// When the database is away or refuses a step.
    fn migrate_reporting(&self, tell: &mut MigrationReporter<'_>) -> Result<(), StoreError>;

    /// The same, with its notes in the log. Returns the names of the steps that were run and of the indexes that
    /// were built.
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

    /// Whether a service may migrate it unasked, because it is a file that nobody else administers.
    fn migrates_itself(&self) -> bool;

    /// Where it is, without secrets.
    fn describe(&self) -> String;
}

/// Which tables and indexes a program needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tables {
    /// Those that every program needs, with RabbitMQ as the broker.
    Plain,
    /// Also those that the embedded broker reads.
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

/// A store that can also open sessions for tests.
trait TestStore: Store {
    /// Opens a connection.
    fn connect_for_tests(&self) -> Result<Box<dyn TestSession>, StoreError>;
}
