//! What can be asked on a connection to the database, by the role of who asks. A user names the role that it has,
//! and no other.

use std::collections::BTreeSet;
use std::time::Duration;

use chrono::{DateTime, Utc};

use super::{
    Advance, Agenda, Batch, BatchResult, Candidate, EditResult, Heartbeat, LateRowResult, NewRow,
    PruneRange, Pruned, ReadySchedules, RecomputeScope, RecordedMessages, Requeue, Requeued,
    ScheduleRow, ScheduleSpec, StoreError, UndecodableRow, WhichSchedules, WorkerId, WorkerProcess,
};
use crate::message::Message;

/// A connection to the database, for one thread, in all its roles.
pub trait Session:
    ScheduleStore
    + OccurrenceStore
    + RecoveryStore
    + RunStore
    + RequeueStore
    + RetentionStore
    + EmbeddedQueueStore
{
    /// Whether the tables are as this program needs them.
    ///
    /// # Errors
    /// When the database is away.
    fn is_migrated(&mut self) -> Result<bool, StoreError>;
}

/// What tests ask beside that, and nobody else.
pub trait TestSession: Session {
    /// Makes all PENDING messages due: a test waits for nothing.
    ///
    /// # Errors
    /// When the database is away.
    fn make_due(&mut self) -> Result<(), StoreError>;

    /// [`RecoveryStore::take_due_except`] for all queues.
    ///
    /// # Errors
    /// When the database is away.
    fn take_due(
        &mut self,
        limit: usize,
    ) -> Result<Vec<Result<Message, UndecodableRow>>, StoreError> {
        let (due, undecodable) = self.take_due_except(limit, &BTreeSet::new())?;
        let due = due.into_messages().into_iter().map(Ok);
        Ok(due.chain(undecodable.into_iter().map(Err)).collect())
    }
}

/// What the database says of itself.
pub trait FactStore: Send {
    /// The database's version, in its own words.
    ///
    /// # Errors
    /// When the database is away.
    fn version(&mut self) -> Result<String, StoreError>;

    /// Its time.
    ///
    /// # Errors
    /// When the database is away.
    fn now(&mut self) -> Result<DateTime<Utc>, StoreError>;
}

/// The schedules, for those who make and change them.
pub trait ScheduleStore: FactStore {
    /// How many schedules are active.
    ///
    /// # Errors
    /// When the database is away.
    fn active_schedules(&mut self) -> Result<i64, StoreError>;

    /// ScheduleStore as they stand.
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
    ) -> Result<EditResult, StoreError>;

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
}

/// The occurrences of schedules, for the scheduler.
pub trait OccurrenceStore: Send {
    /// What there is to do for schedules, but for those that are held back.
    ///
    /// # Errors
    /// When the database is away.
    fn agenda(&mut self, held: &[i64]) -> Result<Agenda, StoreError>;

    /// Has the next occurrences of active schedules reckoned anew. Returns of how many.
    ///
    /// # Errors
    /// When the database is away.
    fn recompute(&mut self, which: RecomputeScope) -> Result<usize, StoreError>;

    /// Asks what becomes of up to `limit` schedules that are ready, that nobody else advances just now
    /// and that are not held back, and writes that and their messages, all or none, but for messages of
    /// occurrences that have one. Returns how many there were, and the messages.
    ///
    /// # Errors
    /// When the database is away or refuses a value.
    fn advance_schedules(
        &mut self,
        ready: ReadySchedules,
        limit: usize,
        held: &[i64],
        decide: &mut dyn FnMut(&Candidate) -> Advance,
    ) -> Result<(usize, RecordedMessages<'static>), StoreError>;
}

/// Messages on their way to the broker, for those who publish.
pub trait OutboxStore: FactStore {
    /// Inserts PENDING messages, all or none; unless their rows say when they are due, their
    /// publishing is the caller's for [`PUBLISH_LEASE`](super::PUBLISH_LEASE).
    ///
    /// # Errors
    /// When the database is away or refuses a row.
    fn record(&mut self, rows: &[NewRow]) -> Result<(), StoreError>;

    /// `PENDING → PUBLISHED` for what the broker has confirmed.
    ///
    /// # Errors
    /// When the database is away.
    fn mark_published(&mut self, keys: &[String]) -> Result<(), StoreError>;

    /// Has PENDING messages be the caller's to publish for so long from now; for no time, they are due. Those whose
    /// run was put off meanwhile stay as they are.
    ///
    /// # Errors
    /// When the database is away.
    fn renew_leases(&mut self, keys: &[String], lease: Duration) -> Result<(), StoreError>;

