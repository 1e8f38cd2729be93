//! The statuses of a message, and the only function that defines what an event does to it: [`transition()`].
//!
//! `PUBLISHED → IN_PROGRESS → COMPLETED | FAILED` are django-carrot's own; `PENDING`, `CANCELLED`
//! and `EXPIRED` are ours. The names are the values of `carrot_messagelog.status` (varchar(11)).

mod transition;

pub use transition::{Column, Event, RequiredOwner, RowCondition, Transition, Value, transition};

use std::fmt;
use std::str::FromStr;

/// The status in a message's row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Status {
    /// Recorded, and not yet confirmed by the broker, or due later.
    Pending,
    /// The broker has it.
    Published,
    /// A worker has claimed it.
    InProgress,
    /// Its task ran and succeeded.
    Completed,
    /// Its task ran and failed, or could not run at all.
    Failed,
    /// It will not run, though nothing failed: its row was rolled back, requeued or purged.
    Cancelled,
    /// It did not run before it expired.
    Expired,
}

/// Why a message's run is put off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Cause {
    /// This process knows no task of that name.
    UnknownTask,
    /// The machine lacks resources for a run: files, processes, memory.
    Resources,
    /// The program to run is missing, or is being replaced.
    Program,
    /// The task itself has handed the message back.
    HandedBack,
}

impl Cause {
    /// Every cause.
    pub const ALL: [Self; 4] = [
        Self::UnknownTask,
        Self::Resources,
        Self::Program,
        Self::HandedBack,
    ];

    /// The text of `put_off_reason`: it starts with the cause, so that the next put-off can be recognized as having the
    /// same cause.
    #[must_use]
    pub fn format_reason(self, reason: &str) -> String {
        format!("{self}: {reason}")
    }

    /// The SQL `LIKE` pattern of every [`format_reason`](Self::format_reason) of this cause.
    #[must_use]
    pub fn like_pattern(self) -> String {
        format!("{self}: %")
    }

    /// Its name in a row, in plain letters.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::UnknownTask => "unknown task",
            Self::Resources => "out of resources",
            Self::Program => "no program",
            Self::HandedBack => "handed back",
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The final statuses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum End {
    /// See [`Status::Completed`].
    Completed,
    /// See [`Status::Failed`].
    Failed,
    /// See [`Status::Cancelled`].
    Cancelled,
    /// See [`Status::Expired`].
    Expired,
}

impl End {
    /// Every end.
    pub const ALL: [Self; 4] = [
        Self::Completed,
        Self::Failed,
        Self::Cancelled,
        Self::Expired,
    ];

    /// The status of a message with this end.
    #[must_use]
    pub const fn status(self) -> Status {
        match self {
            Self::Completed => Status::Completed,
            Self::Failed => Status::Failed,
            Self::Cancelled => Status::Cancelled,
            Self::Expired => Status::Expired,
        }
    }
}

impl Status {
    /// Every status, in the order of a message's life.
    pub const ALL: [Self; 7] = [
        Self::Pending,
        Self::Published,
        Self::InProgress,
        Self::Completed,
        Self::Failed,
        Self::Cancelled,
        Self::Expired,
    ];

    /// The statuses that a message leaves only by a requeue.
    pub fn finals() -> impl Iterator<Item = Self> {
        Self::ALL.into_iter().filter(|status| status.is_final())
    }

    /// Whether a message leaves this status only by a requeue, which makes a new message.
    #[must_use]
    pub const fn is_final(self) -> bool {
        matches!(
            self,
            Self::Completed | Self::Failed | Self::Cancelled | Self::Expired
        )
    }

    /// Whether a requeue may replace such a message. It may replace a message that nothing runs: a final one, or one
    /// that a dead django-carrot left IN_PROGRESS, which no worker takes over. It may also replace a message that the
    /// broker has, since only a user can know that the broker has lost it.
    #[must_use]
    pub const fn may_be_requeued(self, has_owner: bool) -> bool {
        match self {
            Self::Pending => false,
            Self::InProgress => !has_owner,
            Self::Published | Self::Completed | Self::Failed | Self::Cancelled | Self::Expired => {
                true
            }
        }
    }

    /// Its name in a row.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "PENDING",
            Self::Published => "PUBLISHED",
            Self::InProgress => "IN_PROGRESS",
            Self::Completed => "COMPLETED",
            Self::Failed => "FAILED",
            Self::Cancelled => "CANCELLED",
            Self::Expired => "EXPIRED",
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A text that is no status.
#[derive(Debug, thiserror::Error)]
#[error("unknown status {0:?}")]
pub struct UnknownStatus(String);

impl FromStr for Status {
    type Err = UnknownStatus;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|status| status.as_str() == text)
            .ok_or_else(|| UnknownStatus(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_status_fits_the_column_and_parses_back() {
        for status in Status::ALL {
            assert!(status.as_str().len() <= 11);
            assert_eq!(status.as_str().parse::<Status>().unwrap(), status);
        }
        assert!("published".parse::<Status>().is_err());
    }
}
