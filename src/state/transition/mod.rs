//! The events of a message: in which statuses they are legal, who must own the message, and how its row changes.
//!
//! [`transition`] is the only definition of this. It is symbolic; `store::sql::transition` renders it as guards and
//! assignments.

mod column;
mod event;

pub use column::{Column, ColumnChange, Value};
pub use event::{Event, RowCondition};

use self::Column::{Attempts, CrashSuspect, Due, Message, Owner, PutOffReason, PutOffSince};
use self::Value::{
    EventTime, Given, KeptElseEventTime, KeptIfSameElseNow, KeptOrGiven, Now, Null, NullIfSame,
    True, Worker,
};
use super::Status::{self, Failed, InProgress, Pending, Published};

/// Who must own a message for an event, by its `owner` column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RequiredOwner {
    /// Any worker, or none.
    Anyone,
    /// No worker.
    Nobody,
    /// The worker that the event comes from.
    Worker,
    /// The worker that the event comes from, or none.
    WorkerOrNobody,
    /// The worker that the event comes from, none, or a dead one.
    WorkerNobodyOrDead,
    /// No worker, or a dead one.
    NobodyOrDead,
    /// A dead worker.
    Dead,
}

impl RequiredOwner {
    /// Whether the condition depends on which workers are alive.
    #[must_use]
    pub const fn may_be_dead(self) -> bool {
        matches!(
            self,
            Self::WorkerNobodyOrDead | Self::NobodyOrDead | Self::Dead
        )
    }
}

/// What an event does to a message with a certain status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Transition {
    /// Who must own the message.
    pub owner: RequiredOwner,
    /// The status after the event.
    pub to: Status,
    changes: &'static [&'static [ColumnChange]],
}

impl Transition {
    /// The changes of the row, beside the status.
    pub fn changes(self) -> impl Iterator<Item = ColumnChange> {
        let end = self.to.end_time().map(|column| (column, Value::Now));
        self.changes.iter().copied().flatten().copied().chain(end)
    }

    /// The new value of `column`, if it changes.
    #[must_use]
    pub fn value(self, column: Column) -> Option<Value> {
        self.changes()
            .find(|(changed, _)| *changed == column)
            .map(|(_, value)| value)
    }
}

const SET_OWNER: &[ColumnChange] = &[(Owner, Worker)];
const CLEAR_OWNER: &[ColumnChange] = &[(Owner, Null)];
const SET_DUE_NOW: &[ColumnChange] = &[(Due, Now)];
const SET_DUE: &[ColumnChange] = &[(Due, EventTime)];
const CLEAR_DUE: &[ColumnChange] = &[(Due, Null)];
const SET_CRASH_SUSPECT: &[ColumnChange] = &[(CrashSuspect, True)];
const SET_ATTEMPTS: &[ColumnChange] = &[(Attempts, Given)];
const SET_EXCEPTION: &[ColumnChange] = &[(Column::Exception, Given)];
const SET_PUT_OFF: &[ColumnChange] = &[(PutOffSince, KeptIfSameElseNow), (PutOffReason, Given)];
const CLEAR_SAME_PUT_OFF: &[ColumnChange] =
    &[(PutOffSince, NullIfSame), (PutOffReason, NullIfSame)];
/// A run that a worker died in had begun, so that a later put-off counts as the first.
const CLEAR_PUT_OFF: &[ColumnChange] = &[(PutOffSince, Null), (PutOffReason, Null)];
const SET_RESULT: &[ColumnChange] = &[
    (Column::Output, Given),
    (Column::Exception, Given),
    (Column::Traceback, Given),
    (Column::Log, Given),
];
/// Publishes the message again as it was delivered.
const SET_MESSAGE: &[ColumnChange] = &[
    (Message, Given),
    (Attempts, Given),
    (CrashSuspect, KeptOrGiven),
];
/// Keeps a time that is set, which is the time when the broker lost its copy.
const KEEP_OR_SET_DUE: &[ColumnChange] = &[(Due, KeptElseEventTime)];

const fn to_status(
    owner: RequiredOwner,
    to: Status,
    changes: &'static [&'static [ColumnChange]],
) -> Transition {
    Transition { owner, to, changes }
}

/// What `event` does to a message with this status; `None` if the event is illegal then.
#[must_use]
pub const fn transition(status: Status, event: Event) -> Option<Transition> {
    match publisher_transition(status, event) {
        None => worker_transition(status, event),
        some => some,
    }
}

/// The transitions of publishers: programs, the sweep, the embedded broker.
const fn publisher_transition(status: Status, event: Event) -> Option<Transition> {
    Some(match (event, status) {
        // A message can be delivered, and its run put off, before its confirm is written: it then has an owner and
        // does not belong to its publisher any more. The confirm clears the owner, since a worker that was taken for
        // dead and comes back would otherwise seem to have taken the message from the embedded broker.
        (Event::Confirm, Pending) => to_status(
            RequiredOwner::Nobody,
            Published,
            &[CLEAR_DUE, CLEAR_OWNER, CLEAR_SAME_PUT_OFF],
        ),
        (Event::RenewLease, Pending) => to_status(RequiredOwner::Nobody, Pending, &[SET_DUE]),
        (Event::Refuse, Pending) => to_status(RequiredOwner::Nobody, Pending, &[SET_PUT_OFF]),
        (Event::GiveUp, Pending) => {
            to_status(RequiredOwner::Nobody, Failed, &[SET_EXCEPTION, SET_PUT_OFF])
        }
        // The message belongs to its publisher again, whichever worker has put off its run before.
        (Event::Lease, Pending) => {
            to_status(RequiredOwner::Anyone, Pending, &[SET_DUE, CLEAR_OWNER])
        }
        (Event::Reject, Pending) => to_status(RequiredOwner::Anyone, Failed, &[SET_EXCEPTION]),
        (Event::RowCommittedLate, Published) => {
            to_status(RequiredOwner::Nobody, Pending, &[SET_DUE_NOW])
        }
        (Event::Deliver, Published) => {
            to_status(RequiredOwner::NobodyOrDead, Published, &[SET_OWNER])
        }
        (Event::ReturnDelivery, Published) => {
            to_status(RequiredOwner::Worker, Published, &[CLEAR_OWNER])
        }
        (Event::Discard, Published) => to_status(RequiredOwner::Worker, Failed, &[SET_EXCEPTION]),
        _ => return None,
    })
}

