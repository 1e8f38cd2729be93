//! Decides how many messages a set claims ahead of its consumers.

use std::time::Duration;

/// With long tasks, a message that reads IN_PROGRESS should be running. With short tasks, a claim should take as many
/// messages as the consumers run while it is committed.
#[derive(Debug)]
pub(super) struct ClaimWindow {
    consumers: usize,
    /// The smoothed duration of a run, in seconds.
    run: Option<f64>,
    /// The smoothed duration of a commit, in seconds.
    commit: Option<f64>,
}

/// One commit for the claim and one for the finishes: a message claimed now is needed two commits from now.
const COMMITS_AHEAD: f64 = 2.0;

/// The weight of the newest measurement.
const WEIGHT: f64 = 0.3;

impl ClaimWindow {
    /// The window of a set with this many consumers.
    pub(super) const fn new(consumers: usize) -> Self {
        Self {
            consumers,
            run: None,
            commit: None,
        }
    }

    /// `count` runs ended, and took `time` together.
    pub(super) fn ran(&mut self, count: usize, time: Duration) {
        if count > 0 {
            #[expect(clippy::cast_precision_loss, reason = "counts of a batch are small")]
            let each = time.as_secs_f64() / count as f64;
            smooth(&mut self.run, each);
        }
    }

    /// Runs are under way that have taken `time` so far.
    pub(super) fn runs_for(&mut self, time: Duration) {
        let time = time.as_secs_f64();
        self.run = Some(self.run.map_or(time, |run| run.max(time)));
    }

    /// A commit took `time`.
    pub(super) fn committed(&mut self, time: Duration) {
        smooth(&mut self.commit, time.as_secs_f64());
    }

    /// How many messages must be claimed and not finished so that no consumer is ever idle: at least one per
    /// consumer.
    pub(super) fn wanted(&self) -> usize {
        let (Some(run), Some(commit)) = (self.run, self.commit) else {
            return self.consumers;
        };
        let during_commits = (COMMITS_AHEAD * commit / run.max(1e-7)).round().min(1e6);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "between 0 and a million"
        )]
        let each = during_commits as usize;
        self.consumers.saturating_mul(each.saturating_add(1))
    }
}

fn smooth(value: &mut Option<f64>, newest: f64) {
    *value = Some(value.map_or(newest, |old| WEIGHT.mul_add(newest - old, old)));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn with_long_tasks_what_is_claimed_is_running() {
        let mut pace = ClaimWindow::new(4);
        assert_eq!(pace.wanted(), 4);
        pace.committed(Duration::from_millis(2));
        pace.ran(4, Duration::from_secs(40));
        assert_eq!(pace.wanted(), 4);
    }

    #[test]
    fn with_short_tasks_it_is_what_runs_during_two_commits() {
        let mut pace = ClaimWindow::new(4);
        pace.committed(Duration::from_millis(2));
        pace.ran(10, Duration::from_micros(200));
        assert_eq!(pace.wanted(), 4 * 201);
        pace.ran(0, Duration::ZERO);
        (0..20).for_each(|_| pace.ran(1, Duration::from_secs(1)));
        assert_eq!(pace.wanted(), 4);
        (0..60).for_each(|_| pace.ran(10, Duration::from_micros(200)));
        assert!(pace.wanted() > 700);
        pace.runs_for(Duration::from_secs(1));
        assert_eq!(pace.wanted(), 4);
    }
}
