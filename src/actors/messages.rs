//! What parts of the tree tell their owners, of whom they know no more than that they take it.

use actix::prelude::*;

use crate::execution::Attempt;

/// What a scheduler tells.
#[derive(Message)]
#[rtype(result = "()")]
pub(super) enum SchedulerNotice {
    /// Nothing more will be published.
    Stopped,
    /// The actor is gone, and its threads are told to stop: it has stopped before, or it died.
    Gone,
}

/// What the set of a queue's consumers tells.
#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct SetNotice {
    pub(super) queue: String,
    pub(super) event: SetEvent,
}

pub(super) enum SetEvent {
    /// It runs until it is idle and is idle, or can't even begin.
    Idle { error: Option<String> },
    /// It has stopped.
    Stopped,
    /// It is gone: it has stopped before, or it died.
    Gone,
}

/// What a consumer tells, from its thread.
#[derive(Message)]
#[rtype(result = "()")]
pub(super) enum ConsumerNotice {
    /// A message that was not run goes back: the service stops.
    GiveBack(Attempt),
    /// The thread has ended.
    Down {
        /// The consumer's, from 1.
        number: usize,
        /// `Some` if it died.
        death: Option<ConsumerDeath>,
    },
}

/// How a consumer's thread died.
pub(super) struct ConsumerDeath {
    /// What it was running.
    pub(super) attempt: Option<Attempt>,
}
