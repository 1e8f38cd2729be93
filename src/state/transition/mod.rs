//! What can happen to a message: in which states, who must have it, and what changes in its row.
//!
//! [`transition`] is the only place that knows. It answers in symbols; `store::sql::transition` makes guards and
//! assignments of them.

use self::Column::{Attempts, CrashSuspect, Due, Message, Owner, PutOffReason, PutOffSince};
use self::Value::{
    EventTime, Given, KeptElseEventTime, KeptIfSameElseNow, KeptOrGiven, Now, Null, NullIfSame,
    True, Worker,
};
use super::End;
use super::Status::{self, Failed, InProgress, Pending, Published};

/// What can happen to a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Event {
    /// The broker confirmed it.
    Confirm,
    /// Its publisher needs more time, or gives up its lease.
    RenewLease,
    /// The sweep takes it, to publish it.
    Lease,
    /// The broker refuses it for now. After a day, this is a [`Event::GiveUp`].
    Refuse,
    /// The broker has refused it for too long.
    GiveUp,
    /// It can't be published.
    Reject,
    /// Its row was committed after the message was cancelled because it had none.
    ComeLate,
    /// The embedded broker delivers it to a worker, which has not claimed it yet.
    Deliver,
    /// That worker gives the delivery back.
    Return,
    /// That worker can't read it.
    Discard,
    /// A worker takes it to run it.
    Claim,
    /// The same where the worker that has it may be dead.
    TakeOver,
    /// Another worker is about to acknowledge the broker's copy of it.
    LoseCopy,
    /// A run that is counted before it starts is about to start.
    Begin,
    /// Its run, or the refusal to run it, has this end.
    Finish(End),
    /// Its run could not begin, or handed it back: it is published again later. After too long, this is a
    /// [`Event::Keep`].
    PutOff,
    /// Its run has been put off for too long: its worker keeps it, to end it.
    Keep,
    /// Its worker gives it back without having started it. Where the broker has no copy left, this is a
    /// [`Event::ReleaseWithoutCopy`].
    Release,
    /// The same where another worker has acknowledged the broker's copy.
    ReleaseWithoutCopy,
    /// Its worker gives it back without having started it, and the broker can't be relied on to deliver it
    /// again: it is published again, unless its copy is claimed before.
    Republish,
    /// Its worker died.
    Recover,
}

/// Who must have a message for an event: its `owner`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RequiredOwner {
    /// Any worker, or none.
    Anyone,
    /// No worker.
    Nobody,
    /// This worker.
    Worker,
    /// This worker, or none.
    WorkerOrNobody,
    /// This worker, none, or a dead one.
    WorkerNobodyOrDead,
    /// No worker, or a dead one.
    NobodyOrDead,
    /// A dead worker.
    Dead,
}

impl RequiredOwner {
    /// Whether workers have to be looked up to see who has the message.
    #[must_use]
    pub const fn may_be_dead(self) -> bool {
        matches!(
            self,
            Self::WorkerNobodyOrDead | Self::NobodyOrDead | Self::Dead
        )
    }
}

/// What changes in a row, beside its status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Column {
    /// The task, its arguments, and where they are published to.
    Message,
    /// How many runs are known to have begun.
    Attempts,
    /// Whether it may be what made a worker die.
    CrashSuspect,
    /// `PENDING`: when it is published, unless that is confirmed before. `IN_PROGRESS`: since when the broker
    /// has no copy of it, if it has none.
    Due,
    /// The worker that has it.
    Owner,
    /// What its task returned.
    Output,
    /// Why it failed.
    Exception,
    /// Where it failed.
    Traceback,
    /// What its task logged.
    Log,
    /// When it was `COMPLETED`.
    CompletionTime,
    /// When it was `FAILED`.
    FailureTime,
    /// Since when it has waited for the present cause: of a run that is put off, or of a broker that refuses it.
    PutOffSince,
    /// That cause.
    PutOffReason,
}

/// What a column is set to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Value {
    /// Nothing.
    Null,
    /// The database's time.
    Now,
    /// The worker that the event comes from.
    Worker,
    /// Yes.
    True,
    /// What comes with the event.
    Given,
    /// Yes if the column or the event says so.
    KeptOrGiven,
    /// The time that comes with the event.
    EventTime,
    /// The same, unless the column has a time.
    KeptElseEventTime,
    /// The column's time where the message has waited for the same cause before, and otherwise the database's.
    KeptIfSameElseNow,
    /// Nothing where the message has waited for the same cause before, and otherwise what it is.
    NullIfSame,
}

/// A column, and what it is set to.
pub type ColumnChange = (Column, Value);

/// What an event does to a message in one state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Transition {
    /// Who must have the message.
    pub owner: RequiredOwner,
    /// Its state afterwards.
    pub to: Status,
    changes: &'static [&'static [ColumnChange]],
}

