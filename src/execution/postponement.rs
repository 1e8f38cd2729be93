//! Why a run is put off, and until when.

use std::time::Duration;

use crate::config;
use crate::names;
use crate::state::Cause;
use crate::store::PutOffDue;
use crate::task::{Again, TaskError};

/// Why a run is put off, and until when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Postponement {
    /// The kind of reason.
    pub cause: Cause,
    /// The reason as the row records it, with its cause.
    pub reason: String,
    /// The reason for people, in the log and in a final error.
    pub told: String,
    /// When the message is published again.
    pub due: PutOffDue,
}

impl Postponement {
    /// The postponement of a run with this error. `None` if the run may not be put off.
    pub(super) fn new(
        again: &Again,
        error: &TaskError,
        limit: Option<Duration>,
        is_stopping: bool,
    ) -> Option<Self> {
        let cause = again.cause();
        let due = match (cause, limit) {
            (Cause::HandedBack, _) if is_stopping => PutOffDue::Now,
            (Cause::HandedBack, _) => PutOffDue::Later(None),
            (_, Some(limit)) => PutOffDue::Later(Some(limit)),
            (_, None) => return None,
        };
        Some(Self {
            reason: names::storable(cause.format_reason(&error.exception)),
            told: match cause {
                Cause::HandedBack => format!("its task handed it back: {}", error.exception),
                _ => error.exception.clone(),
            },
            cause,
            due,
        })
    }

    /// How long the run may be put off. `None` means without limit.
    #[must_use]
    pub const fn limit(&self) -> Option<Duration> {
        match self.due {
            PutOffDue::Now => None,
            PutOffDue::Later(limit) => limit,
        }
    }

    /// The limit in parentheses, to append to the reason; empty if there is none.
    pub(super) fn limit_in_words(&self) -> String {
        self.limit()
            .map(|limit| format!(" (for at most {})", config::format_duration(limit)))
            .unwrap_or_default()
    }
}
