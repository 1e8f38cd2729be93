//! The states of a message, and the one function that says what an event does to it: [`transition()`].
//!
//! `PUBLISHED → IN_PROGRESS → COMPLETED | FAILED` are django-carrot's own; `PENDING`, `CANCELLED`
//! and `EXPIRED` are ours. The names are what stands in `carrot_messagelog.status` (varchar(11)).

mod transition;

pub use transition::{Column, Event, RequiredOwner, RowCondition, Transition, Value, transition};

use std::fmt;
use std::str::FromStr;

/// Where a message stands, as its row says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Status {
    /// Recorded, and not confirmed by the broker yet, or due later.
    Pending,
    /// The broker has it.
    Published,
    /// A worker has claimed it.
    InProgress,
    /// Its task ran and succeeded.
    Completed,
    /// Its task ran and failed, or it could not be run at all.
    Failed,
    /// It will not be run, and nobody failed: its row had been rolled back, requeued or purged.
    Cancelled,
    /// It was not run in the time it was good for.
    Expired,
}

/// Why a message's run is put off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Cause {
    /// No task of that name is known here.
    UnknownTask,
    /// The machine lacks what a run takes: files, processes, memory.
    Resources,
    /// What is to be run is not there, or is being replaced.
    Program,
    /// The task itself has handed it back.
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

    /// A reason as the row has it: with its cause, by which the next one is known to be of the same kind.
    #[must_use]
    pub fn format_reason(self, reason: &str) -> String {
        format!("{self}: {reason}")
    }

    /// What every [`format_reason`](Self::format_reason) reason of this cause is `LIKE` in SQL.
    #[must_use]
    pub fn like_pattern(self) -> String {
        format!("{self}: %")
    }

    /// What it is called in a row; plain letters.
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

/// The final states.
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

    /// The state that this end leaves a message in.
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
    /// Every state, in the order of a message's life.
    pub const ALL: [Self; 7] = [
        Self::Pending,
        Self::Published,
        Self::InProgress,
        Self::Completed,
        Self::Failed,
        Self::Cancelled,
        Self::Expired,
    ];

    /// The states that nothing leaves but a requeue.
    pub fn finals() -> impl Iterator<Item = Self> {
        Self::ALL.into_iter().filter(|status| status.is_final())
    }

    /// Whether nothing leaves this state but a requeue, which makes a new message.
    #[must_use]
    pub const fn is_final(self) -> bool {
        matches!(
            self,
            Self::Completed | Self::Failed | Self::Cancelled | Self::Expired
        )
    }

    /// Whether a requeue may replace such a message. Nothing runs it: it is final, or was left IN_PROGRESS by a
    /// django-carrot that died, which nobody else ever takes up. Or it is the broker's: only a user can know that
    /// the broker has lost it.
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

    /// The name that the row has.
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

/// A status that is none of ours.
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
    fn every_state_fits_the_column_and_reads_back() {
        for status in Status::ALL {
            assert!(status.as_str().len() <= 11);
            assert_eq!(status.as_str().parse::<Status>().unwrap(), status);
        }
        assert!("published".parse::<Status>().is_err());
    }
}
