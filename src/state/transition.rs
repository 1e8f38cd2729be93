//! What can happen to a message: in which states, who must have it, and what changes in its row.
//!
//! [`transition`] is the only place that knows. It answers in symbols; `store::sql::transition` makes guards and
//! assignments of them.

use self::Column::{Attempts, Due, Message, Owner, Suspect, WaitsFor, WaitsSince};
use self::Value::{Given, KeptOrNow, KeptOrThen, Now, Null, NullIfSame, OrGiven, Then, True, Us};
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
pub enum Holder {
    /// Any worker, or none.
    Anyone,
    /// No worker.
    Nobody,
    /// This worker.
    Us,
    /// This worker, or none.
    UsOrNobody,
    /// This worker, none, or a dead one.
    UsNobodyOrDead,
    /// No worker, or a dead one.
    NobodyOrDead,
    /// A dead worker.
    Dead,
}

impl Holder {
    /// Whether workers have to be looked up to see who has the message.
    #[must_use]
    pub const fn may_be_dead(self) -> bool {
        matches!(self, Self::UsNobodyOrDead | Self::NobodyOrDead | Self::Dead)
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
    Suspect,
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
    WaitsSince,
    /// That cause.
    WaitsFor,
}

/// What a column is set to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Value {
    /// Nothing.
    Null,
    /// The database's time.
    Now,
    /// The worker that the event comes from.
    Us,
    /// Yes.
    True,
    /// What comes with the event.
    Given,
    /// Yes if the column or the event says so.
    OrGiven,
    /// The time that comes with the event.
    Then,
    /// The same, unless the column has a time.
    KeptOrThen,
    /// The column's time where the message has waited for the same cause before, and otherwise the database's.
    KeptOrNow,
    /// Nothing where the message has waited for the same cause before, and otherwise what it is.
    NullIfSame,
}

/// A column, and what it is set to.
pub type Change = (Column, Value);

/// What an event does to a message in one state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Transition {
    /// Who must have the message.
    pub holder: Holder,
    /// Its state afterwards.
    pub to: Status,
    changes: &'static [&'static [Change]],
}