impl Transition {
    /// What changes in the row beside its status.
    pub fn changes(self) -> impl Iterator<Item = ColumnChange> {
        let end = self.to.end_time().map(|column| (column, Value::Now));
        self.changes.iter().copied().flatten().copied().chain(end)
    }

    /// What `column` is set to, if it changes.
    #[must_use]
    pub fn value(self, column: Column) -> Option<Value> {
        self.changes()
            .find(|(changed, _)| *changed == column)
            .map(|(_, value)| value)
    }
}

/// What is true of some rows only, so that something else happens to their messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RowCondition {
    /// Another worker has acknowledged the broker's copy.
    CopyIsLost,
    /// The message has waited for the same cause for longer than it may.
    WaitedTooLong,
}

const OWNED: &[ColumnChange] = &[(Owner, Worker)];
const FREED: &[ColumnChange] = &[(Owner, Null)];
const DUE_NOW: &[ColumnChange] = &[(Due, Now)];
const DUE_THEN: &[ColumnChange] = &[(Due, EventTime)];
const NEVER_DUE: &[ColumnChange] = &[(Due, Null)];
const CRASH_SUSPECTED: &[ColumnChange] = &[(CrashSuspect, True)];
const COUNTED: &[ColumnChange] = &[(Attempts, Given)];
const REJECTED: &[ColumnChange] = &[(Column::Exception, Given)];
const WAITING: &[ColumnChange] = &[(PutOffSince, KeptIfSameElseNow), (PutOffReason, Given)];
const WAITING_NO_MORE: &[ColumnChange] = &[(PutOffSince, NullIfSame), (PutOffReason, NullIfSame)];
/// What died in a run had begun: from here on, it is put off for the first time.
const NEVER_WAITED: &[ColumnChange] = &[(PutOffSince, Null), (PutOffReason, Null)];
const RETURNED: &[ColumnChange] = &[
    (Column::Output, Given),
    (Column::Exception, Given),
    (Column::Traceback, Given),
    (Column::Log, Given),
];
/// What is published again is the message as it came.
const CAME: &[ColumnChange] = &[
    (Message, Given),
    (Attempts, Given),
    (CrashSuspect, KeptOrGiven),
];
/// A time that is set says since when the broker has no copy.
const MISSING: &[ColumnChange] = &[(Due, KeptElseEventTime)];

const fn when(
    owner: RequiredOwner,
    to: Status,
    changes: &'static [&'static [ColumnChange]],
) -> Transition {
    Transition { owner, to, changes }
}

/// What `event` does to a message whose status is `status`; `None` where the event is not for such a message.
#[must_use]
pub const fn transition(status: Status, event: Event) -> Option<Transition> {
    match of_publishing(status, event) {
        None => of_running(status, event),
        some => some,
    }
}

/// The transitions of who publishes messages: programs, the sweep, the embedded broker.
const fn of_publishing(status: Status, event: Event) -> Option<Transition> {
    Some(match (event, status) {
        // A message can be delivered before its confirm is written, and its run be put off: then it has an owner,
        // and is its publisher's no longer. Who was taken for dead and comes back would seem to have taken it from
        // the embedded broker.
        (Event::Confirm, Pending) => when(
            RequiredOwner::Nobody,
            Published,
            &[NEVER_DUE, FREED, WAITING_NO_MORE],
        ),
        (Event::RenewLease, Pending) => when(RequiredOwner::Nobody, Pending, &[DUE_THEN]),
        (Event::Refuse, Pending) => when(RequiredOwner::Nobody, Pending, &[WAITING]),
        (Event::GiveUp, Pending) => when(RequiredOwner::Nobody, Failed, &[REJECTED, WAITING]),
        // From here on it is its publisher's again, whoever has put off its run before.
        (Event::Lease, Pending) => when(RequiredOwner::Anyone, Pending, &[DUE_THEN, FREED]),
        (Event::Reject, Pending) => when(RequiredOwner::Anyone, Failed, &[REJECTED]),
        (Event::ComeLate, Published) => when(RequiredOwner::Nobody, Pending, &[DUE_NOW]),
        (Event::Deliver, Published) => when(RequiredOwner::NobodyOrDead, Published, &[OWNED]),
        (Event::Return, Published) => when(RequiredOwner::Worker, Published, &[FREED]),
        (Event::Discard, Published) => when(RequiredOwner::Worker, Failed, &[REJECTED]),
        _ => return None,
    })
}