/// The transitions of workers that run messages.
const fn worker_transition(status: Status, event: Event) -> Option<Transition> {
    // These events are legal for PENDING and PUBLISHED messages too. A message can be delivered before its confirm is
    // written. And a message whose claim a crash of the database lost, or the sweep took back, has run all the same,
    // and nobody else has it.
    Some(match (event, status) {
        (Event::Claim, Pending | Published) => {
            to_status(RequiredOwner::Anyone, InProgress, &[SET_OWNER, CLEAR_DUE])
        }
        (Event::Claim, InProgress) => to_status(
            RequiredOwner::WorkerOrNobody,
            InProgress,
            &[SET_CRASH_SUSPECT, SET_OWNER, CLEAR_DUE],
        ),
        (Event::TakeOver, Pending | Published) => to_status(
            RequiredOwner::Anyone,
            InProgress,
            &[SET_OWNER, CLEAR_DUE, CLEAR_PUT_OFF],
        ),
        (Event::TakeOver, InProgress) => to_status(
            RequiredOwner::WorkerNobodyOrDead,
            InProgress,
            &[SET_CRASH_SUSPECT, SET_OWNER, CLEAR_DUE, CLEAR_PUT_OFF],
        ),
        (Event::LoseBrokerCopy, InProgress) => {
            to_status(RequiredOwner::Anyone, InProgress, &[SET_DUE_NOW])
        }
        // Only the row of an IN_PROGRESS message records that a copy is lost.
        (Event::Begin, Pending | Published) => to_status(
            RequiredOwner::Anyone,
            InProgress,
            &[SET_ATTEMPTS, SET_OWNER, CLEAR_DUE],
        ),
        (Event::Begin, InProgress) => to_status(
            RequiredOwner::Worker,
            InProgress,
            &[SET_ATTEMPTS, SET_OWNER],
        ),
        (Event::Finish(end), Pending | Published) => to_status(
            RequiredOwner::Anyone,
            end.status(),
            &[SET_ATTEMPTS, SET_RESULT],
        ),
        (Event::Finish(end), InProgress) => to_status(
            RequiredOwner::Worker,
            end.status(),
            &[SET_ATTEMPTS, SET_RESULT],
        ),
        _ => return give_back_transition(status, event),
    })
}

/// The transitions of workers that give back messages which they had taken to run.
const fn give_back_transition(status: Status, event: Event) -> Option<Transition> {
    // A message that is to be published again keeps an owner. The confirm of its first publishing, which may be written
    // late, would otherwise make it PUBLISHED while the broker has no copy.
    Some(match (event, status) {
        (Event::PutOff, Pending | Published) => to_status(
            RequiredOwner::Anyone,
            Pending,
            &[SET_MESSAGE, SET_DUE, SET_OWNER, SET_PUT_OFF],
        ),
        (Event::PutOff, InProgress) => to_status(
            RequiredOwner::Worker,
            Pending,
            &[SET_MESSAGE, SET_DUE, SET_OWNER, SET_PUT_OFF],
        ),
        (Event::KeepToEnd, Pending | Published) => to_status(
            RequiredOwner::Anyone,
            InProgress,
            &[SET_MESSAGE, CLEAR_DUE, SET_OWNER, SET_PUT_OFF],
        ),
        (Event::KeepToEnd, InProgress) => to_status(
            RequiredOwner::Worker,
            InProgress,
            &[SET_MESSAGE, SET_OWNER, SET_PUT_OFF],
        ),
        (Event::Release, InProgress) => to_status(RequiredOwner::Worker, Published, &[CLEAR_OWNER]),
        (Event::ReleaseWithoutCopy, InProgress) => to_status(RequiredOwner::Worker, Pending, &[]),
        (Event::Republish, InProgress) => to_status(
            RequiredOwner::Worker,
            Pending,
            &[KEEP_OR_SET_DUE, SET_OWNER],
        ),
        // A crash of the database may have lost the claim.
        (Event::Republish, Published) => to_status(
            RequiredOwner::Nobody,
            Pending,
            &[KEEP_OR_SET_DUE, SET_OWNER],
        ),
        (Event::Recover, InProgress) => to_status(
            RequiredOwner::Dead,
            Pending,
            &[SET_CRASH_SUSPECT, SET_DUE_NOW, CLEAR_PUT_OFF],
        ),
        _ => return None,
    })
}

impl Event {
    /// The statuses in which this event is legal.
    pub fn sources(self) -> impl Iterator<Item = Status> {
        self.transitions().map(|(status, _)| status)
    }

    /// The transitions of this event, by the status before it.
    pub fn transitions(self) -> impl Iterator<Item = (Status, Transition)> {
        Status::ALL
            .into_iter()
            .filter_map(move |status| Some((status, transition(status, self)?)))
    }
}

impl Status {
    /// The column that records when a message entered this status, if there is one.
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
