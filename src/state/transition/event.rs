//! The events of a message.

use crate::state::End;

/// An event of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Event {
    /// The broker confirmed the message.
    Confirm,
    /// The publisher extends its lease, or gives it up.
    RenewLease,
    /// The sweep takes the message to publish it.
    Lease,
    /// The broker refuses the message for now. After a day, [`GiveUp`](Self::GiveUp) happens instead.
    Refuse,
    /// The broker has refused the message for too long.
    GiveUp,
    /// The message can't be published.
    Reject,
    /// The message's row was committed after the message had been cancelled for want of one.
    RowCommittedLate,
    /// The embedded broker delivers the message to a worker, which has not claimed it yet.
    Deliver,
    /// That worker gives the delivery back.
    ReturnDelivery,
    /// That worker can't decode the message.
    Discard,
    /// A worker claims the message to run it.
    Claim,
    /// A worker claims the message from an owner that may be dead.
    TakeOver,
    /// A worker that does not own the message is about to acknowledge the broker's copy of it.
    LoseBrokerCopy,
    /// An attempt that is counted before it starts is about to start.
    Begin,
    /// The message's run, or the refusal to run it, has this end.
    Finish(End),
    /// The run could not begin, or handed the message back: the message is published again later. After too long,
    /// [`KeepToEnd`](Self::KeepToEnd) happens instead.
    PutOff,
    /// The run has been put off for too long: the worker keeps the message, to end it.
    KeepToEnd,
    /// The worker gives the message back without having started it. If the broker has no copy left,
    /// [`ReleaseWithoutCopy`](Self::ReleaseWithoutCopy) happens instead.
    Release,
    /// The worker gives the message back after another worker has acknowledged the broker's copy.
    ReleaseWithoutCopy,
    /// The worker gives the message back without having started it, and the broker may not deliver it again: the
    /// message is published again, unless its copy is claimed before.
    Republish,
    /// The worker that owned the message died.
    Recover,
}

/// A condition on a row under which another event happens instead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RowCondition {
    /// Another worker has acknowledged the broker's copy.
    CopyIsLost,
    /// The message has waited too long for the same cause.
    WaitedTooLong,
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
        Self::RowCommittedLate,
        Self::Deliver,
        Self::ReturnDelivery,
        Self::Discard,
        Self::Claim,
        Self::TakeOver,
        Self::LoseBrokerCopy,
        Self::Begin,
        Self::Finish(End::Completed),
        Self::Finish(End::Failed),
        Self::Finish(End::Cancelled),
        Self::Finish(End::Expired),
        Self::PutOff,
        Self::KeepToEnd,
        Self::Release,
        Self::ReleaseWithoutCopy,
        Self::Republish,
        Self::Recover,
    ];

    /// The event that happens instead to messages that meet the condition.
    #[must_use]
    pub const fn instead(self) -> Option<(RowCondition, Self)> {
        match self {
            Self::Refuse => Some((RowCondition::WaitedTooLong, Self::GiveUp)),
            Self::PutOff => Some((RowCondition::WaitedTooLong, Self::KeepToEnd)),
            Self::Release => Some((RowCondition::CopyIsLost, Self::ReleaseWithoutCopy)),
            _ => None,
        }
    }
}
