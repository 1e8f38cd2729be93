//! The verdict on an attempt at a message.

use serde_json::Value;

use super::postponement::Postponement;
use crate::task::{TaskError, TaskResult};

/// The verdict on an attempt. [`record`](super::record) turns each verdict into a change to the message's row; a new
/// verdict (cancelled, expired, snoozed) needs a change there.
#[derive(Debug)]
pub(super) enum AttemptVerdict {
    /// The task returned this value.
    Completed(Value),
    /// The message is FAILED.
    Failed(AttemptFailure),
    /// The message is run again and this attempt does not count: it could not begin, or the task handed it back.
    Again {
        /// The task's error.
        error: TaskError,
        /// Why the message is put off, and until when.
        postponed: Postponement,
    },
}

/// Why a message is FAILED.
#[derive(Debug)]
pub(super) struct AttemptFailure {
    pub(super) kind: FailureKind,
    pub(super) error: TaskError,
}

/// What has failed. Whether a message is retried will depend on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FailureKind {
    /// The run, which had begun: the task returned an error or panicked, or its command failed.
    Error,
    /// The message's workers: they vanished so often that the message is not run again.
    Crash,
    /// No run has begun: the message can't be read, its task is unknown here, or it was put off for too long.
    Unrunnable,
}

impl AttemptVerdict {
    /// The result that a caller of the task would see.
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
