//! Decides how many messages a set takes from the broker.
//!
//! With long tasks it takes few, as another host could run messages that wait here. With short tasks it takes many in
//! a burst, as a claim and a record cost about the same for one message as for hundreds. A second broker consumer has
//! the prefetch of the burst, or the [extra prefetch for row waits](super::row_wait_prefetch) if that is larger.

use std::time::Instant;

use super::ConsumerSetActor;
use super::row_wait_prefetch::{
    BacklogSize, COUNTED_MAX_STEP, MAX_BYTES, MAX_STEP, MIN_DURATION, RowWaitPrefetch,
};
use super::row_waits::RowWaitStats;
use crate::broker::SubscriptionCommand;
use crate::config::QueueConfig;

/// The weight of the newest batch in the average.
const WEIGHT: f64 = 0.3;

#[derive(Debug)]
pub(super) struct Prefetch {
    /// The prefetch without a burst.
    base: usize,
    /// The most messages that a burst adds.
    max_burst: u16,
    /// How many messages the present burst adds, and since when.
    burst: Option<(u16, Instant)>,
    /// The smoothed size of a body, in bytes.
    average_body: f64,
    row_wait_prefetch: RowWaitPrefetch,
}

impl Prefetch {
    pub(super) fn new(queue: &QueueConfig) -> Self {
        let step = match queue.counts_returns() {
            // A second broker consumer would be sent nothing.
            _ if queue.has_a_single_active_consumer() => 0,
            true => COUNTED_MAX_STEP,
            false => MAX_STEP,
        };
        Self::of(queue.prefetch(), queue.burst(), step)
    }

    fn of(base: u16, max_burst: u16, step: usize) -> Self {
        Self {
            base: usize::from(base),
            max_burst,
            burst: None,
            average_body: 0.0,
            row_wait_prefetch: RowWaitPrefetch {
                max_step: step,
                extra: None,
            },
        }
    }

    /// Starts again with the settings for a queue that counts returns.
    pub(super) fn count_returns(&mut self, queue: &QueueConfig) {
        let step = self.row_wait_prefetch.max_step.min(COUNTED_MAX_STEP);
        *self = Self::of(queue.prefetch_if(true), 0, step);
    }

    /// Whether a burst for short tasks is under way.
    pub(super) const fn is_bursting(&self) -> bool {
        self.burst.is_some()
    }

    /// Whether the prefetch is raised to make up for messages that wait for their rows.
    pub(super) const fn is_raised_for_row_waits(&self) -> bool {
        self.row_wait_prefetch.extra.is_some()
    }

    /// How many messages may wait here unclaimed. `None` for no limit.
    pub(super) fn room(&self) -> Option<usize> {
        match self.burst {
            Some(_) => None,
            // Not less than the prefetch of both broker consumers: what went back would come again.
            None => Some(self.base + usize::from(self.second_prefetch())),
        }
    }

    /// How many messages may be claimed and not finished if the claim window wants this many.
    pub(super) fn limit(&self, wanted: usize) -> usize {
        let more = self.burst.map_or(0, |(more, _)| usize::from(more));
        wanted.min(self.base + more)
    }

    /// Notes that `count` messages arrived, with `bytes` in their bodies.
    pub(super) fn arrived(&mut self, count: usize, bytes: usize) {
        if count > 0 {
            #[expect(clippy::cast_precision_loss, reason = "an average")]
            let average = bytes as f64 / count as f64;
            self.average_body = WEIGHT.mul_add(average - self.average_body, self.average_body);
        }
    }

    /// Notes that the connection is a new one, without a second broker consumer.
    pub(super) const fn reset(&mut self) {
        self.burst = None;
        self.row_wait_prefetch.extra = None;
    }

    /// The prefetch of the second broker consumer.
    fn second_prefetch(&self) -> u16 {
        let more =
            [self.burst, self.row_wait_prefetch.extra].map(|now| now.map_or(0, |(more, _)| more));
        more[0].max(more[1])
    }

    /// The new prefetch of the second broker consumer, if it is to be replaced.
    pub(super) fn change(
        &mut self,
        wanted: usize,
        row_waits: &RowWaitStats,
        backlog: &BacklogSize,
        now: Instant,
    ) -> Option<u16> {
        let more = usize::from(self.second_prefetch());
        let row_wait_change = self
            .row_wait_prefetch
            .change(self.base, more, row_waits, backlog, now);
        if let Some(more) = row_wait_change {
            self.row_wait_prefetch.extra = more.map(|more| (more, now));
        }
        let burst_changed = self.change_burst(wanted, now);
        (row_wait_change.is_some() || burst_changed).then(|| self.second_prefetch())
    }

