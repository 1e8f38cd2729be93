//! One run of a message: which it is, and what went before.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use super::Postponed;
use crate::broker::Envelope;
use crate::store::{Begin, NewRow, PutOff};

/// Tells the runs of this process apart, also those of the same message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RunId(u64);

impl RunId {
    /// One that no other run of this process has.
    pub(crate) fn next() -> Self {
        static LAST: AtomicU64 = AtomicU64::new(0);
        Self(LAST.fetch_add(1, Ordering::Relaxed))
    }
}

/// A run of a message that is ours: about to begin, or under way.
#[derive(Debug)]
pub struct Attempt {
    /// The message as it came.
    pub envelope: Envelope,
    /// Tells it from others of the message.
    pub run: RunId,
    /// The queue that it came by.
    pub queue: Arc<str>,
    /// When it was asked for, before it became ours.
    pub asked: Instant,
    /// What went before.
    pub earlier: Earlier,
}

/// The runs of a message that have begun before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Earlier {
    /// So many are known: from the row, and those in which a consumer of this process died.
    known: u32,
    crashed: Crashed,
}

/// Whether runs ended because who ran them vanished.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Crashed {
    /// None did that anybody knows of.
    Never,
    /// A consumer of this process died: all such runs are known, but to nobody else.
    Here,
    /// A worker vanished. Its run may be one more than are known: that of a fresh message is counted at its
    /// end.
    Elsewhere,
}

impl Earlier {
    /// Those of a message whose row counts so many, and may be `suspect` of having made a worker vanish.
    #[must_use]
    pub const fn in_row(attempts: u32, suspect: bool) -> Self {
        let crashed = if suspect {
            Crashed::Elsewhere
        } else {
            Crashed::Never
        };
        Self {
            known: attempts,
            crashed,
        }
    }

    /// How many are known.
    #[must_use]
    pub const fn known(self) -> u32 {
        self.known
    }

    /// How many there may have been.
    const fn possible(self) -> u32 {
        match self.crashed {
            Crashed::Never | Crashed::Here => self.known,
            Crashed::Elsewhere => self.known.saturating_add(1),
        }
    }

    /// Whether the message may be what made who ran it vanish.
    #[must_use]
    pub const fn is_suspect(self) -> bool {
        !matches!(self.crashed, Crashed::Never)
    }

    /// Whether some are known to this process alone.
    #[must_use]
    pub const fn is_known_here_alone(self) -> bool {
        matches!(self.crashed, Crashed::Here)
    }

    /// These, and one more in which a consumer of this process died.
    const fn and_a_death(self) -> Self {
        let crashed = match self.crashed {
            Crashed::Never | Crashed::Here => Crashed::Here,
            Crashed::Elsewhere => Crashed::Elsewhere,
        };
        Self {
            known: self.known.saturating_add(1),
            crashed,
        }
    }
}

impl Attempt {
    /// The message's key.
    #[must_use]
    pub fn key(&self) -> &str {
        &self.envelope.key
    }

    /// Which run of the message this is, from 1, as its task is told.
    #[must_use]
    pub const fn number(&self) -> u32 {
        self.earlier.possible().saturating_add(1)
    }

    /// The runs that are known to have begun when this one has.
    #[must_use]
    pub const fn begun(&self) -> u32 {
        self.earlier.known.saturating_add(1)
    }

    /// The next run under the same claim: the consumer died in this one.
    #[must_use]
    pub fn after_death(self) -> Self {
        Self {
            earlier: self.earlier.and_a_death(),
            ..self
        }
    }

    /// This run, to be counted before it starts.
    #[must_use]
    pub fn begin(&self) -> Begin {
        Begin {
            key: self.envelope.key.clone(),
            attempts: self.begun(),
        }
    }

    /// This run, to be put off; `None` if no row carries the message.
    #[must_use]
    pub fn put_off(&self, postponed: &Postponed) -> Option<PutOff> {
        let arguments = self.envelope.body.arguments().ok()?;
        let message = self.envelope.parts(&self.queue, arguments);
        let row = NewRow::pending(message);
        row.carries(message).then(|| PutOff {
            row,
            attempts: self.earlier.known,
            suspect: self.earlier.is_suspect(),
            cause: postponed.cause,
            reason: postponed.reason.clone(),
            due: postponed.due,
        })
    }
}