    /// Notes of PENDING messages why the broker refuses them, and since when. Those that it has refused for a day are
    /// FAILED; returns their keys.
    ///
    /// # Errors
    /// When the database is away.
    fn note_refused(&mut self, refused: &[(String, String)]) -> Result<Vec<String>, StoreError>;

    /// Ends PENDING messages that can't be published, with the reason.
    ///
    /// # Errors
    /// When the database is away.
    fn fail_pending(&mut self, failures: &[(String, String)]) -> Result<(), StoreError>;
}

/// What others have left to be published, for the sweep.
pub trait RecoveryStore: OutboxStore {
    /// Whether somebody has recorded messages that are due since this was last asked; the first time it
    /// is not known. `None` where the database does not tell.
    ///
    /// # Errors
    /// When the database is away.
    fn was_notified(&mut self) -> Result<Option<bool>, StoreError>;

    /// Takes up to `limit` PENDING messages that are due, but for those of `queues`, on a lease of
    /// [`PUBLISH_LEASE`](super::PUBLISH_LEASE): what is not marked by then is due again. Those that can't be read
    /// are apart.
    ///
    /// # Errors
    /// When the database is away.
    fn take_due_except(
        &mut self,
        limit: usize,
        queues: &BTreeSet<String>,
    ) -> Result<(RecordedMessages<'static>, Vec<UndecodableRow>), StoreError>;

    /// Ends PENDING messages that can't be read.
    ///
    /// # Errors
    /// When the database is away.
    fn fail_undecodable(&mut self, rows: &[UndecodableRow]) -> Result<(), StoreError>;

    /// Makes up to `limit` messages of dead workers PENDING and due. Returns how many.
    ///
    /// # Errors
    /// When the database is away.
    fn recover(&mut self, limit: usize) -> Result<usize, StoreError>;

    /// Looks for the rows of messages that were CANCELLED because they had none, and has those published whose
    /// rows have come.
    ///
    /// # Errors
    /// When the database is away.
    fn publish_late_rows(
        &mut self,
        keys: &[String],
    ) -> Result<Vec<(String, LateRowResult)>, StoreError>;
}

/// Claims, runs and their ends, for the ledger.
pub trait RunStore: WorkerStore {
    /// Writes a batch for `owner`, all or none.
    ///
    /// # Errors
    /// [`StoreError::Refused`] when the database does not take a value in it.
    fn write(&mut self, owner: WorkerId, batch: &Batch) -> Result<BatchResult, StoreError>;
}

/// Messages that are over and run once more.
pub trait RequeueStore: OutboxStore {
    /// Makes new messages of old ones and deletes these.
    ///
    /// # Errors
    /// When the database is away.
    fn requeue(&mut self, which: &Requeue) -> Result<Vec<Requeued>, StoreError>;

    /// The highest id of a message that FAILED, if one has.
    ///
    /// # Errors
    /// When the database is away.
    fn last_failed_id(&mut self) -> Result<Option<i64>, StoreError>;

    /// The same as [`RequeueStore::requeue`] of the first messages that FAILED with an id beyond `after`, up to `last`:
    /// as many as a database takes together. Also says after which id the next ones come, if there may be some.
    ///
    /// # Errors
    /// When the database is away, or refuses a row.
    fn requeue_failed(
        &mut self,
        after: i64,
        last: i64,
    ) -> Result<(Vec<Requeued>, Option<i64>), StoreError>;
}

/// What is over, for those who delete it.
pub trait RetentionStore: Send {
    /// Deletes what is over and too old in a stretch of the messages. What another transaction has
    /// locked is passed over.
    ///
    /// # Errors
    /// When the database is away.
    fn prune(&mut self, stretch: &PruneRange<'_>) -> Result<Pruned, StoreError>;
}

/// The queues of the embedded broker.
pub trait EmbeddedQueueStore: WorkerStore {
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
    /// are still to be claimed. What another transaction has locked is passed over. Those that can't be read are
    /// apart.
    ///
    /// # Errors
    /// When the database is away.
    fn take_waiting(
        &mut self,
        owner: WorkerId,
        queue: &str,
        limit: usize,
    ) -> Result<(Vec<Message>, Vec<UndecodableRow>), StoreError>;

    /// Ends messages that `owner` has taken and that can't be read.
    ///
    /// # Errors
    /// When the database is away.
    fn fail_waiting(&mut self, owner: WorkerId, rows: &[UndecodableRow]) -> Result<(), StoreError>;

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
}

/// The workers, and whether they live.
pub trait WorkerStore: Send {
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

    /// The last heartbeat of each worker.
    ///
    /// # Errors
    /// When the database is away.
    fn heartbeats(&mut self) -> Result<Vec<Heartbeat>, StoreError>;
}
