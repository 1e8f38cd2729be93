//! Deliveries that wait for their rows. django-carrot publishes a message before the transaction that writes its row
//! commits, so the row may come late, or never.
//!
//! These deliveries occupy no consumer, and the set [raises its prefetch](super::row_wait_prefetch) to make up for
//! them. One statement looks up all rows that are due.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use actix::prelude::*;

use super::ConsumerSetActor;
use super::arrival::Arrival;
use crate::broker::{DeliveryHandle, Envelope};

/// How long a row may come after its message.
const ROW_GRACE: Duration = Duration::from_secs(5);

/// The first wait for a row: most transactions end within it.
const FIRST_WAIT: Duration = Duration::from_millis(20);

const MAX_WAIT: Duration = Duration::from_millis(500);

/// A message that has waited this long is not waiting for a transaction that is about to commit.
const LONG_WAIT: Duration = Duration::from_millis(200);

/// Rows that are due this soon are looked up together with those that are due now.
const LOOKUP_TOLERANCE: Duration = Duration::from_millis(10);

/// The most messages of the backlog whose rows are looked up at once.
const MAX_LOOKUPS: usize = 1000;

/// A message that waits for its row.
struct RowWait {
    arrival: Arrival,
    since: Instant,
    next_lookup: Instant,
}

impl RowWait {
    fn new(arrival: Arrival, now: Instant) -> Self {
        Self {
            arrival,
            since: now,
            next_lookup: now + FIRST_WAIT,
        }
    }

    const fn handle(&self) -> DeliveryHandle {
        self.arrival.envelope().handle
    }

    /// Schedules the next lookup after one that found no row.
    fn schedule_next_lookup(&mut self, now: Instant) {
        let missed_for = now.saturating_duration_since(self.since);
        let wait = (missed_for / 2).clamp(FIRST_WAIT, MAX_WAIT);
        self.next_lookup = (now + wait).min(self.since + ROW_GRACE);
    }
}

/// The deliveries of a set that wait for their rows.
#[derive(Default)]
pub(super) struct RowWaits {
    /// In the order in which the first lookups found no row.
    waiting: VecDeque<RowWait>,
    /// Whether the ledger is looking up rows.
    lookup_running: bool,
    /// When the next lookup is due.
    timer: Option<(Instant, SpawnHandle)>,
    /// The tag of the newest delivery.
    newest: u64,
    /// The tag of the newest delivery when the second broker consumer began. Earlier deliveries do not count against
    /// that consumer's prefetch.
    newest_before_mark: u64,
}

/// The size of what waits for its row.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct RowWaitStats {
    pub(super) count: usize,
    /// How many of them count against the prefetch of the present broker consumers.
    pub(super) fresh: usize,
    /// The bytes of their bodies.
    pub(super) bytes: usize,
    /// Whether the oldest has waited for longer than most transactions take.
    pub(super) is_long: bool,
}

impl RowWaits {
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Notes the tag of a delivery.
    pub(super) fn note_delivered(&mut self, tag: u64) {
        self.newest = self.newest.max(tag);
    }

    /// Notes that the second broker consumer starts again.
    pub(super) const fn mark_new_consumer(&mut self) {
        self.newest_before_mark = self.newest;
    }

    /// Notes that the connection is a new one.
    pub(super) const fn reset(&mut self) {
        (self.newest, self.newest_before_mark) = (0, 0);
    }

    /// Removes the deliveries for which `is_one` holds, and returns them.
    pub(super) fn remove_where(
        &mut self,
        is_one: impl Fn(DeliveryHandle) -> bool,
    ) -> Vec<DeliveryHandle> {
        let mut out = Vec::new();
        self.waiting.retain(|row_wait| {
            let handle = row_wait.handle();
            let goes = is_one(handle);
            if goes {
                out.push(handle);
            }
            !goes
        });
        out
    }

    pub(super) fn stats(&self, now: Instant) -> RowWaitStats {
        let mut waiting = RowWaitStats::default();
        for row_wait in &self.waiting {
            waiting.count += 1;
            waiting.fresh += usize::from(row_wait.handle().tag > self.newest_before_mark);
            waiting.bytes += row_wait.arrival.envelope().body.size();
        }
        let oldest = self.waiting.front();
        waiting.is_long =
            oldest.is_some_and(|oldest| now.saturating_duration_since(oldest.since) >= LONG_WAIT);
        waiting
    }

