//! The extra prefetch while messages wait for their rows: those count against the prefetch, and occupy no consumer.

use std::time::{Duration, Instant};

use super::row_waits::RowWaitStats;

/// The shortest time between a raise of the prefetch and its end, so that a mixture of tasks does not change the
/// prefetch with each batch.
pub(super) const MIN_DURATION: Duration = Duration::from_secs(1);

/// The most bytes of bodies in the raised prefetch, by their average size.
pub(super) const MAX_BYTES: usize = 8 * 1024 * 1024;

/// The most messages that may wait for their rows.
const MAX_ROW_WAITS: usize = 1000;

/// The largest step by which the prefetch is raised, as messages with rows may come in place of those that wait.
pub(super) const MAX_STEP: usize = 128;

/// The largest step for a queue that counts returns.
pub(super) const COUNTED_MAX_STEP: usize = 32;

/// How many messages wait to be claimed or to be run.
#[derive(Debug, Clone, Copy)]
pub(super) struct BacklogSize {
    pub(super) all: usize,
    /// Those whose rows are known to exist.
    pub(super) with_rows: usize,
}

/// The extra prefetch that makes up for messages that wait for their rows.
#[derive(Debug)]
pub(super) struct RowWaitPrefetch {
    /// The largest step, unless the base prefetch is larger; 0 for no extra prefetch.
    pub(super) max_step: usize,
    /// The extra prefetch, and since when it holds.
    pub(super) extra: Option<(u16, Instant)>,
}

impl RowWaitPrefetch {
    /// The new extra prefetch, so that `base` messages can come beside those that wait for their rows: `Some(None)`
    /// ends it, and `None` changes nothing. `more` is the present prefetch of the second broker consumer; when that
    /// consumer is replaced, the deliveries of the old one do not count against the new one's prefetch.
    pub(super) fn change(
        &self,
        base: usize,
        more: usize,
        row_waits: &RowWaitStats,
        backlog: &BacklogSize,
        now: Instant,
    ) -> Option<Option<u16>> {
        let is_old = |since| now.saturating_duration_since(since) >= MIN_DURATION;
        if row_waits.count == 0 {
            let is_over = |(_, since)| is_old(since);
            return self.extra.is_some_and(is_over).then_some(None);
        }
        let is_too_much = |(more, since)| usize::from(more) > base && is_old(since);
        if backlog.with_rows > 2 * base && self.extra.is_some_and(is_too_much) {
            return Some(Some(u16::try_from(base).unwrap_or(u16::MAX)));
        }
        let is_backlog_short = backlog.all < base.div_ceil(2);
        let before = (row_waits.count - row_waits.fresh).min(base);
        let free = (base + more).saturating_sub(before + row_waits.fresh);
        let is_wanted = row_waits.is_long && is_backlog_short && free < base.div_ceil(2);
        if self.max_step == 0 || !is_wanted {
            return None;
        }
        let body = (row_waits.bytes / row_waits.count).max(1);
        let room = (MAX_ROW_WAITS.saturating_sub(row_waits.count))
            .min(MAX_BYTES.saturating_sub(row_waits.bytes) / body);
        let wanted = (row_waits.count + base).next_power_of_two();
        let step = wanted.min(self.max_step.max(base));
        // The last step takes all the room, so that no small step remains.
        let step = if room < step * 3 / 2 { room } else { step };
        // A smaller step is not worth a request to the broker.
        (step > 0 && step * 32 >= row_waits.count)
            .then(|| Some(u16::try_from(step).unwrap_or(u16::MAX)))
    }
}
