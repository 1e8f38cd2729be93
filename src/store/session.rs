//! The operations on a connection to the database, one trait for each role. A caller names the trait of its own
//! role, and no other.

use std::collections::BTreeSet;
use std::time::Duration;

use chrono::{DateTime, Utc};

use super::{
    Advance, Agenda, Batch, BatchResult, Candidate, EditResult, Heartbeat, LateRowResult, NewRow,
    PruneRange, Pruned, ReadySchedules, RecomputeReason, RecordedMessages, Requeue, Requeued,
    ScheduleRow, ScheduleSpec, StoreError, UndecodableRow, WhichSchedules, WorkerId, WorkerProcess,
};
use crate::message::Message;

/// A connection to the database in all its roles, for one thread.
pub trait Session:
    ScheduleStore
    + OccurrenceStore
    + RecoveryStore
    + RunStore
    + RequeueStore
    + RetentionStore
    + EmbeddedQueueStore
{
    /// Whether the database has all the migrations and indexes that this program needs.
    ///
    /// # Errors
    /// When the database is away.
    fn is_migrated(&mut self) -> Result<bool, StoreError>;
}

/// Additional operations for tests.
pub trait TestSession: Session {
    /// Makes all PENDING messages due, so that a test need not wait.
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

/// Facts about the database itself.
pub trait FactStore: Send {
    /// The database's version, in its own words.
    ///
    /// # Errors
    /// When the database is away.
    fn version(&mut self) -> Result<String, StoreError>;

    /// The database's time.
    ///
    /// # Errors
    /// When the database is away.
    fn now(&mut self) -> Result<DateTime<Utc>, StoreError>;
}

/// Reading and changing schedules, for the command line and programs.
pub trait ScheduleStore: FactStore {
    /// How many schedules are active.
    ///
    /// # Errors
    /// When the database is away.
    fn active_schedules(&mut self) -> Result<i64, StoreError>;

    /// Reads schedules.
    ///
    /// # Errors
    /// When the database is away.
    fn schedules(&mut self, which: &WhichSchedules<'_>) -> Result<Vec<ScheduleRow>, StoreError>;

    /// Adds a schedule. Returns its id, or `None` if another has its name.
    ///
    /// # Errors
    /// When the database is away or refuses a value.
    fn add_schedule(&mut self, spec: &ScheduleSpec) -> Result<Option<i64>, StoreError>;

    /// Changes a schedule to `to`, if it still is what it `was`. This clears a refusal.
    ///
    /// # Errors
    /// When the database is away or refuses a value.
    fn edit_schedule(
        &mut self,
        id: i64,
        was: &ScheduleSpec,
        to: &ScheduleSpec,
    ) -> Result<EditResult, StoreError>;

    /// Enables or disables a schedule. Returns whether it exists.
    ///
    /// # Errors
    /// When the database is away.
    fn activate_schedule(&mut self, id: i64, active: bool) -> Result<bool, StoreError>;

    /// Deletes a schedule, but not its messages. Returns whether it existed.
    ///
    /// # Errors
    /// When the database is away.
    fn remove_schedule(&mut self, id: i64) -> Result<bool, StoreError>;
}

/// The occurrences of schedules, for the scheduler.
pub trait OccurrenceStore: Send {
    /// The work that is waiting, except for the schedules `held` back.
    ///
    /// # Errors
    /// When the database is away.
    fn agenda(&mut self, held: &[i64]) -> Result<Agenda, StoreError>;

    /// Marks active schedules for their next occurrence to be recomputed. Returns how many.
    ///
    /// # Errors
    /// When the database is away.
    fn recompute(&mut self, which: RecomputeReason) -> Result<usize, StoreError>;