impl Transition {
    /// What changes in the row beside its status.
    pub fn changes(self) -> impl Iterator<Item = Change> {
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
pub enum Exception {
    /// Another worker has acknowledged the broker's copy.
    CopyIsLost,
    /// The message has waited for the same cause for longer than it may.
    WaitedTooLong,
}

const OWNED: &[Change] = &[(Owner, Us)];
const FREED: &[Change] = &[(Owner, Null)];
const DUE_NOW: &[Change] = &[(Due, Now)];
const DUE_THEN: &[Change] = &[(Due, Then)];
const NEVER_DUE: &[Change] = &[(Due, Null)];
const SUSPECTED: &[Change] = &[(Suspect, True)];
const COUNTED: &[Change] = &[(Attempts, Given)];
const REJECTED: &[Change] = &[(Column::Exception, Given)];
const WAITING: &[Change] = &[(WaitsSince, KeptOrNow), (WaitsFor, Given)];
const WAITING_NO_MORE: &[Change] = &[(WaitsSince, NullIfSame), (WaitsFor, NullIfSame)];
/// What died in a run had begun: from here on, it is put off for the first time.
const NEVER_WAITED: &[Change] = &[(WaitsSince, Null), (WaitsFor, Null)];
const RETURNED: &[Change] = &[
    (Column::Output, Given),
    (Column::Exception, Given),
    (Column::Traceback, Given),
    (Column::Log, Given),
];
/// What is published again is the message as it came.
const CAME: &[Change] = &[(Message, Given), (Attempts, Given), (Suspect, OrGiven)];
/// A time that is set says since when the broker has no copy.
const MISSING: &[Change] = &[(Due, KeptOrThen)];

const fn when(holder: Holder, to: Status, changes: &'static [&'static [Change]]) -> Transition {
    Transition {
        holder,
        to,
        changes,
    }
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
            Holder::Nobody,
            Published,
            &[NEVER_DUE, FREED, WAITING_NO_MORE],
        ),
        (Event::RenewLease, Pending) => when(Holder::Nobody, Pending, &[DUE_THEN]),
        (Event::Refuse, Pending) => when(Holder::Nobody, Pending, &[WAITING]),
        (Event::GiveUp, Pending) => when(Holder::Nobody, Failed, &[REJECTED, WAITING]),
        // From here on it is its publisher's again, whoever has put off its run before.
        (Event::Lease, Pending) => when(Holder::Anyone, Pending, &[DUE_THEN, FREED]),
        (Event::Reject, Pending) => when(Holder::Anyone, Failed, &[REJECTED]),
        (Event::ComeLate, Published) => when(Holder::Nobody, Pending, &[DUE_NOW]),
        (Event::Deliver, Published) => when(Holder::NobodyOrDead, Published, &[OWNED]),
        (Event::Return, Published) => when(Holder::Us, Published, &[FREED]),
        (Event::Discard, Published) => when(Holder::Us, Failed, &[REJECTED]),
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
            when(Holder::Anyone, InProgress, &[OWNED, NEVER_DUE])
        }
        (Event::Claim, InProgress) => when(
            Holder::UsOrNobody,
            InProgress,
            &[SUSPECTED, OWNED, NEVER_DUE],
        ),
        (Event::TakeOver, Pending | Published) => when(
            Holder::Anyone,
            InProgress,
            &[OWNED, NEVER_DUE, NEVER_WAITED],
        ),
        (Event::TakeOver, InProgress) => when(
            Holder::UsNobodyOrDead,
            InProgress,
            &[SUSPECTED, OWNED, NEVER_DUE, NEVER_WAITED],
        ),
        (Event::LoseCopy, InProgress) => when(Holder::Anyone, InProgress, &[DUE_NOW]),
        // Whether a copy is lost is known of a message IN_PROGRESS only.
        (Event::Begin, Pending | Published) => {
            when(Holder::Anyone, InProgress, &[COUNTED, OWNED, NEVER_DUE])
        }
        (Event::Begin, InProgress) => when(Holder::Us, InProgress, &[COUNTED, OWNED]),
        (Event::Finish(end), Pending | Published) => {
            when(Holder::Anyone, end.status(), &[COUNTED, RETURNED])
        }
        (Event::Finish(end), InProgress) => when(Holder::Us, end.status(), &[COUNTED, RETURNED]),
        _ => return of_giving_back(status, event),
    })
}

/// The transitions of who had taken a message to run it, and does not.
const fn of_giving_back(status: Status, event: Event) -> Option<Transition> {
    // What is to be published again keeps an owner: the mark of its first publishing, which may come late, must not
    // find it without one. It would be PUBLISHED, with no copy.
    Some(match (event, status) {
        (Event::PutOff, Pending | Published) => {
            when(Holder::Anyone, Pending, &[CAME, DUE_THEN, OWNED, WAITING])
        }
        (Event::PutOff, InProgress) => when(Holder::Us, Pending, &[CAME, DUE_THEN, OWNED, WAITING]),
        (Event::Keep, Pending | Published) => when(
            Holder::Anyone,
            InProgress,
            &[CAME, NEVER_DUE, OWNED, WAITING],
        ),
        (Event::Keep, InProgress) => when(Holder::Us, InProgress, &[CAME, OWNED, WAITING]),
        (Event::Release, InProgress) => when(Holder::Us, Published, &[FREED]),
        (Event::ReleaseWithoutCopy, InProgress) => when(Holder::Us, Pending, &[]),
        (Event::Republish, InProgress) => when(Holder::Us, Pending, &[MISSING, OWNED]),
        // A crash of the database may have forgotten the claim.
        (Event::Republish, Published) => when(Holder::Nobody, Pending, &[MISSING, OWNED]),
        (Event::Recover, InProgress) => {
            when(Holder::Dead, Pending, &[SUSPECTED, DUE_NOW, NEVER_WAITED])
        }
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
    pub const fn instead(self) -> Option<(Exception, Self)> {
        match self {
            Self::Refuse => Some((Exception::WaitedTooLong, Self::GiveUp)),
            Self::PutOff => Some((Exception::WaitedTooLong, Self::Keep)),
            Self::Release => Some((Exception::CopyIsLost, Self::ReleaseWithoutCopy)),
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
