//! How many messages a set takes from the broker.
//!
//! With long tasks, few: what waits here could be run by another host. With short ones, many: a claim
//! and a record cost about the same for one message as for hundreds. And as many more as wait for their
//! rows: those hold the prefetch, and no consumer.

use std::time::{Duration, Instant};

use super::ConsumerSetActor;
use super::row_waits::RowWaitStats;
use crate::broker::SubscriptionCommand;
use crate::config::QueueConfig;

/// A burst goes on for so long at least, lest a mixture of tasks begins one with each batch.
const MIN_BURST: Duration = Duration::from_secs(1);

/// What a burst may hold, in bytes of bodies, by their average.
const MAX_BYTES: usize = 8 * 1024 * 1024;

/// So many messages may wait for their rows.
const MAX_ROW_WAITS: usize = 1000;

/// What waits for its row is made up for in steps of so many at most, as others may come in their place.
const MAX_STEP: usize = 128;

/// The same for a queue that counts what comes back.
const COUNTED_MAX_STEP: usize = 32;

/// The weight of the newest batch in the average.
const WEIGHT: f64 = 0.3;

#[derive(Debug)]
pub(super) struct Prefetch {
    /// Messages without a burst.
    base: usize,
    /// What a burst adds.
    max_burst: u16,
    /// What the burst under way adds, and since when.
    now: Option<(u16, Instant)>,
    /// The size of a body in bytes, smoothed.
    body: f64,
    row_wait_prefetch: RowWaitPrefetch,
}

/// What waits to be claimed, or to be run.
#[derive(Debug, Clone, Copy)]
pub(super) struct BacklogSize {
    all: usize,
    /// Those that need not wait for a row.
    with_rows: usize,
}

/// What is taken in place of messages that wait for their rows.
#[derive(Debug)]
struct RowWaitPrefetch {
    /// At most so many at once, or as many as the prefetch, if that is more; 0 for none.
    step: usize,
    /// How many, and since when.
    now: Option<(u16, Instant)>,
}

impl RowWaitPrefetch {
    /// How many messages more are to be asked for, so that as many as the prefetch of `base` can come beside
    /// those that wait. `more` is the prefetch of the second consumer: one that begins anew is not
    /// held up by what the one before has brought.
    fn change(
        &self,
        base: usize,
        more: usize,
        waiting: &RowWaitStats,
        backlog: &BacklogSize,
        now: Instant,
    ) -> Option<Option<u16>> {
        let is_old = |since| now.saturating_duration_since(since) >= MIN_BURST;
        if waiting.count == 0 {
            let is_over = |(_, since)| is_old(since);
            return self.now.is_some_and(is_over).then_some(None);
        }
        let is_too_much = |(more, since)| usize::from(more) > base && is_old(since);
        if backlog.with_rows > 2 * base && self.now.is_some_and(is_too_much) {
            return Some(Some(u16::try_from(base).unwrap_or(u16::MAX)));
        }
        let is_backlog_short = backlog.all < base.div_ceil(2);
        let before = (waiting.count - waiting.fresh).min(base);
        let free = (base + more).saturating_sub(before + waiting.fresh);
        let is_wanted = waiting.is_long && is_backlog_short && free < base.div_ceil(2);
        if self.step == 0 || !is_wanted {
            return None;
        }
        let body = (waiting.bytes / waiting.count).max(1);
        let room = (MAX_ROW_WAITS.saturating_sub(waiting.count))
            .min(MAX_BYTES.saturating_sub(waiting.bytes) / body);
        let wanted = (waiting.count + base).next_power_of_two();
        let step = wanted.min(self.step.max(base));
        // No small step is left for later.
        let step = if room < step * 3 / 2 { room } else { step };
        // Not worth a word to the broker otherwise.
        (step > 0 && step * 32 >= waiting.count)
            .then(|| Some(u16::try_from(step).unwrap_or(u16::MAX)))
    }
}

impl Prefetch {
    pub(super) fn new(queue: &QueueConfig) -> Self {
        let step = match queue.counts_returns() {
            // A second consumer would be sent nothing.
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
            now: None,
            body: 0.0,
            row_wait_prefetch: RowWaitPrefetch { step, now: None },
        }
    }

    /// The queue counts what comes back, and is taken from anew.
    pub(super) fn count_returns(&mut self, queue: &QueueConfig) {
        let step = self.row_wait_prefetch.step.min(COUNTED_MAX_STEP);
        *self = Self::of(queue.prefetch_if(true), 0, step);
    }