    /// The keys of the messages whose rows are to be looked up now.
    fn due(&self, now: Instant) -> Vec<String> {
        let due = |row_wait: &&RowWait| row_wait.next_lookup <= now + LOOKUP_TOLERANCE;
        let keys = self.waiting.iter().filter(due);
        keys.map(|row_wait| row_wait.arrival.key().to_owned())
            .collect()
    }

    /// Removes and returns the messages whose rows were found, and those whose rows have not come in time.
    fn apply_lookup(
        &mut self,
        looked: &HashMap<String, bool>,
        now: Instant,
    ) -> (Vec<Arrival>, Vec<Arrival>) {
        let (mut found, mut given_up) = (Vec::new(), Vec::new());
        for mut row_wait in std::mem::take(&mut self.waiting) {
            match looked.get(row_wait.arrival.key()) {
                Some(true) => found.push(row_wait.arrival.with_row()),
                Some(false) if now.saturating_duration_since(row_wait.since) >= ROW_GRACE => {
                    given_up.push(row_wait.arrival.given_up());
                }
                was_absent => {
                    if was_absent.is_some() {
                        row_wait.schedule_next_lookup(now);
                    }
                    self.waiting.push_back(row_wait);
                }
            }
        }
        (found, given_up)
    }
}

impl ConsumerSetActor {
    /// Has a message without a row wait for it, if the message's publisher writes one.
    pub(super) fn await_row(&mut self, envelope: Envelope) {
        let arrival = Arrival::without_row(envelope);
        if !arrival.may_lack_row() {
            self.backlog.push_front(arrival);
        } else if self.stopping && !self.broker_copies.are_gone(arrival.epoch()) {
            self.settle(Vec::new(), vec![arrival.envelope().handle]);
        } else {
            let row_wait = RowWait::new(arrival, Instant::now());
            self.row_waits.waiting.push_back(row_wait);
        }
    }

    /// Schedules a lookup for when the first row is due. Looks up rows at once if messages in the backlog may lack
    /// theirs too.
    pub(super) fn schedule_row_lookup(&mut self, context: &mut Context<Self>) {
        if self.row_waits.lookup_running {
            return;
        }
        if self.should_look_ahead() {
            return self.look_for_rows(context);
        }
        let next = self
            .row_waits
            .waiting
            .iter()
            .map(|row_wait| row_wait.next_lookup);
        let Some(next) = next.min() else { return };
        if let Some((at, timer)) = self.row_waits.timer {
            if at <= next {
                return;
            }
            context.cancel_future(timer);
        }
        let wait = next.saturating_duration_since(Instant::now());
        let timer = context.run_later(wait, |set, context| {
            set.row_waits.timer = None;
            if !set.row_waits.lookup_running {
                set.look_for_rows(context);
            }
        });
        self.row_waits.timer = Some((next, timer));
    }

    /// Whether to look up the rows of messages in the backlog, which may also lack theirs. While the consumers are
    /// busy, the backlog is claimed one by one or not at all, and would fill up with such messages. With short tasks
    /// this is unnecessary, as a claim takes hundreds.
    fn should_look_ahead(&self) -> bool {
        !self.stopping
            && self.prefetch.is_raised_for_row_waits()
            && !self.prefetch.is_bursting()
            && self.backlog.iter().any(Arrival::may_lack_row)
    }

    /// Drops the messages of a lost connection, which the broker delivers again.
    pub(super) fn drop_lost_row_waits(&mut self) {
        let (epoch, copies) = (self.epoch, &self.broker_copies);
        let comes_again =
            |handle: DeliveryHandle| handle.epoch != epoch && !copies.may_be_gone(handle.epoch);
        self.row_waits.remove_where(comes_again);
    }

    /// Whether a message waits of which the broker has no copy.
    pub(super) fn has_row_waits_without_copy(&self) -> bool {
        let mut waiting = self.row_waits.waiting.iter();
        waiting.any(|row_wait| self.broker_copies.are_gone(row_wait.arrival.epoch()))
    }

    fn look_for_rows(&mut self, context: &mut Context<Self>) {
        self.drop_lost_row_waits();
        let mut keys = self.row_waits.due(Instant::now());
        if self.should_look_ahead() {
            let unseen = self.backlog.iter().filter(|one| one.may_lack_row());
            keys.extend(unseen.take(MAX_LOOKUPS).map(|one| one.key().to_owned()));
        }
        if keys.is_empty() {
            return self.schedule_row_lookup(context);
        }
        if let Some(listener) = self.listener.clone() {
            self.row_waits.lookup_running = true;
            self.ledger.look_up_rows(keys, listener);
        }
    }

