//! The seam to the database: what the rest of the crate may ask of it. Only this room names diesel.
//!
//! A [`Store`] makes [`Session`]s, each a connection of one thread. All times are the database's
//! clock. Everything is guarded inside its statement, so that any number of services on one database
//! keep out of each other's way.

mod batch;
mod error;
mod history;
#[cfg(feature = "mysql")]
mod mysql;
mod postgres;
mod row;
mod schedule;
mod sql;
mod sqlite;
pub mod transaction;
mod turns;

pub use batch::{Batch, BatchResult, Begin, Claim, ClaimRequest, Finished};
pub use error::StoreError;
pub use history::{Pruned, Stretch};
pub use row::{Finish, NewRow, UndecodableRow};
pub use schedule::{
    Advance, Agenda, Anew, Candidate, Edited, Ready, ScheduleRow, ScheduleSpec, Unfinished,
    WhichSchedules,
};

use sql::SqlStore;

use std::time::Duration;

use chrono::{DateTime, Utc};

use crate::config::{Config, DatabaseKind, DatabaseUrl};
use crate::message::Message;
use crate::state::{End, Status};

/// After this long without a heartbeat, a worker counts as silent, and who can vouch that the database
/// was there to take its heartbeats removes it. A worker is dead when it has no row: one place decides,
/// and no statement of the hot path compares times.
pub const DEAD_AFTER: Duration = Duration::from_secs(20);

/// For this long a recorded message is its recorder's to publish; then it is the sweep's.
pub const PUBLISH_LEASE: Duration = Duration::from_secs(5);

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

/// Which messages to requeue.
#[derive(Debug, Clone)]
pub enum Requeue {
    /// Those with these keys: also what is PUBLISHED, since the broker may have lost it.
    Keys(Vec<String>),
    /// All that FAILED.
    Failed,
}