    /// Begins or ends a burst.
    fn change_burst(&mut self, wanted: usize, now: Instant) -> bool {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a size in bytes"
        )]
        let room = MAX_BYTES / (self.average_body as usize).max(1);
        match self.burst {
            None if wanted > self.base => {
                let more = u16::try_from(room).unwrap_or(u16::MAX).min(self.max_burst);
                // A smaller burst is not worth a request to the broker.
                if usize::from(more) > self.base {
                    self.burst = Some((more, now));
                }
                self.is_bursting()
            }
            // Twice the room, as sizes vary.
            Some((more, since))
                if usize::from(more) > room.saturating_mul(2)
                    || (wanted <= self.base.div_ceil(2)
                        && now.saturating_duration_since(since) >= MIN_DURATION) =>
            {
                self.burst = None;
                true
            }
            _ => false,
        }
    }
}

impl ConsumerSetActor {
    /// Adjusts the prefetch to the length of the tasks and to the messages that wait for their rows, and gives back
    /// what is too much.
    pub(super) fn adjust_prefetch(&mut self) {
        if self.stopping {
            return;
        }
        let now = Instant::now();
        let row_waits = self.row_waits.stats(now);
        let with_rows = || self.backlog.iter().filter(|one| !one.may_lack_row());
        let not_begun = self.unstarted_attempts.len();
        let backlog = BacklogSize {
            all: self.backlog.len() + not_begun,
            with_rows: if self.prefetch.is_raised_for_row_waits() {
                with_rows().count() + not_begun
            } else {
                0
            },
        };
        let change = self
            .prefetch
            .change(self.claim_window.wanted(), &row_waits, &backlog, now);
        let Some(more) = change else { return };
        log::debug!(
            "queue {}: taking {more} messages beyond its prefetch; {} wait for their rows",
            self.name,
            row_waits.count
        );
        self.row_waits.mark_new_consumer();
        self.send_command(SubscriptionCommand::Prefetch {
            more,
            epoch: self.epoch,
        });
        self.return_excess();
    }