    /// Handles the result of a lookup.
    pub(super) fn handle_row_lookup(&mut self, looked: &HashMap<String, bool>) {
        self.row_waits.lookup_running = false;
        let now = Instant::now();
        let (found, given_up) = self.row_waits.apply_lookup(looked, now);
        for arrival in std::mem::take(&mut self.backlog) {
            let is_asked = arrival.may_lack_row();
            match looked.get(arrival.key()).filter(|_| is_asked) {
                Some(true) => self.backlog.push_back(arrival.with_row()),
                Some(false) => self.row_waits.waiting.push_back(RowWait::new(arrival, now)),
                None => self.backlog.push_back(arrival),
            }
        }
        for arrival in found.into_iter().rev() {
            self.backlog.push_front(arrival);
        }
        if !given_up.is_empty() {
            // The claim window does not matter: these messages need no consumer.
            self.claim(given_up);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::without_id::WithoutId;
    use super::*;

    fn row_wait(tag: u64, since: Instant) -> RowWait {
        let envelope = Envelope {
            handle: DeliveryHandle { epoch: 1, tag },
            redelivered: false,
            key: format!("m-{tag}"),
            fingerprint: None,
            publisher_writes_row: true,
            task: None,
            headers_fault: None,
            priority: 0,
            exchange: String::new(),
            routing_key: String::new(),
            body: vec![0; 10].into(),
        };
        RowWait::new(Arrival::new(envelope, &mut WithoutId::default()), since)
    }

    #[test]
    fn rows_are_looked_for_at_growing_waits_and_given_up_after_the_grace_time() {
        let start = Instant::now();
        let mut row_waits = RowWaits::default();
        row_waits.waiting.push_back(row_wait(1, start));
        let missing = HashMap::from([("m-1".to_owned(), false)]);
        let mut now = start;
        let mut looks = 0;
        let given_up = loop {
            now = now.max(row_waits.waiting[0].next_lookup);
            let (found, given_up) = row_waits.apply_lookup(&missing, now);
            assert!(found.is_empty());
            looks += 1;
            if !given_up.is_empty() {
                break given_up;
            }
        };
        assert_eq!(now, start + ROW_GRACE);
        assert_eq!(given_up.len(), 1);
        assert!((12..25).contains(&looks), "{looks}");
    }

    #[test]
    fn those_that_are_due_together_are_looked_for_together() {
        let start = Instant::now();
        let mut row_waits = RowWaits::default();
        for tag in 1..=3 {
            let since = start + Duration::from_millis(tag * 4);
            row_waits.waiting.push_back(row_wait(tag, since));
        }
        assert!(row_waits.due(start).is_empty());
        assert_eq!(row_waits.due(start + FIRST_WAIT).len(), 2);
        let looked = HashMap::from([("m-1".to_owned(), true), ("m-2".to_owned(), false)]);
        let (found, given_up) = row_waits.apply_lookup(&looked, start + FIRST_WAIT);
        assert_eq!((found[0].key(), given_up.len()), ("m-1", 0));
        // The third row was not looked up.
        assert_eq!(row_waits.due(start + 2 * FIRST_WAIT).len(), 2);
    }

    #[test]
    fn what_came_before_the_second_consumer_does_not_hold_its_prefetch() {
        let start = Instant::now();
        let mut row_waits = RowWaits::default();
        for tag in 1..=3 {
            row_waits.note_delivered(tag);
            row_waits.waiting.push_back(row_wait(tag, start));
        }
        let numbers = |fresh, is_long| RowWaitStats {
            count: 3,
            fresh,
            bytes: 30,
            is_long,
        };
        assert_eq!(row_waits.stats(start), numbers(3, false));
        row_waits.mark_new_consumer();
        assert_eq!(row_waits.stats(start + LONG_WAIT), numbers(0, true));
        assert_eq!(row_waits.remove_where(|handle| handle.tag > 1).len(), 2);
        assert_eq!(row_waits.remove_where(|_| true).len(), 1);
        assert_eq!(row_waits.stats(start + LONG_WAIT), RowWaitStats::default());
    }
}
