//! What parts of the tree tell their owners, of whom they know no more than that they take it.

use actix::prelude::*;

use crate::execution::Attempt;

/// What a scheduler tells.
#[derive(Message)]
#[rtype(result = "()")]
pub(super) enum OfScheduler {
    /// Nothing more will be published.
    Stopped,
    /// The actor is gone, and its threads are told to stop: it has stopped before, or it died.
    Gone,
}

/// What the set of a queue's consumers tells.
#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct OfSet {
    pub(super) queue: String,
    pub(super) says: SetSays,
}

pub(super) enum SetSays {
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
pub(super) enum OfConsumer {
    /// A message that was not run goes back: the service stops.
    GiveBack(Attempt),
    /// The thread has ended.
    Down {
        /// The consumer's, from 1.
        number: usize,
        /// `Some` if it died.
        death: Option<Death>,
    },
}

/// How a consumer's thread died.
pub(super) struct Death {
    /// What it was running.
    pub(super) attempt: Option<Attempt>,
}
