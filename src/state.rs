//! The states of a message, and the one function that says which change is legal.
//!
//! `PUBLISHED → IN_PROGRESS → COMPLETED | FAILED` are django-carrot's own; `PENDING`, `CANCELLED`
//! and `EXPIRED` are ours. The names are what stands in `carrot_messagelog.status` (varchar(11)).

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

/// What can happen to a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// The broker confirmed it.
    Confirm,
    /// A worker takes it to run it.
    Claim,
    /// Its run, or the refusal to run it, has this end.
    Finish(End),
    /// Its worker gives it back without having started it. (Where another worker has acknowledged the
    /// broker's copy meanwhile, this is a [`Event::Recover`].)
    Release,
    /// Its worker vanished.
    Recover,
    /// It can't be published.
    Reject,
    /// Its run could not begin, or handed it back: it is published again later.
    PutOff,
    /// The broker may have lost its copy: it is published again, unless that copy is claimed before.
    Republish,
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
    pub fn noted(self, reason: &str) -> String {
        format!("{self}: {reason}")
    }

    /// What every [`noted`](Self::noted) reason of this cause is `LIKE` in SQL.
    #[must_use]
    pub fn pattern(self) -> String {
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
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
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

    /// The state after `event`, or `None` where the event is not for a message in this state. The
    /// only place that knows; every guard in a statement is made from [`Event::sources`].
    ///
    /// Who may claim or finish an `IN_PROGRESS` message is a matter of its owner, which the store
    /// checks beside this.
    #[must_use]
    pub const fn on(self, event: Event) -> Option<Self> {
        match (self, event) {
            (Self::Pending, Event::Confirm) | (Self::InProgress, Event::Release) => {
                Some(Self::Published)
            }
            // A message can be delivered before its confirm is written, hence from PENDING; and from
            // IN_PROGRESS when its owner is dead.
            (Self::Pending | Self::Published | Self::InProgress, Event::Claim) => {
                Some(Self::InProgress)
            }
            // From PENDING and PUBLISHED too: a claim that a crashed database forgot, or that the
            // sweep took back, has run all the same, and nobody else has it.
            (Self::Pending | Self::Published | Self::InProgress, Event::Finish(end)) => {
                Some(end.status())
            }
            // What runs here is ours or nobody's, as at an end.
            (Self::Pending | Self::Published | Self::InProgress, Event::PutOff)
            | (Self::InProgress, Event::Recover)
            | (Self::Published, Event::Republish) => Some(Self::Pending),
            (Self::Pending, Event::Reject) => Some(Self::Failed),
            _ => None,
        }
    }

    /// Whether nothing leaves this state but a requeue, which makes a new message.
    #[must_use]
    pub const fn is_final(self) -> bool {
        matches!(
            self,
            Self::Completed | Self::Failed | Self::Cancelled | Self::Expired
        )
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

impl Event {
    /// The states in which this event is legal.
    pub fn sources(self) -> impl Iterator<Item = Status> {
        Status::ALL
            .into_iter()
            .filter(move |status| status.on(self).is_some())
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

    const EVENTS: [Event; 11] = [
        Event::Reject,
        Event::PutOff,
        Event::Republish,
        Event::Confirm,
        Event::Claim,
        Event::Release,
        Event::Recover,
        Event::Finish(End::Completed),
        Event::Finish(End::Failed),
        Event::Finish(End::Cancelled),
        Event::Finish(End::Expired),
    ];

    #[test]
    fn a_final_state_is_never_left() {
        for status in Status::ALL.into_iter().filter(|status| status.is_final()) {
            for event in EVENTS {
                assert_eq!(status.on(event), None, "{status} on {event:?}");
            }
        }
    }

    #[test]
    fn every_state_fits_the_column_and_reads_back() {
        for status in Status::ALL {
            assert!(status.as_str().len() <= 11);
            assert_eq!(status.as_str().parse::<Status>().unwrap(), status);
        }
        assert!("published".parse::<Status>().is_err());
    }

    #[test]
    fn a_confirm_that_comes_late_changes_nothing() {
        let sources: Vec<_> = Event::Confirm.sources().collect();
        assert_eq!(sources, [Status::Pending]);
    }
}