/// The transitions of who runs messages.
const fn of_running(status: Status, event: Event) -> Option<Transition> {
    // An event that is for PENDING and PUBLISHED messages too: one can be delivered before its confirm is written; and
    // a claim that a crashed database forgot, or that the sweep took back, has run all the same, and nobody else
    // has it.
    Some(match (event, status) {
        (Event::Claim, Pending | Published) => {
            when(RequiredOwner::Anyone, InProgress, &[OWNED, NEVER_DUE])
        }
        (Event::Claim, InProgress) => when(
            RequiredOwner::WorkerOrNobody,
            InProgress,
            &[CRASH_SUSPECTED, OWNED, NEVER_DUE],
        ),
        (Event::TakeOver, Pending | Published) => when(
            RequiredOwner::Anyone,
            InProgress,
            &[OWNED, NEVER_DUE, NEVER_WAITED],
        ),
        (Event::TakeOver, InProgress) => when(
            RequiredOwner::WorkerNobodyOrDead,
            InProgress,
            &[CRASH_SUSPECTED, OWNED, NEVER_DUE, NEVER_WAITED],
        ),
        (Event::LoseCopy, InProgress) => when(RequiredOwner::Anyone, InProgress, &[DUE_NOW]),
        // Whether a copy is lost is known of a message IN_PROGRESS only.
        (Event::Begin, Pending | Published) => when(
            RequiredOwner::Anyone,
            InProgress,
            &[COUNTED, OWNED, NEVER_DUE],
        ),
        (Event::Begin, InProgress) => when(RequiredOwner::Worker, InProgress, &[COUNTED, OWNED]),
        (Event::Finish(end), Pending | Published) => {
            when(RequiredOwner::Anyone, end.status(), &[COUNTED, RETURNED])
        }
        (Event::Finish(end), InProgress) => {
            when(RequiredOwner::Worker, end.status(), &[COUNTED, RETURNED])
        }
        _ => return of_giving_back(status, event),
    })
}

/// The transitions of who had taken a message to run it, and does not.
const fn of_giving_back(status: Status, event: Event) -> Option<Transition> {
    // What is to be published again keeps an owner: the mark of its first publishing, which may come late, must not
    // find it without one. It would be PUBLISHED, with no copy.
    Some(match (event, status) {
        (Event::PutOff, Pending | Published) => when(
            RequiredOwner::Anyone,
            Pending,
            &[CAME, DUE_THEN, OWNED, WAITING],
        ),
        (Event::PutOff, InProgress) => when(
            RequiredOwner::Worker,
            Pending,
            &[CAME, DUE_THEN, OWNED, WAITING],
        ),
        (Event::Keep, Pending | Published) => when(
            RequiredOwner::Anyone,
            InProgress,
            &[CAME, NEVER_DUE, OWNED, WAITING],
        ),
        (Event::Keep, InProgress) => {
            when(RequiredOwner::Worker, InProgress, &[CAME, OWNED, WAITING])
        }
        (Event::Release, InProgress) => when(RequiredOwner::Worker, Published, &[FREED]),
        (Event::ReleaseWithoutCopy, InProgress) => when(RequiredOwner::Worker, Pending, &[]),
        (Event::Republish, InProgress) => when(RequiredOwner::Worker, Pending, &[MISSING, OWNED]),
        // A crash of the database may have forgotten the claim.
        (Event::Republish, Published) => when(RequiredOwner::Nobody, Pending, &[MISSING, OWNED]),
        (Event::Recover, InProgress) => when(
            RequiredOwner::Dead,
            Pending,
            &[CRASH_SUSPECTED, DUE_NOW, NEVER_WAITED],
        ),
        _ => return None,
    })
}

impl Event {
    /// Every event.
    #[cfg(test)]
    pub const ALL: [Self; 24] = [
        Self::Confirm,
        Self::RenewLease,
        Self::Lease,
        Self::Refuse,
        Self::GiveUp,
        Self::Reject,
        Self::ComeLate,
        Self::Deliver,
        Self::Return,
        Self::Discard,
        Self::Claim,
        Self::TakeOver,
        Self::LoseCopy,
        Self::Begin,
        Self::Finish(End::Completed),
        Self::Finish(End::Failed),
        Self::Finish(End::Cancelled),
        Self::Finish(End::Expired),
        Self::PutOff,
        Self::Keep,
        Self::Release,
        Self::ReleaseWithoutCopy,
        Self::Republish,
        Self::Recover,
    ];

    /// The states in which this event is legal.
    pub fn sources(self) -> impl Iterator<Item = Status> {
        self.transitions().map(|(status, _)| status)
    }

    /// The same, with what happens.
    pub fn transitions(self) -> impl Iterator<Item = (Status, Transition)> {
        Status::ALL
            .into_iter()
            .filter_map(move |status| Some((status, transition(status, self)?)))
    }

    /// What happens instead to messages of which the exception holds.
    #[must_use]
    pub const fn instead(self) -> Option<(RowCondition, Self)> {
        match self {
            Self::Refuse => Some((RowCondition::WaitedTooLong, Self::GiveUp)),
            Self::PutOff => Some((RowCondition::WaitedTooLong, Self::Keep)),
            Self::Release => Some((RowCondition::CopyIsLost, Self::ReleaseWithoutCopy)),
            _ => None,
        }
    }
}

impl Status {
    /// Where the time is noted at which a message came to this state, if it is.
    #[must_use]
    pub const fn end_time(self) -> Option<Column> {
        match self {
            Self::Completed => Some(Column::CompletionTime),
            Self::Failed => Some(Column::FailureTime),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests;
