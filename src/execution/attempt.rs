//! One attempt at a message, and the runs before it.

use std::sync::Arc;
use std::time::Instant;

use super::postponement::Postponement;
use crate::broker::Envelope;
use crate::store::{Begin, NewRow, PutOff};
use crate::task::RunId;

/// A run of a message that this worker owns: about to begin, or under way.
#[derive(Debug)]
pub struct Attempt {
    /// The message as it was delivered.
    pub envelope: Envelope,
    /// Tells this run from other runs of the message.
    pub run: RunId,
    /// The queue that delivered the message.
    pub queue: Arc<str>,
    /// When the claim was requested.
    pub requested_at: Instant,
    /// The message's earlier runs.
    pub prior_runs: PriorRuns,
}

/// The runs of a message that have begun before.
///
/// The run of a fresh message is counted at its end, which saves a commit. If its worker vanishes, the message
/// becomes a crash suspect, and its row counts all runs but the first. Where even one uncounted run is too many,
/// each run is counted before it starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PriorRuns {
    /// The number of runs that are counted, in the row or to be written there.
    counted: u32,
    crashed: CrashEvidence,
    /// Whether the first run, too, is counted before it starts.
    counts_before_start: bool,
}

/// Whether a worker or consumer vanished in an earlier run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum CrashEvidence {
    /// None is known to have vanished.
    Never,
    /// Consumers of this process died, which the row does not record yet.
    Here,
    /// A worker vanished. It may not have begun the run.
    Elsewhere,
}

impl PriorRuns {
    /// The prior runs that a message's row records: `attempts` are counted, and the message may be a crash suspect.
    #[must_use]
    pub const fn in_row(attempts: u32, crash_suspect: bool, counts_before_start: bool) -> Self {
        let crashed = if crash_suspect {
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

    /// How many runs are known to have begun.
    #[must_use]
    pub const fn known(self) -> u32 {
        match self.crashed {
            CrashEvidence::Here => self.possible(),
            CrashEvidence::Never | CrashEvidence::Elsewhere => self.counted,
        }
    }

    /// How many runs may have begun.
    const fn possible(self) -> u32 {
        let is_one_uncounted = self.is_crash_suspect() && !self.counts_before_start;
        self.counted.saturating_add(is_one_uncounted as u32)
    }

    /// In how many runs a worker or consumer vanished, or may have.
    #[must_use]
    pub const fn crashes(self) -> u32 {
        if self.is_crash_suspect() {
            self.possible()
        } else {
            0
        }
    }

    /// Whether the message may have made its worker or consumer vanish.
    const fn is_crash_suspect(self) -> bool {
        !matches!(self.crashed, CrashEvidence::Never)
    }

    /// Whether only this process knows of some of the runs.
    #[must_use]
    pub const fn is_known_here_alone(self) -> bool {
        matches!(self.crashed, CrashEvidence::Here)
    }

    /// How many runs are counted once the next one has begun.
    const fn counted_at_start(self) -> u32 {
        let counts = self.is_crash_suspect() || self.counts_before_start;
        self.counted.saturating_add(counts as u32)
    }

    /// The prior runs after one more, in which a consumer of this process died.
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

    /// The number of this attempt, from 1, as its task sees it.
    #[must_use]
    pub const fn number(&self) -> u32 {
        self.prior_runs.possible().saturating_add(1)
    }

    /// How many runs are known to have begun once this one has.
    #[must_use]
    pub const fn begun(&self) -> u32 {
        self.prior_runs.known().saturating_add(1)
    }

    /// Whether this run is counted before it starts.
    #[must_use]
    pub const fn is_counted_first(&self) -> bool {
        self.prior_runs.is_crash_suspect() || self.prior_runs.counts_before_start
    }

    /// The next run under the same claim, after the consumer died in this one.
    #[must_use]
    pub fn after_death(self) -> Self {
        Self {
            prior_runs: self.prior_runs.after_consumer_death(),
            ..self
        }
    }

    /// The request to begin this run. It counts the run if the run is counted before it starts; otherwise it only
    /// checks that the run may begin.
    #[must_use]
    pub fn begin(&self) -> Begin {
        Begin {
            key: self.envelope.key.clone(),
            attempts: self.prior_runs.counted_at_start(),
        }
    }

    /// The request to put this run off. `None` if a row can't hold the message.
    #[must_use]
    pub fn put_off(&self, postponed: &Postponement) -> Option<PutOff> {
        let arguments = self.envelope.body.arguments().ok()?;
        let message = self.envelope.parts(&self.queue, arguments);
        let row = NewRow::pending(message);
        row.decodes_to(message).then(|| PutOff {
            row,
            attempts: self.prior_runs.counted,
            crash_suspect: self.prior_runs.is_crash_suspect(),
            cause: postponed.cause,
            reason: postponed.reason.clone(),
            due: postponed.due,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many crashes there may have been, the attempt number that the task sees, and what the row counts once
    /// the run has begun and once it has ended.
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
        // Its worker vanishes, and then the next worker.
        assert_eq!(readings(PriorRuns::in_row(0, true, false)), (1, 2, 1, 1));
        assert_eq!(readings(PriorRuns::in_row(1, true, false)), (2, 3, 2, 2));
        // Its consumer dies, then the next consumer, and then the worker vanishes.
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
