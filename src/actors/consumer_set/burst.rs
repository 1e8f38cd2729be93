//! How many messages a set takes from the broker.
//!
//! With long tasks, few: what waits here could be run by another host. With short ones, many: a claim
//! and a record cost about the same for one message as for hundreds.

use std::time::{Duration, Instant};

use super::ConsumerSetActor;
use crate::broker::Command;

/// A burst goes on for so long at least, lest a mixture of tasks begins one with each batch.
const SHORTEST: Duration = Duration::from_secs(1);

/// What a burst may hold, in bytes of bodies, by their average.
const MOST_BYTES: usize = 8 * 1024 * 1024;

/// The weight of the newest batch in the average.
const WEIGHT: f64 = 0.3;

#[derive(Debug)]
pub(super) struct Burst {
    /// Messages without a burst.
    base: usize,
    /// What a burst adds.
    most: u16,
    /// What the burst under way adds, and since when.
    now: Option<(u16, Instant)>,
    /// The size of a body in bytes, smoothed.
    body: f64,
}

impl Burst {
    pub(super) fn new(base: u16, most: u16) -> Self {
        Self {
            base: usize::from(base),
            most,
            now: None,
            body: 0.0,
        }
    }

    /// How many messages may wait here unclaimed; `None` for all that have come.
    pub(super) const fn room(&self) -> Option<usize> {
        match self.now {
            Some(_) => None,
            None => Some(self.base),
        }
    }

    /// How many messages may be claimed and not finished, when so many are wanted.
    pub(super) fn limit(&self, wanted: usize) -> usize {
        let more = self.now.map_or(0, |(more, _)| usize::from(more));
        wanted.min(self.base + more)
    }

    /// So many messages arrived, with so many bytes in their bodies.
    pub(super) fn arrived(&mut self, count: usize, bytes: usize) {
        if count > 0 {
            #[expect(clippy::cast_precision_loss, reason = "an average")]
            let average = bytes as f64 / count as f64;
            self.body = WEIGHT.mul_add(average - self.body, self.body);
        }
    }

    /// The connection is a new one, without a burst.
    pub(super) const fn reset(&mut self) {
        self.now = None;
    }

    /// What is to be added from now on, if that changes.
    pub(super) fn change(&mut self, wanted: usize, now: Instant) -> Option<u16> {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a size in bytes"
        )]
        let room = MOST_BYTES / (self.body as usize).max(1);
        match self.now {
            None if wanted > self.base => {
                let more = u16::try_from(room).unwrap_or(u16::MAX).min(self.most);
                // Not worth a word to the broker otherwise.
                (usize::from(more) > self.base).then(|| {
                    self.now = Some((more, now));
                    more
                })
            }
            // Twice: sizes vary.
            Some((more, since))
                if usize::from(more) > room.saturating_mul(2)
                    || (wanted <= self.base.div_ceil(2)
                        && now.saturating_duration_since(since) >= SHORTEST) =>
            {
                self.now = None;
                Some(0)
            }
            _ => None,
        }
    }
}

impl ConsumerSetActor {
    /// Takes more messages from the broker, or fewer, as the tasks are; what is too much then goes
    /// back.
    pub(super) fn adapt(&mut self) {
        if self.stopping || self.copies.are_counted() {
            return;
        }
        let Some(more) = self.burst.change(self.pace.wanted(), Instant::now()) else {
            return;
        };
        log::debug!(
            "queue {}: {more} messages more than its prefetch",
            self.name
        );
        self.command(Command::Burst {
            more,
            epoch: self.epoch,
        });
        self.shed();
    }

    /// Gives back what has arrived beyond the prefetch: others may have time for it. Not what a
    /// connection brought that is gone: the broker may not have it any more.
    pub(super) fn shed(&mut self) {
        let Some(room) = self.burst.room().filter(|_| !self.copies.are_counted()) else {
            return;
        };
        let mut receipts = Vec::new();
        while self.backlog.len() > room
            && let Some(last) = self.backlog.back()
            && last.delivery().receipt.epoch == self.epoch
        {
            receipts.push(last.delivery().receipt);
            self.missing.remove(last.key());
            self.backlog.pop_back();
        }
        self.tell(Vec::new(), receipts);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_begins_with_short_tasks_and_ends_with_long_ones_but_not_at_once() {
        let mut burst = Burst::new(8, 1000);
        let start = Instant::now();
        burst.arrived(8, 1600);
        assert_eq!((burst.limit(4), burst.room()), (4, Some(8)));
        assert_eq!(burst.change(8, start), None);
        assert_eq!(burst.limit(400), 8);
        assert_eq!(burst.change(400, start), Some(1000));
        assert_eq!(burst.change(400, start), None);
        assert_eq!(burst.limit(400), 400);
        assert_eq!((burst.limit(5000), burst.room()), (1008, None));
        assert_eq!(burst.change(4, start), None);
        assert_eq!(burst.change(5, start + SHORTEST), None);
        assert_eq!(burst.change(4, start + SHORTEST), Some(0));
        assert_eq!(burst.limit(400), 8);
    }

    #[test]
    fn large_messages_make_a_small_burst_or_none() {
        let start = Instant::now();
        let mut burst = Burst::new(8, 1000);
        (0..20).for_each(|_| burst.arrived(1, 100_000));
        let more = burst.change(400, start).unwrap();
        assert!((80..100).contains(&more), "{more}");
        (0..20).for_each(|_| burst.arrived(1, 2_000_000));
        assert_eq!(burst.change(400, start), Some(0));
        assert_eq!(burst.change(400, start), None);
    }

    #[test]
    fn a_prefetch_that_is_set_is_kept_to() {
        let mut burst = Burst::new(8, 0);
        assert_eq!(burst.change(400, Instant::now()), None);
        assert_eq!(burst.limit(400), 8);
    }
}
