//! Messages that were cancelled because they had no row. The row may still come: a Django transaction may take
//! any time, and its messages are delivered before it commits.
//!
//! The ledger adds these messages, and the sweep looks for their rows for an hour. They are kept in memory only:
//! a service that ends forgets them.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The most messages that are remembered.
const CAPACITY: usize = 10_000;

/// The most rows that are looked up at once.
const MAX_PER_LOOKUP: usize = 1000;

/// How long a row is waited for.
const WATCH_TIME: Duration = Duration::from_secs(3600);

/// The wait before the next lookup is a quarter of the time since the cancellation, within these bounds.
const MIN_WAIT: Duration = Duration::from_secs(1);
const MAX_WAIT: Duration = Duration::from_secs(60);

/// The messages of a service that were cancelled because they had no row.
#[derive(Debug, Default)]
pub struct CancelledWithoutRow(Mutex<Watched>);

#[derive(Debug, Default)]
struct Watched {
    /// In the order in which they were added.
    messages: BTreeMap<u64, WatchedMessage>,
    numbers: HashMap<String, u64>,
    next: u64,
}

#[derive(Debug)]
struct WatchedMessage {
    key: String,
    since: Instant,
    next_lookup: Instant,
}

impl CancelledWithoutRow {
    /// Adds a message. The oldest is forgotten if there are too many.
    pub fn note(&self, key: &str) {
        self.watched().note(key, Instant::now());
    }

    /// The keys of the messages whose rows are to be looked up now.
    #[must_use]
    pub fn due(&self) -> Vec<String> {
        self.watched().due(Instant::now())
    }

    /// Schedules the next lookup, as the message's row has not come yet.
    pub fn reschedule(&self, key: &str) {
        self.watched().reschedule(key, Instant::now());
    }

    /// Stops looking for the message's row.
    pub fn forget(&self, key: &str) {
        self.watched().forget(key);
    }

    fn watched(&self) -> MutexGuard<'_, Watched> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Watched {
    fn note(&mut self, key: &str, now: Instant) {
        if self.numbers.contains_key(key) {
            return;
        }
        if self.messages.len() == CAPACITY
            && let Some((_, oldest)) = self.messages.pop_first()
        {
            self.numbers.remove(&oldest.key);
        }
        self.numbers.insert(key.to_owned(), self.next);
        let one = WatchedMessage {
            key: key.to_owned(),
            since: now,
            next_lookup: now + MIN_WAIT,
        };
        self.messages.insert(self.next, one);
        self.next += 1;
    }

    fn due(&self, now: Instant) -> Vec<String> {
        let due = self.messages.values().filter(|one| one.next_lookup <= now);
        due.take(MAX_PER_LOOKUP)
            .map(|one| one.key.clone())
            .collect()
    }

    fn reschedule(&mut self, key: &str, now: Instant) {
        let number = self.numbers.get(key);
        let Some(one) = number.and_then(|number| self.messages.get_mut(number)) else {
            return;
        };
        let missed_for = now.saturating_duration_since(one.since);
        if missed_for >= WATCH_TIME {
            return self.forget(key);
        }
        let wait = (missed_for / 4).clamp(MIN_WAIT, MAX_WAIT);
        one.next_lookup = (now + wait).min(one.since + WATCH_TIME);
    }

    fn forget(&mut self, key: &str) {
        if let Some(number) = self.numbers.remove(key) {
            self.messages.remove(&number);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_looked_for_at_growing_waits_for_an_hour() {
        let start = Instant::now();
        let mut watched = Watched::default();
        watched.note("k", start);
        watched.note("k", start + MIN_WAIT);
        assert!(watched.due(start).is_empty());
        let (mut now, mut looks) = (start, 0);
        while let Some(one) = watched.messages.get(&0) {
            now = one.next_lookup;
            assert_eq!(watched.due(now), ["k"]);
            watched.reschedule("k", now);
            looks += 1;
        }
        assert_eq!(now, start + WATCH_TIME);
        assert!((50..100).contains(&looks), "{looks}");
        assert!(watched.numbers.is_empty() && watched.messages.is_empty());
    }

    #[test]
    fn the_oldest_are_forgotten_where_there_are_too_many() {
        let start = Instant::now();
        let mut watched = Watched::default();
        for nth in 0..CAPACITY + 10 {
            watched.note(&nth.to_string(), start);
        }
        assert_eq!(watched.messages.len(), CAPACITY);
        assert_eq!(watched.numbers.len(), CAPACITY);
        let due = watched.due(start + MIN_WAIT);
        assert_eq!((due.len(), due[0].as_str()), (MAX_PER_LOOKUP, "10"));
        watched.forget("10");
        watched.forget("1");
        assert_eq!(watched.messages.len(), CAPACITY - 1);
        assert_eq!(watched.due(start + MIN_WAIT)[0], "11");
    }
}
