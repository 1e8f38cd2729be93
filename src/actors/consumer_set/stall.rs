//! Short tasks are followed by long ones: what was claimed ahead goes back, as another host may have time
//! for it.

use std::time::{Duration, Instant};

use actix::prelude::*;

use super::ConsumerSetActor;

/// How often it is looked; a stall is seen at the second look. To give messages back costs two writes and a
/// delivery each, which a shorter wait is not worth.
const LOOK: Duration = Duration::from_secs(5);

/// Whether the consumers take what they are handed.
#[derive(Debug)]
pub(super) struct Stall {
    /// How many jobs they were handed, and have not given back.
    handed_out: usize,
    /// How many of those they had taken at the last look.
    taken: usize,
    /// Since when it was so many.
    since: Instant,
    /// When that was, if some waited.
    waited: Option<Instant>,
}

impl Stall {
    pub(super) fn new() -> Self {
        Self {
            handed_out: 0,
            taken: 0,
            since: Instant::now(),
            waited: None,
        }
    }

    pub(super) const fn handed_out(&mut self) {
        self.handed_out = self.handed_out.wrapping_add(1);
    }

    const fn given_back(&mut self, count: usize) {
        self.handed_out = self.handed_out.wrapping_sub(count);
    }

    /// For how long they have taken none, though some wait, and did at the last look.
    fn look(&mut self, waiting: usize, now: Instant) -> Option<Duration> {
        let taken = self.handed_out.wrapping_sub(waiting);
        let waited = std::mem::replace(&mut self.waited, (waiting > 0).then_some(now));
        if std::mem::replace(&mut self.taken, taken) != taken {
            self.since = now;
            return None;
        }
        // Where this process stood still itself, the consumers may be about to.
        let looked = |then| now.saturating_duration_since(then) < 2 * LOOK;
        (waiting > 0 && waited.is_some_and(looked))
            .then(|| now.saturating_duration_since(self.since))
    }
}

impl ConsumerSetActor {
    pub(super) fn look_for_stalls(&self, context: &mut Context<Self>) {
        // Such a queue drops in the end what comes back too often.
        if self.source.queue.counts_returns() {
            return;
        }
        context.run_interval(LOOK, |set, _| {
            // Without consumers nobody has a long task.
            if set.stopping || set.consumers.is_empty() {
                return;
            }
            let waiting = set.waiting_jobs.len();
            if let Some(time) = set.stall.look(waiting, Instant::now()) {
                set.pace.runs_for(time);
                let count = set.give_back_the_waiting();
                log::debug!("queue {}: {count} messages go back unrun", set.name);
                set.adapt();
            }
        });
    }

    /// Gives back what is claimed and not begun, rows first: a django-carrot consumer throws away what is
    /// not PUBLISHED. How many.
    pub(super) fn give_back_the_waiting(&mut self) -> usize {
        let waiting: Vec<String> = self.waiting_jobs.try_iter().map(|job| job.key).collect();
        let count = waiting.len();
        self.stall.given_back(count);
        if count > 0 {
            self.ledger.release(waiting);
        }
        count
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn consumers_that_take_something_now_and_then_do_not_stall() {
        let (mut stall, start) = (Stall::new(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        // Nothing comes for long, and then some at once.
        assert_eq!(stall.look(0, at(50)), None);
        (0..3).for_each(|_| stall.handed_out());
        assert_eq!(stall.look(3, at(51)), None);
        assert_eq!(stall.look(2, at(52)), None);
        assert_eq!(stall.look(1, at(53)), None);
        assert_eq!(stall.look(1, at(54)), Some(Duration::from_secs(1)));
        // They go back, and come again: it is still the same long task.
        stall.given_back(1);
        assert_eq!(stall.look(0, at(55)), None);
        stall.handed_out();
        assert_eq!(stall.look(1, at(56)), None);
        assert_eq!(stall.look(1, at(57)), Some(Duration::from_secs(4)));
        assert_eq!(stall.look(0, at(58)), None);
        stall.handed_out();
        assert_eq!(stall.look(1, at(59)), None);
        assert_eq!(stall.look(1, at(60)), Some(Duration::from_secs(2)));
        assert_eq!(stall.look(1, at(90)), None);
        assert_eq!(stall.look(1, at(91)), Some(Duration::from_secs(33)));
    }
}
