//! One run of a message: which it is, and what went before.

use std::sync::Arc;
use std::time::Instant;

use super::postponement::Postponement;
use crate::broker::Envelope;
use crate::store::{Begin, NewRow, PutOff};
use crate::task::RunId;

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
    pub requested_at: Instant,
    /// What went before.
    pub prior_runs: PriorRuns,
}

/// The runs of a message that have begun before.
///
/// A fresh message's run is counted at its end, which spares it a commit: of a message that is suspect of having
/// made its worker vanish the row counts all runs but the first. Where that is one too many, each run is
/// counted before it starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PriorRuns {
    /// So many are counted, in the row or for it.
    counted: u32,
    crashed: CrashEvidence,
    /// The first one is counted before it starts too.
    counts_before_start: bool,
}

/// Whether runs ended because who ran them vanished.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum CrashEvidence {
    /// None did that anybody knows of.
    Never,
    /// Consumers of this process died, of which its row says nothing yet.
    Here,
    /// A worker vanished. It may not have begun the run.
    Elsewhere,
}

impl PriorRuns {
    /// Those of a message whose row counts so many, and may be `suspect` of having made a worker vanish.
    #[must_use]
    pub const fn in_row(attempts: u32, suspect: bool, counts_before_start: bool) -> Self {
        let crashed = if suspect {
            CrashEvidence::Elsewhere
        } else {
            CrashEvidence::Never
        };
        Self {
            counted: attempts,
            crashed,
            counts_before_start,
        }
    }

    /// How many are known to have begun.
    #[must_use]
    pub const fn known(self) -> u32 {
        match self.crashed {
            CrashEvidence::Here => self.possible(),
            CrashEvidence::Never | CrashEvidence::Elsewhere => self.counted,
        }
    }

    /// How many may have begun.
    const fn possible(self) -> u32 {
        let is_one_uncounted = self.is_crash_suspect() && !self.counts_before_start;
        self.counted.saturating_add(is_one_uncounted as u32)
    }

    /// In how many who ran them vanished, or may have.
    #[must_use]
    pub const fn crashes(self) -> u32 {
        if self.is_crash_suspect() {
            self.possible()
        } else {
            0
        }
    }

    /// Whether the message may be what made who ran it vanish.
    const fn is_crash_suspect(self) -> bool {
        !matches!(self.crashed, CrashEvidence::Never)
    }

    /// Whether some are known to this process alone.
    #[must_use]
    pub const fn is_known_here_alone(self) -> bool {
        matches!(self.crashed, CrashEvidence::Here)
    }

    /// What is counted when the next one has begun.
    const fn counted_at_start(self) -> u32 {
        let counts = self.is_crash_suspect() || self.counts_before_start;
        self.counted.saturating_add(counts as u32)
    }

    /// These, and one more in which a consumer of this process died.
    const fn after_consumer_death(self) -> Self {
        let crashed = match self.crashed {
            CrashEvidence::Never | CrashEvidence::Here => CrashEvidence::Here,
            CrashEvidence::Elsewhere => CrashEvidence::Elsewhere,
        };
        Self {
            counted: self.counted_at_start(),
            crashed,
            ..self
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
        self.prior_runs.possible().saturating_add(1)
    }

    /// The runs that are known to have begun when this one has.
    #[must_use]
    pub const fn begun(&self) -> u32 {
        self.prior_runs.known().saturating_add(1)
    }

    /// Whether this run is counted before it starts.
    #[must_use]
    pub const fn is_counted_first(&self) -> bool {
        self.prior_runs.is_crash_suspect() || self.prior_runs.counts_before_start
    }

    /// The next run under the same claim: the consumer died in this one.
    #[must_use]
    pub fn after_death(self) -> Self {
        Self {
            prior_runs: self.prior_runs.after_consumer_death(),
            ..self
        }
    }

    /// This run, to be counted before it starts, if it is: else it is only seen whether it may begin.
    #[must_use]
    pub fn begin(&self) -> Begin {
        Begin {
            key: self.envelope.key.clone(),
            attempts: self.prior_runs.counted_at_start(),
        }
    }

    /// This run, to be put off; `None` if no row carries the message.
    #[must_use]
    pub fn put_off(&self, postponed: &Postponement) -> Option<PutOff> {
        let arguments = self.envelope.body.arguments().ok()?;
        let message = self.envelope.parts(&self.queue, arguments);
        let row = NewRow::pending(message);
        row.carries(message).then(|| PutOff {
            row,
            attempts: self.prior_runs.counted,
            suspect: self.prior_runs.is_crash_suspect(),
            cause: postponed.cause,
            reason: postponed.reason.clone(),
            due: postponed.due,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many crashes there may have been, what a task is told, and what the row counts once it runs and once
    /// it has ended.
    fn readings(prior_runs: PriorRuns) -> (u32, u32, u32, u32) {
        let known = prior_runs.known() + 1;
        let told = prior_runs.possible() + 1;
        (
            prior_runs.crashes(),
            told,
            prior_runs.counted_at_start(),
            known,
        )
    }

    #[test]
    fn each_crash_is_one_whoever_saw_it() {
        let fresh = PriorRuns::in_row(0, false, false);
        assert_eq!(readings(fresh), (0, 1, 0, 1));
        // Its worker vanishes, and the next one.
        assert_eq!(readings(PriorRuns::in_row(0, true, false)), (1, 2, 1, 1));
        assert_eq!(readings(PriorRuns::in_row(1, true, false)), (2, 3, 2, 2));
        // Its consumer dies, and the next one, and then the worker vanishes.
        let died = fresh.after_consumer_death();
        assert_eq!(readings(died), (1, 2, 1, 2));
        let died = died.after_consumer_death();
        assert_eq!(readings(died), (2, 3, 2, 3));
        let row = PriorRuns::in_row(died.counted_at_start(), true, false);
        assert_eq!(row.crashes(), 3);
        assert_eq!(readings(row.after_consumer_death()), (4, 5, 4, 4));
    }

    #[test]
    fn what_is_counted_first_is_no_crash_before_it_has_begun() {
        let fresh = PriorRuns::in_row(0, false, true);
        assert_eq!(readings(fresh), (0, 1, 1, 1));
        assert_eq!(readings(PriorRuns::in_row(0, true, true)), (0, 1, 1, 1));
        assert_eq!(PriorRuns::in_row(1, true, true).crashes(), 1);
        assert_eq!(fresh.after_consumer_death().crashes(), 1);
    }
}
