//! What parts of the tree report to their owners. A part knows its owner only as a recipient of these messages.

use actix::prelude::*;

use crate::execution::Attempt;

/// What the scheduler reports.
#[derive(Message)]
#[rtype(result = "()")]
pub(super) enum SchedulerNotice {
    /// Nothing more will be published.
    Stopped,
    /// The actor is gone, and its threads are told to stop. Sent after `Stopped`, and after a death.
    Gone,
}

/// What a queue's set of consumers reports.
#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct SetNotice {
    pub(super) queue: String,
    pub(super) event: SetEvent,
}

pub(super) enum SetEvent {
    /// The set runs until it is idle, and is idle or can't begin.
    Idle { error: Option<String> },
    /// The set has stopped.
    Stopped,
    /// The actor is gone. Sent after `Stopped`, and after a death.
    Gone,
}

/// What a consumer's thread reports.
#[derive(Message)]
#[rtype(result = "()")]
pub(super) enum ConsumerNotice {
    /// The service stops, and this message was not run.
    GiveBack(Attempt),
    /// The thread has ended.
    Down {
        /// The consumer's number, from 1.
        number: usize,
        /// `Some` if the thread died.
        death: Option<ConsumerDeath>,
    },
}

/// The death of a consumer's thread.
pub(super) struct ConsumerDeath {
    /// The attempt that it was running.
    pub(super) attempt: Option<Attempt>,
}