/// What became of a message that was to be requeued.
#[derive(Debug)]
pub enum Requeued {
    /// A new message stands in its place, PENDING.
    As {
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

/// A database that holds messages.
pub trait Store: Send + Sync {
    /// Opens a connection.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] when the database is away or refuses us.
    fn connect(&self) -> Result<Box<dyn Session>, StoreError>;

    /// Creates what is missing of the tables, under a lock. Returns the names of the steps that
    /// were run.
    ///
    /// # Errors
    /// When the database is away or refuses a step.
    fn migrate(&self) -> Result<Vec<String>, StoreError>;

    /// Whether a service may migrate it by itself: it is a file that nobody else administers.
    fn migrates_itself(&self) -> bool;

    /// Where it is, without secrets.
    fn describe(&self) -> String;
}

/// A connection to the database, for one thread.
pub trait Session: Send {
    /// The database's version, in its own words.
    ///
    /// # Errors
    /// When the database is away.
    fn version(&mut self) -> Result<String, StoreError>;

    /// Whether the tables are as this program needs them.
    ///
    /// # Errors
    /// When the database is away.
    fn is_migrated(&mut self) -> Result<bool, StoreError>;

    /// How many schedules are active.
    ///
    /// # Errors
    /// When the database is away.
    fn active_schedules(&mut self) -> Result<i64, StoreError>;

    /// Its time.
    ///
    /// # Errors
    /// When the database is away.
    fn now(&mut self) -> Result<DateTime<Utc>, StoreError>;

    /// Schedules as they stand.
    ///
    /// # Errors
    /// When the database is away.
    fn schedules(&mut self, which: &WhichSchedules<'_>) -> Result<Vec<ScheduleRow>, StoreError>;

    /// Adds a schedule; its id, or `None` where there is one of that name.
    ///
    /// # Errors
    /// When the database is away or refuses a value.
    fn add_schedule(&mut self, spec: &ScheduleSpec) -> Result<Option<i64>, StoreError>;

    /// Makes a schedule `to`, if it still is what it `was`. A refusal that is noted is forgotten.
    ///
    /// # Errors
    /// When the database is away or refuses a value.
    fn edit_schedule(
        &mut self,
        id: i64,
        was: &ScheduleSpec,
        to: &ScheduleSpec,
    ) -> Result<Edited, StoreError>;

    /// Has a schedule run, or not. Returns whether there is one.
    ///
    /// # Errors
    /// When the database is away.
    fn activate_schedule(&mut self, id: i64, active: bool) -> Result<bool, StoreError>;

    /// Removes a schedule; its messages stay. Returns whether there was one.
    ///
    /// # Errors
    /// When the database is away.
    fn remove_schedule(&mut self, id: i64) -> Result<bool, StoreError>;

    /// What there is to do for schedules, but for those that are held back.
    ///
    /// # Errors
    /// When the database is away.
    fn agenda(&mut self, held: &[i64]) -> Result<Agenda, StoreError>;

    /// Has the next occurrences of active schedules reckoned anew. Returns of how many.
    ///
    /// # Errors
    /// When the database is away.
    fn reckon_anew(&mut self, which: Anew) -> Result<usize, StoreError>;

    /// Asks what becomes of up to `limit` schedules that are ready, that nobody else advances just now
    /// and that are not held back, and writes that and their messages, all or none, but for messages of occurrences that have one. Their
    /// publishing is the caller's for [`PUBLISH_LEASE`]. Returns how many there were, and the messages.
    ///
    /// # Errors
    /// When the database is away or refuses a value.
    fn advance_schedules(
        &mut self,
        ready: Ready,
        limit: usize,
        held: &[i64],
        decide: &mut dyn FnMut(&Candidate) -> Advance,
    ) -> Result<(usize, Vec<Message>), StoreError>;

    /// Inserts PENDING messages, all or none; unless their rows say when they are due, their
    /// publishing is the caller's for [`PUBLISH_LEASE`].
    ///
    /// # Errors
    /// When the database is away or refuses a row.
    fn record(&mut self, rows: &[NewRow]) -> Result<(), StoreError>;

    /// `PENDING → PUBLISHED` for what the broker has confirmed.
    ///
    /// # Errors
    /// When the database is away.
    fn mark_published(&mut self, keys: &[String]) -> Result<(), StoreError>;

    /// Ends PENDING messages that can't be published, with the reason.
    ///
    /// # Errors
    /// When the database is away.
    fn fail_pending(&mut self, failures: &[(String, String)]) -> Result<(), StoreError>;

    /// Whether somebody has recorded messages that are due since this was last asked; the first time it
    /// is not known. `None` where the database does not tell.
    ///
    /// # Errors
    /// When the database is away.
    fn is_told(&mut self) -> Result<Option<bool>, StoreError>;

    /// Takes up to `limit` PENDING messages that are due, on a lease of [`PUBLISH_LEASE`]: what is
    /// not marked by then is due again.
    ///
    /// # Errors
    /// When the database is away.
    fn take_due(
        &mut self,
        limit: usize,
    ) -> Result<Vec<Result<Message, UndecodableRow>>, StoreError>;

    /// Makes all PENDING messages due, for tests that wait for nothing.
    ///
    /// # Errors
    /// When the database is away.
    fn make_due(&mut self) -> Result<(), StoreError>;

    /// Makes up to `limit` messages of dead workers PENDING and due. Returns how many.
    ///
    /// # Errors
    /// When the database is away.
    fn recover(&mut self, limit: usize) -> Result<usize, StoreError>;

    /// Writes a batch for `owner`, all or none.
    ///
    /// # Errors
    /// [`StoreError::Refused`] when the database does not take a value in it.
    fn write(&mut self, owner: WorkerId, batch: &Batch) -> Result<BatchResult, StoreError>;

    /// Makes new messages of old ones and deletes these.
    ///
    /// # Errors
    /// When the database is away.
    fn requeue(&mut self, which: &Requeue) -> Result<Vec<Requeued>, StoreError>;

    /// Deletes what is over and too old in a stretch of the messages. What another transaction has
    /// locked is passed over.
    ///
    /// # Errors
    /// When the database is away.
    fn prune(&mut self, stretch: &Stretch<'_>) -> Result<Pruned, StoreError>;

    /// Whether any message waits in a queue of the embedded broker: PUBLISHED, with that routing key,
    /// and not taken by a live worker.
    ///
    /// # Errors
    /// When the database is away.
    fn is_any_waiting(&mut self, queue: &str) -> Result<bool, StoreError>;

    /// How many do.
    ///
    /// # Errors
    /// When the database is away.
    fn count_waiting(&mut self, queue: &str) -> Result<i64, StoreError>;

    /// Takes up to `limit` of them for `owner`, the highest priority and then the oldest first; they
    /// are still to be claimed. What another transaction has locked is passed over.
    ///
    /// # Errors
    /// When the database is away.
    fn take_waiting(
        &mut self,
        owner: WorkerId,
        queue: &str,
        limit: usize,
    ) -> Result<Vec<Result<Message, UndecodableRow>>, StoreError>;

    /// Has messages wait again that `owner` had taken and nobody has claimed.
    ///
    /// # Errors
    /// When the database is away.
    fn put_back(&mut self, owner: WorkerId, keys: &[String]) -> Result<(), StoreError>;

    /// The same for all of a queue.
    ///
    /// # Errors
    /// When the database is away.
    fn put_back_all(&mut self, owner: WorkerId, queue: &str) -> Result<(), StoreError>;

    /// Registers a worker.
    ///
    /// # Errors
    /// When the database is away.
    fn register(&mut self, process: &WorkerProcess) -> Result<WorkerId, StoreError>;

    /// Says that the worker lives, and registers it again should its row be gone.
    ///
    /// # Errors
    /// When the database is away.
    fn heartbeat(&mut self, id: WorkerId, process: &WorkerProcess) -> Result<(), StoreError>;

    /// The workers that say they run in `namespace`.
    ///
    /// # Errors
    /// When the database is away.
    fn workers_in(&mut self, namespace: &str)
    -> Result<Vec<(WorkerId, WorkerProcess)>, StoreError>;

    /// Removes workers that have ended; what they had claimed is the sweep's from now on.
    ///
    /// # Errors
    /// When the database is away.
    fn deregister(&mut self, ids: &[WorkerId]) -> Result<(), StoreError>;

    /// The workers whose last heartbeat is older than [`DEAD_AFTER`].
    ///
    /// # Errors
    /// When the database is away.
    fn silent_workers(&mut self) -> Result<Vec<WorkerId>, StoreError>;
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

/// The store that `url` names.
///
/// # Errors
/// [`StoreError::Unsupported`] for a database that is not built in; it says what to do.
pub fn open(url: &DatabaseUrl, tables: Tables) -> Result<Box<dyn Store>, StoreError> {
    match url.kind() {
        DatabaseKind::Postgresql => Ok(Box::new(SqlStore(postgres::Server::new(url)?, tables))),
        DatabaseKind::Sqlite => Ok(Box::new(SqlStore(sqlite::File::new(url), tables))),
        #[cfg(feature = "mysql")]
        DatabaseKind::Mysql => Ok(Box::new(SqlStore(mysql::Server::new(url), tables))),
        #[cfg(not(feature = "mysql"))]
        DatabaseKind::Mysql => Err(StoreError::Unsupported(
            "database_url names MySQL, which this build is without: build with `--features mysql` \
             (it needs libmariadb-dev)"
                .to_owned(),
        )),
    }
}

/// The states that a requeue takes a message from, beside an IN_PROGRESS that no service owns.
pub(crate) const REQUEUABLE: [Status; 4] = [
    End::Completed.status(),
    End::Failed.status(),
    End::Cancelled.status(),
    End::Expired.status(),
];
