//! Short tasks are followed by long ones: what was claimed ahead goes back, as another host may have time
//! for it.

use std::time::Duration;

use actix::prelude::*;

use super::ConsumerSetActor;

/// Consumers that have begun nothing for so long, though messages wait for them, have long tasks.
const STALLED: Duration = Duration::from_secs(1);

/// Whether the consumers take what they are handed.
#[derive(Debug, Default)]
pub(super) struct Stall {
    /// How many jobs they were handed.
    handed_out: usize,
    /// How many of those they had taken at the last look, if some waited then.
    taken: Option<usize>,
}

impl Stall {
    pub(super) const fn handed_out(&mut self) {
        self.handed_out = self.handed_out.wrapping_add(1);
    }

    /// Whether none was taken since the last look, though some waited, and still do.
    fn look(&mut self, waiting: usize) -> bool {
        let taken = (waiting > 0).then(|| self.handed_out.wrapping_sub(waiting));
        let before = std::mem::replace(&mut self.taken, taken);
        taken.is_some() && before == taken
    }
}

impl ConsumerSetActor {
    pub(super) fn look_for_stalls(&self, context: &mut Context<Self>) {
        context.run_interval(STALLED, |set, _| {
            if !set.stopping && set.stall.look(set.waiting_jobs.len()) {
                set.pace.runs_for(STALLED);
                set.give_back_the_waiting();
                set.adapt();
            }
        });
    }

    /// Gives back what is claimed and not begun, rows first: a django-carrot consumer throws away what is
    /// not PUBLISHED. How many.
    pub(super) fn give_back_the_waiting(&self) -> usize {
        let waiting: Vec<String> = self.waiting_jobs.try_iter().map(|job| job.key).collect();
        let count = waiting.len();
        if count > 0 {
            log::debug!("queue {}: {count} messages go back unrun", self.name);
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
        let mut stall = Stall::default();
        (0..3).for_each(|_| stall.handed_out());
        assert!(!stall.look(2));
        assert!(!stall.look(1));
        assert!(stall.look(1));
        assert!(!stall.look(0));
        stall.handed_out();
        assert!(!stall.look(1));
        assert!(stall.look(1));
    }
}