    /// Whether there is one, for short tasks.
    pub(super) const fn is_bursting(&self) -> bool {
        self.now.is_some()
    }

    /// Whether more is taken in place of what waits for its row.
    pub(super) const fn is_raised_for_row_waits(&self) -> bool {
        self.row_wait_prefetch.now.is_some()
    }

    /// How many messages may wait here unclaimed; `None` for all that have come.
    pub(super) fn room(&self) -> Option<usize> {
        match self.now {
            Some(_) => None,
            // No fewer than both consumers bring: they would come again.
            None => Some(self.base + usize::from(self.more())),
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
        self.row_wait_prefetch.now = None;
    }

    /// The prefetch of the second consumer.
    fn more(&self) -> u16 {
        let more =
            [self.now, self.row_wait_prefetch.now].map(|now| now.map_or(0, |(more, _)| more));
        more[0].max(more[1])
    }

    /// The prefetch of the second consumer from now on, if that is to begin anew.
    pub(super) fn change(
        &mut self,
        wanted: usize,
        waiting: &RowWaitStats,
        backlog: &BacklogSize,
        now: Instant,
    ) -> Option<u16> {
        let more = usize::from(self.more());
        let row_wait_prefetch = self
            .row_wait_prefetch
            .change(self.base, more, waiting, backlog, now);
        if let Some(more) = row_wait_prefetch {
            self.row_wait_prefetch.now = more.map(|more| (more, now));
        }
        let burst_changed = self.change_burst(wanted, now);
        (row_wait_prefetch.is_some() || burst_changed).then(|| self.more())
    }

    /// Begins or ends a burst.
    fn change_burst(&mut self, wanted: usize, now: Instant) -> bool {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a size in bytes"
        )]
        let room = MAX_BYTES / (self.body as usize).max(1);
        match self.now {
            None if wanted > self.base => {
                let more = u16::try_from(room).unwrap_or(u16::MAX).min(self.max_burst);
                // Not worth a word to the broker otherwise.
                if usize::from(more) > self.base {
                    self.now = Some((more, now));
                }
                self.is_bursting()
            }
            // Twice: sizes vary.
            Some((more, since))
                if usize::from(more) > room.saturating_mul(2)
                    || (wanted <= self.base.div_ceil(2)
                        && now.saturating_duration_since(since) >= MIN_BURST) =>
            {
                self.now = None;
                true
            }
            _ => false,
        }
    }
}

impl ConsumerSetActor {
    /// Takes more messages from the broker, or fewer, as the tasks are, and as many more as wait for
    /// their rows; what is too much then goes back.
    pub(super) fn adjust_prefetch(&mut self) {
        if self.stopping {
            return;
        }
        let now = Instant::now();
        let waiting = self.row_waits.stats(now);
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
            .change(self.claim_window.wanted(), &waiting, &backlog, now);
        let Some(more) = change else { return };
        log::debug!(
            "queue {}: {more} messages more than its prefetch; {} wait for their rows",
            self.name,
            waiting.count
        );
        self.row_waits.mark_new_consumer();
        self.command(SubscriptionCommand::Prefetch {
            more,
            epoch: self.epoch,
        });
        self.return_excess();
    }

    /// Gives back what has arrived beyond the prefetch: others may have time for it. Not what a
    /// connection brought that is gone: the broker may not have it any more; nor what a queue drops in the
    /// end that comes back too often.
    pub(super) fn return_excess(&mut self) {
        let Some(room) = self
            .prefetch
            .room()
            .filter(|_| !self.broker_copies.queue_counts_returns())
        else {
            return;
        };
        let mut receipts = Vec::new();
        while self.backlog.len() > room
            && let Some(last) = self.backlog.back()
            && last.envelope().receipt.epoch == self.epoch
        {
            receipts.push(last.envelope().receipt);
            self.backlog.pop_back();
        }
        self.settle(Vec::new(), receipts);
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

    /// So many small ones have waited for long, all of which the present consumers brought.
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
        let mut burst = Prefetch::of(8, 1000, MAX_STEP);
        let start = Instant::now();
        burst.arrived(8, 1600);
        assert_eq!((burst.limit(4), burst.room()), (4, Some(8)));
        assert_eq!(burst.change(8, &NONE, &with(0), start), None);
        assert_eq!(burst.limit(400), 8);
        assert_eq!(burst.change(400, &NONE, &with(0), start), Some(1000));
        assert_eq!(burst.change(400, &NONE, &with(0), start), None);
        assert_eq!(burst.limit(400), 400);
        assert_eq!((burst.limit(5000), burst.room()), (1008, None));
        assert_eq!(burst.change(4, &NONE, &with(0), start), None);
        assert_eq!(burst.change(5, &NONE, &with(0), start + MIN_BURST), None);
        assert_eq!(burst.change(4, &NONE, &with(0), start + MIN_BURST), Some(0));
        assert_eq!(burst.limit(400), 8);
    }

