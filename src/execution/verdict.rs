//! What becomes of an attempt at a message.

use serde_json::Value;

use super::postponement::Postponement;
use crate::task::{TaskError, TaskResult};

/// What becomes of an attempt. [`record`](super::record) says what each changes in the message's row; a new
/// one (it is cancelled, it has expired, it is snoozed) has its place there.
#[derive(Debug)]
pub(super) enum AttemptVerdict {
    /// The task has returned this.
    Completed(Value),
    /// It is over without a result.
    Failed(AttemptFailure),
    /// It is run again, and this attempt does not count: it could not begin, or the task handed it back.
    Again {
        /// What the task said.
        error: TaskError,
        /// Why, and until when.
        postponed: Postponement,
    },
}

/// Why a message is FAILED.
#[derive(Debug)]
pub(super) struct AttemptFailure {
    pub(super) kind: FailureKind,
    pub(super) error: TaskError,
}

/// What has failed. Whether a message is tried again will depend on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FailureKind {
    /// The run, which had begun: the task returned an error, or panicked, or its command did not do well.
    Error,
    /// Its workers: they vanished in each run, so that none is begun any more.
    Crash,
    /// No run has begun: the message can't be read, or its task is not known here, or it has waited for long
    /// enough.
    Unrunnable,
}

impl AttemptVerdict {
    /// What whoever called the task would see.
    pub(super) fn result(&self) -> TaskResult {
        match self {
            Self::Completed(output) => Ok(output.clone()),
            Self::Failed(AttemptFailure { error, .. }) | Self::Again { error, .. } => {
                Err(error.clone())
            }
        }
    }
}

impl AttemptFailure {
    pub(super) const fn new(kind: FailureKind, error: TaskError) -> Self {
        Self { kind, error }
    }
}