    /// Gives back messages beyond the prefetch, as other hosts may have time for them. Keeps messages of a lost
    /// connection, of which the broker may have no copy, and messages of a queue that counts returns and may drop them.
    pub(super) fn return_excess(&mut self) {
        let Some(room) = self
            .prefetch
            .room()
            .filter(|_| !self.broker_copies.queue_counts_returns())
        else {
            return;
        };
        let mut handles = Vec::new();
        while self.backlog.len() > room
            && let Some(last) = self.backlog.back()
            && last.envelope().handle.epoch == self.epoch
        {
            handles.push(last.envelope().handle);
            self.backlog.pop_back();
        }
        self.settle(Vec::new(), handles);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONE: RowWaitStats = RowWaitStats {
        count: 0,
        fresh: 0,
        bytes: 0,
        is_long: false,
    };

    const fn with(count: usize) -> BacklogSize {
        BacklogSize {
            all: count,
            with_rows: count,
        }
    }

    /// `count` small messages that have waited for long, all delivered to the present broker consumers.
    fn waiting(count: usize) -> RowWaitStats {
        RowWaitStats {
            count,
            fresh: count,
            bytes: 100 * count,
            is_long: true,
        }
    }

    #[test]
    fn a_burst_begins_with_short_tasks_and_ends_with_long_ones_but_not_at_once() {
        let mut prefetch = Prefetch::of(8, 1000, MAX_STEP);
        let start = Instant::now();
        prefetch.arrived(8, 1600);
        assert_eq!((prefetch.limit(4), prefetch.room()), (4, Some(8)));
        assert_eq!(prefetch.change(8, &NONE, &with(0), start), None);
        assert_eq!(prefetch.limit(400), 8);
        assert_eq!(prefetch.change(400, &NONE, &with(0), start), Some(1000));
        assert_eq!(prefetch.change(400, &NONE, &with(0), start), None);
        assert_eq!(prefetch.limit(400), 400);
        assert_eq!((prefetch.limit(5000), prefetch.room()), (1008, None));
        assert_eq!(prefetch.change(4, &NONE, &with(0), start), None);
        assert_eq!(
            prefetch.change(5, &NONE, &with(0), start + MIN_DURATION),
            None
        );
        assert_eq!(
            prefetch.change(4, &NONE, &with(0), start + MIN_DURATION),
            Some(0)
        );
        assert_eq!(prefetch.limit(400), 8);
    }

    #[test]
    fn large_messages_make_a_small_burst_or_none() {
        let start = Instant::now();
        let mut prefetch = Prefetch::of(8, 1000, MAX_STEP);
        (0..20).for_each(|_| prefetch.arrived(1, 100_000));
        let more = prefetch.change(400, &NONE, &with(0), start).unwrap();
        assert!((80..100).contains(&more), "{more}");
        (0..20).for_each(|_| prefetch.arrived(1, 2_000_000));
        assert_eq!(prefetch.change(400, &NONE, &with(0), start), Some(0));
        assert_eq!(prefetch.change(400, &NONE, &with(0), start), None);
    }

    #[test]
    fn a_prefetch_that_is_set_is_kept_to() {
        let mut prefetch = Prefetch::of(8, 0, MAX_STEP);
        assert_eq!(prefetch.change(400, &NONE, &with(0), Instant::now()), None);
        assert_eq!(prefetch.limit(400), 8);
    }

    /// Delivers only messages without rows, and returns how many wait in the end, and after how many steps.
    fn flood(prefetch: &mut Prefetch, body: usize) -> (usize, usize) {
        let now = Instant::now();
        let mut all = prefetch.base;
        let mut fresh = all;
        for steps in 0.. {
            let waiting = RowWaitStats {
                count: all,
                fresh,
                bytes: body * all,
                is_long: true,
            };
            let Some(more) = prefetch.change(1, &waiting, &with(0), now) else {
                return (all, steps);
            };
            fresh = more.into();
            all += fresh;
        }
        unreachable!()
    }

    #[test]
    fn what_waits_for_rows_is_made_up_for_in_few_steps_and_within_bounds() {
        for (base, max_burst) in [(1, 0), (2, 1000), (8, 0), (200, 1000)] {
            let (all, steps) = flood(&mut Prefetch::of(base, max_burst, MAX_STEP), 100);
            assert_eq!(all, 1000, "{base}");
            assert!(steps <= 16, "{base}: {steps}");
        }
        let (all, steps) = flood(&mut Prefetch::of(2, 0, COUNTED_MAX_STEP), 100);
        assert!(all == 1000 && steps <= 36, "{all} {steps}");
        let (all, _) = flood(&mut Prefetch::of(2, 0, MAX_STEP), 1 << 20);
        assert_eq!(all, 8);
        // A queue with a single active consumer would send nothing to a second one.
        assert_eq!(flood(&mut Prefetch::of(2, 0, 0), 100), (2, 0));
    }

    #[test]
    fn nothing_is_made_up_for_where_rows_are_about_to_come_or_others_are_at_hand() {
        let now = Instant::now();
        let mut prefetch = Prefetch::of(8, 0, MAX_STEP);
        let soon = RowWaitStats {
            is_long: false,
            ..waiting(8)
        };
        assert_eq!(prefetch.change(1, &soon, &with(0), now), None);
        assert_eq!(prefetch.change(1, &waiting(4), &with(0), now), None);
        assert_eq!(prefetch.change(1, &waiting(8), &with(4), now), None);
        assert_eq!(prefetch.change(1, &waiting(8), &with(0), now), Some(16));
        let before = |fresh| RowWaitStats {
            fresh,
            ..waiting(8 + fresh)
        };
        assert_eq!(prefetch.change(1, &before(0), &with(0), now), None);
        assert_eq!(prefetch.change(1, &before(12), &with(0), now), None);
        assert_eq!(prefetch.change(1, &before(13), &with(0), now), Some(32));
    }

    #[test]
    fn what_is_made_up_for_is_less_once_others_come_in_its_place() {
        let now = Instant::now();
        let mut prefetch = Prefetch::of(2, 0, MAX_STEP);
        assert_eq!(prefetch.change(1, &waiting(30), &with(0), now), Some(32));
        let later = now + MIN_DURATION;
        assert_eq!(prefetch.change(1, &waiting(30), &with(4), later), None);
        assert_eq!(prefetch.change(1, &waiting(30), &with(5), now), None);
        assert_eq!(prefetch.change(1, &waiting(30), &with(5), later), Some(2));
        assert_eq!(prefetch.room(), Some(4));
        assert_eq!(prefetch.change(1, &waiting(30), &with(5), later), None);
    }

    #[test]
    fn what_is_made_up_for_is_not_claimed_ahead_and_ends_with_the_waiting() {
        let now = Instant::now();
        let mut prefetch = Prefetch::of(8, 1000, MAX_STEP);
        assert_eq!(prefetch.change(8, &waiting(8), &with(0), now), Some(16));
        assert_eq!((prefetch.limit(400), prefetch.room()), (8, Some(24)));
        // A burst for short tasks also covers the row waits.
        assert_eq!(
            prefetch.change(400, &waiting(8), &with(400), now),
            Some(1000)
        );
        assert_eq!(
            prefetch.change(4, &waiting(8), &with(4), now + MIN_DURATION),
            Some(16)
        );
        assert_eq!(prefetch.change(4, &NONE, &with(4), now), None);
        assert_eq!(
            prefetch.change(4, &NONE, &with(4), now + MIN_DURATION),
            Some(0)
        );
        assert_eq!(prefetch.room(), Some(8));
    }
}