    /// Locks up to `limit` of the `ready` schedules, except for those that another transaction has locked and those
    /// `held` back, has `decide` advance each, and writes the results and messages, all or none. An occurrence that
    /// already has a message gets no second one. Returns how many schedules there were, and the messages.
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

/// Messages on their way to the broker, for publishers.
pub trait OutboxStore: FactStore {
    /// Inserts PENDING messages, all or none. Unless its row says when it is due, a message is on a lease of
    /// [`PUBLISH_LEASE`](super::PUBLISH_LEASE) for the caller to publish.
    ///
    /// # Errors
    /// When the database is away or refuses a row.
    fn record(&mut self, rows: &[NewRow]) -> Result<(), StoreError>;

    /// `PENDING → PUBLISHED` for messages that the broker has confirmed.
    ///
    /// # Errors
    /// When the database is away.
    fn mark_published(&mut self, keys: &[String]) -> Result<(), StoreError>;

    /// Renews the caller's lease on PENDING messages to last `lease` from now; with a lease of zero they are due.
    /// Messages that were put off meanwhile stay as they are.
    ///
    /// # Errors
    /// When the database is away.
    fn renew_leases(&mut self, keys: &[String], lease: Duration) -> Result<(), StoreError>;

    /// Notes why, and since when, the broker refuses PENDING messages. Those that it has refused for a day become
    /// FAILED; returns their keys.
    ///
    /// # Errors
    /// When the database is away.
    fn note_refused(&mut self, refused: &[(String, String)]) -> Result<Vec<String>, StoreError>;

    /// Ends PENDING messages that can't be published as FAILED, with the reason.
    ///
    /// # Errors
    /// When the database is away.
    fn fail_pending(&mut self, failures: &[(String, String)]) -> Result<(), StoreError>;
}

/// Records messages, all or none.
///
/// # Errors
/// When the database is away or refuses a message.
pub(crate) fn record_messages<'a>(
    session: &mut dyn OutboxStore,
    messages: &'a [Message],
) -> Result<RecordedMessages<'a>, StoreError> {
    let rows: Vec<NewRow> = messages.iter().map(NewRow::pending).collect();
    session.record(&rows)?;
    Ok(RecordedMessages::borrowed(messages))
}

/// Messages that others have left to be published, for the sweep.
pub trait RecoveryStore: OutboxStore {
    /// Whether a notification of due messages has come since the last call. The first call begins to listen and
    /// returns true, since there may be some. `None` where the database sends no notifications.
    ///
    /// # Errors
    /// When the database is away.
    fn was_notified(&mut self) -> Result<Option<bool>, StoreError>;

    /// Takes up to `limit` due PENDING messages, except for those of `queues`, on a lease of
    /// [`PUBLISH_LEASE`](super::PUBLISH_LEASE): those that are not marked as published by then are due again.
    /// Undecodable rows are returned apart.
    ///
    /// # Errors
    /// When the database is away.
    fn take_due_except(
        &mut self,
        limit: usize,
        queues: &BTreeSet<String>,
    ) -> Result<(RecordedMessages<'static>, Vec<UndecodableRow>), StoreError>;

    /// Ends undecodable PENDING messages.
    ///
    /// # Errors
    /// When the database is away.
    fn fail_undecodable(&mut self, rows: &[UndecodableRow]) -> Result<(), StoreError>;

    /// Recovers up to `limit` messages of dead workers: they become PENDING and due. Returns how many.
    ///
    /// # Errors
    /// When the database is away.
    fn recover(&mut self, limit: usize) -> Result<usize, StoreError>;

    /// Looks for the rows of messages that were CANCELLED because they had none, and makes those that have arrived
    /// PENDING and due.
    ///
    /// # Errors
    /// When the database is away.
    fn publish_late_rows(
        &mut self,
        keys: &[String],
    ) -> Result<Vec<(String, LateRowResult)>, StoreError>;
}

/// Claims of messages and ends of attempts, for the ledger.
pub trait RunStore: WorkerStore {
    /// Writes a batch for `owner`, all or none.
    ///
    /// # Errors
    /// [`StoreError::Refused`] when the database refuses a value in it.
    fn write(&mut self, owner: WorkerId, batch: &Batch) -> Result<BatchResult, StoreError>;
}

/// Requeuing final messages.
pub trait RequeueStore: OutboxStore {
    /// Replaces old messages by new PENDING ones.
    ///
    /// # Errors
    /// When the database is away.
    fn requeue(&mut self, which: &Requeue) -> Result<Vec<Requeued>, StoreError>;