    #[test]
    fn large_messages_make_a_small_burst_or_none() {
        let start = Instant::now();
        let mut burst = Prefetch::of(8, 1000, MAX_STEP);
        (0..20).for_each(|_| burst.arrived(1, 100_000));
        let more = burst.change(400, &NONE, &with(0), start).unwrap();
        assert!((80..100).contains(&more), "{more}");
        (0..20).for_each(|_| burst.arrived(1, 2_000_000));
        assert_eq!(burst.change(400, &NONE, &with(0), start), Some(0));
        assert_eq!(burst.change(400, &NONE, &with(0), start), None);
    }

    #[test]
    fn a_prefetch_that_is_set_is_kept_to() {
        let mut burst = Prefetch::of(8, 0, MAX_STEP);
        assert_eq!(burst.change(400, &NONE, &with(0), Instant::now()), None);
        assert_eq!(burst.limit(400), 8);
    }

    /// All that comes lacks its row: how many wait in the end, and in how many steps.
    fn flood(burst: &mut Prefetch, body: usize) -> (usize, usize) {
        let now = Instant::now();
        let mut all = burst.base;
        let mut fresh = all;
        for steps in 0.. {
            let waiting = RowWaitStats {
                count: all,
                fresh,
                bytes: body * all,
                is_long: true,
            };
            let Some(more) = burst.change(1, &waiting, &with(0), now) else {
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
        // A second consumer of a single active one would be sent nothing.
        assert_eq!(flood(&mut Prefetch::of(2, 0, 0), 100), (2, 0));
    }

    #[test]
    fn nothing_is_made_up_for_where_rows_are_about_to_come_or_others_are_at_hand() {
        let now = Instant::now();
        let mut burst = Prefetch::of(8, 0, MAX_STEP);
        let soon = RowWaitStats {
            is_long: false,
            ..waiting(8)
        };
        assert_eq!(burst.change(1, &soon, &with(0), now), None);
        assert_eq!(burst.change(1, &waiting(4), &with(0), now), None);
        assert_eq!(burst.change(1, &waiting(8), &with(4), now), None);
        assert_eq!(burst.change(1, &waiting(8), &with(0), now), Some(16));
        let before = |fresh| RowWaitStats {
            fresh,
            ..waiting(8 + fresh)
        };
        assert_eq!(burst.change(1, &before(0), &with(0), now), None);
        assert_eq!(burst.change(1, &before(12), &with(0), now), None);
        assert_eq!(burst.change(1, &before(13), &with(0), now), Some(32));
    }

    #[test]
    fn what_is_made_up_for_is_less_once_others_come_in_its_place() {
        let now = Instant::now();
        let mut burst = Prefetch::of(2, 0, MAX_STEP);
        assert_eq!(burst.change(1, &waiting(30), &with(0), now), Some(32));
        let later = now + MIN_BURST;
        assert_eq!(burst.change(1, &waiting(30), &with(4), later), None);
        assert_eq!(burst.change(1, &waiting(30), &with(5), now), None);
        assert_eq!(burst.change(1, &waiting(30), &with(5), later), Some(2));
        assert_eq!(burst.room(), Some(4));
        assert_eq!(burst.change(1, &waiting(30), &with(5), later), None);
    }

    #[test]
    fn what_is_made_up_for_is_not_claimed_ahead_and_ends_with_the_waiting() {
        let now = Instant::now();
        let mut burst = Prefetch::of(8, 1000, MAX_STEP);
        assert_eq!(burst.change(8, &waiting(8), &with(0), now), Some(16));
        assert_eq!((burst.limit(400), burst.room()), (8, Some(24)));
        // A burst for short tasks is large enough for both.
        assert_eq!(burst.change(400, &waiting(8), &with(400), now), Some(1000));
        assert_eq!(
            burst.change(4, &waiting(8), &with(4), now + MIN_BURST),
            Some(16)
        );
        assert_eq!(burst.change(4, &NONE, &with(4), now), None);
        assert_eq!(burst.change(4, &NONE, &with(4), now + MIN_BURST), Some(0));
        assert_eq!(burst.room(), Some(8));
    }
}
