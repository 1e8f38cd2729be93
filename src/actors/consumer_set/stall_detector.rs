//! Detects that long tasks have followed short ones. Messages that were claimed ahead then go back, as another host
//! may have time for them.

use std::time::{Duration, Instant};

use actix::prelude::*;

use super::ConsumerSetActor;
use crate::execution::Attempt;

/// How often the detector looks; it takes two looks to see a stall. A message that goes back costs two writes and a
/// delivery, which a shorter interval is not worth.
const LOOK: Duration = Duration::from_secs(5);

/// Detects that no consumer takes a message although some wait.
#[derive(Debug)]
pub(super) struct StallDetector {
    /// How many messages were handed to the consumers, and not given back.
    handed_out: usize,
    /// How many of those the consumers had taken at the last look.
    taken: usize,
    /// Since when that number has not changed.
    since: Instant,
    /// When the last look was.
    looked: Instant,
    /// Whether messages waited at the last look.
    waited: bool,
}

impl StallDetector {
    pub(super) fn new() -> Self {
        let now = Instant::now();
        Self {
            handed_out: 0,
            taken: 0,
            since: now,
            looked: now,
            waited: false,
        }
    }

    pub(super) const fn handed_out(&mut self) {
        self.handed_out = self.handed_out.wrapping_add(1);
    }

    const fn given_back(&mut self, count: usize) {
        self.handed_out = self.handed_out.wrapping_sub(count);
    }

    /// For how long the consumers have taken no message. `None` unless messages wait now and waited at the last look.
    fn look(&mut self, waiting: usize, now: Instant) -> Option<Duration> {
        let pause = now.saturating_duration_since(self.looked);
        if pause < LOOK / 2 {
            // After a pause the timer fires at once for each look that it missed.
            return None;
        }
        self.looked = now;
        let taken = self.handed_out.wrapping_sub(waiting);
        let waited = std::mem::replace(&mut self.waited, waiting > 0);
        if std::mem::replace(&mut self.taken, taken) != taken {
            self.since = now;
            return None;
        }
        // If this process stood still itself, the consumers may be about to take a message.
        (waited && waiting > 0 && pause < 2 * LOOK)
            .then(|| now.saturating_duration_since(self.since))
    }
}

impl ConsumerSetActor {
    pub(super) fn start_stall_detection(&self, context: &mut Context<Self>) {
        context.run_interval(LOOK, |set, _| {
            // Without consumers there is no long task, and a queue that counts returns may drop messages.
            if set.stopping || set.consumers.is_empty() || set.broker_copies.queue_counts_returns()
            {
                return;
            }
            let waiting = set.unstarted_attempts.len();
            if let Some(time) = set.stall_detector.look(waiting, Instant::now()) {
                set.claim_window.runs_for(time);
                let count =
                    set.give_back_unstarted(|attempt| !attempt.prior_runs.is_known_here_alone());
                log::debug!("queue {}: {count} messages go back unrun", set.name);
                set.adjust_prefetch();
            }
        });
    }

    /// Gives back the messages that are claimed and not begun, if they `may` go, and returns their number. Their rows
    /// go first, as a django-carrot consumer throws away a message whose row is not PUBLISHED.
    pub(super) fn give_back_unstarted(&mut self, may: impl Fn(&Attempt) -> bool) -> usize {
        let waiting: Vec<Attempt> = self.unstarted_attempts.try_iter().collect();
        let (back, kept): (Vec<Attempt>, Vec<Attempt>) = waiting.into_iter().partition(may);
        let count = back.len();
        self.stall_detector.given_back(count + kept.len());
        kept.into_iter().for_each(|attempt| self.hand_out(attempt));
        self.give_back(back);
        count
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn consumers_that_take_something_now_and_then_do_not_stall() {
        let (mut stall, start) = (StallDetector::new(), Instant::now());
        let at = |looks: u32| start + looks * LOOK;
        // Nothing arrives for long, and then three messages at once.
        assert_eq!(stall.look(0, at(50)), None);
        (0..3).for_each(|_| stall.handed_out());
        assert_eq!(stall.look(3, at(51)), None);
        assert_eq!(stall.look(2, at(52)), None);
        assert_eq!(stall.look(1, at(53)), None);
        assert_eq!(stall.look(1, at(54)), Some(LOOK));
        // A message goes back and comes again: the same long tasks still run.
        stall.given_back(1);
        assert_eq!(stall.look(0, at(55)), None);
        stall.handed_out();
        assert_eq!(stall.look(1, at(56)), None);
        assert_eq!(stall.look(1, at(57)), Some(4 * LOOK));
    }

    #[test]
    fn a_process_that_stood_still_has_not_seen_its_consumers_stall() {
        let (mut stall, start) = (StallDetector::new(), Instant::now());
        let at = |looks: u32| start + looks * LOOK;
        stall.handed_out();
        assert_eq!(stall.look(1, at(1)), None);
        assert!(stall.look(1, at(2)).is_some());
        // All missed looks happen at once.
        assert_eq!(stall.look(1, at(9)), None);
        assert_eq!(stall.look(1, at(9)), None);
        assert_eq!(stall.look(1, at(9)), None);
        assert!(stall.look(1, at(10)).is_some());
    }
}