    /// The highest id of a FAILED message, if there is one.
    ///
    /// # Errors
    /// When the database is away.
    fn last_failed_id(&mut self) -> Result<Option<i64>, StoreError>;

    /// [`RequeueStore::requeue`] for the first FAILED messages with ids beyond `after` and up to `last`, as many as
    /// the database takes together. Also returns the `after` of the next call, if there may be more.
    ///
    /// # Errors
    /// When the database is away, or refuses a row.
    fn requeue_failed(
        &mut self,
        after: i64,
        last: i64,
    ) -> Result<(Vec<Requeued>, Option<i64>), StoreError>;
}

/// Deleting old messages.
pub trait RetentionStore: Send {
    /// Deletes the final messages of a range that are too old, and skips those that another transaction has locked.
    ///
    /// # Errors
    /// When the database is away.
    fn prune(&mut self, stretch: &PruneRange<'_>) -> Result<Pruned, StoreError>;
}

/// The queues of the embedded broker.
pub trait EmbeddedQueueStore: WorkerStore {
    /// Whether any message waits in a queue of the embedded broker: PUBLISHED, with that routing key,
    /// and taken by no live worker.
    ///
    /// # Errors
    /// When the database is away.
    fn is_any_waiting(&mut self, queue: &str) -> Result<bool, StoreError>;

    /// How many messages wait in a queue.
    ///
    /// # Errors
    /// When the database is away.
    fn count_waiting(&mut self, queue: &str) -> Result<i64, StoreError>;

    /// Takes up to `limit` waiting messages for `owner`, which has yet to claim them: by priority and then by age.
    /// Skips those that another transaction has locked, and returns undecodable rows apart.
    ///
    /// # Errors
    /// When the database is away.
    fn take_waiting(
        &mut self,
        owner: WorkerId,
        queue: &str,
        limit: usize,
    ) -> Result<(Vec<Message>, Vec<UndecodableRow>), StoreError>;

    /// Ends undecodable messages that `owner` has taken.
    ///
    /// # Errors
    /// When the database is away.
    fn fail_waiting(&mut self, owner: WorkerId, rows: &[UndecodableRow]) -> Result<(), StoreError>;

    /// Returns messages that `owner` has taken, and nobody has claimed, to their queue.
    ///
    /// # Errors
    /// When the database is away.
    fn put_back(&mut self, owner: WorkerId, keys: &[String]) -> Result<(), StoreError>;

    /// The same for all messages of a queue.
    ///
    /// # Errors
    /// When the database is away.
    fn put_back_all(&mut self, owner: WorkerId, queue: &str) -> Result<(), StoreError>;
}

/// The workers and their heartbeats.
pub trait WorkerStore: Send {
    /// Registers a worker.
    ///
    /// # Errors
    /// When the database is away.
    fn register(&mut self, process: &WorkerProcess) -> Result<WorkerId, StoreError>;

    /// Records a heartbeat of the worker, and registers it again if its row is gone.
    ///
    /// # Errors
    /// When the database is away.
    fn heartbeat(&mut self, id: WorkerId, process: &WorkerProcess) -> Result<(), StoreError>;

    /// The workers whose rows name `namespace`.
    ///
    /// # Errors
    /// When the database is away.
    fn workers_in(&mut self, namespace: &str)
    -> Result<Vec<(WorkerId, WorkerProcess)>, StoreError>;

    /// Removes workers that have ended, so that the sweep can recover their messages.
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
