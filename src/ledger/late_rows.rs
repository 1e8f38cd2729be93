//! Messages that were cancelled because they had no row, which may come late all the same: a transaction of
//! Django's may take any time, and its messages are delivered before it commits.
//!
//! The ledger notes them, the sweep looks for their rows, for an hour. They are remembered here alone: a
//! service that ends forgets them.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// So many are remembered.
const MOST: usize = 10_000;

/// So many are looked for at once.
const MOST_AT_ONCE: usize = 1000;

/// For so long.
const LONGEST: Duration = Duration::from_secs(3600);

/// How long before the next look: a quarter of the time that the message is cancelled for, within these.
const SHORTEST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// The messages of a service that were cancelled so.
#[derive(Debug, Default)]
pub struct CancelledWithoutRow(Mutex<Watched>);

#[derive(Debug, Default)]
struct Watched {
    /// In the order in which they were noted.
    messages: BTreeMap<u64, One>,
    numbers: HashMap<String, u64>,
    next: u64,
}

#[derive(Debug)]
struct One {
    key: String,
    since: Instant,
    look_at: Instant,
}

impl CancelledWithoutRow {
    /// Notes one. The oldest is forgotten if there are too many.
    pub fn note(&self, key: &str) {
        self.watched().note(key, Instant::now());
    }

    /// Those that it is time to look for.
    #[must_use]
    pub fn due(&self) -> Vec<String> {
        self.watched().due(Instant::now())
    }

    /// The row of this one has not come yet.
    pub fn is_still_missing(&self, key: &str) {
        self.watched().is_still_missing(key, Instant::now());
    }

    /// There is nothing more to look for.
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
        if self.messages.len() == MOST
            && let Some((_, oldest)) = self.messages.pop_first()
        {
            self.numbers.remove(&oldest.key);
        }
        self.numbers.insert(key.to_owned(), self.next);
        let one = One {
            key: key.to_owned(),
            since: now,
            look_at: now + SHORTEST_WAIT,
        };
        self.messages.insert(self.next, one);
        self.next += 1;
    }

    fn due(&self, now: Instant) -> Vec<String> {
        let due = self.messages.values().filter(|one| one.look_at <= now);
        due.take(MOST_AT_ONCE).map(|one| one.key.clone()).collect()
    }

    fn is_still_missing(&mut self, key: &str, now: Instant) {
        let number = self.numbers.get(key);
        let Some(one) = number.and_then(|number| self.messages.get_mut(number)) else {
            return;
        };
        let missed_for = now.saturating_duration_since(one.since);
        if missed_for >= LONGEST {
            return self.forget(key);
        }
        let wait = (missed_for / 4).clamp(SHORTEST_WAIT, LONGEST_WAIT);
        one.look_at = (now + wait).min(one.since + LONGEST);
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
        watched.note("k", start + SHORTEST_WAIT);
        assert!(watched.due(start).is_empty());
        let (mut now, mut looks) = (start, 0);
        while let Some(one) = watched.messages.get(&0) {
            now = one.look_at;
            assert_eq!(watched.due(now), ["k"]);
            watched.is_still_missing("k", now);
            looks += 1;
        }
        assert_eq!(now, start + LONGEST);
        assert!((50..100).contains(&looks), "{looks}");
        assert!(watched.numbers.is_empty() && watched.messages.is_empty());
    }

    #[test]
    fn the_oldest_are_forgotten_where_there_are_too_many() {
        let start = Instant::now();
        let mut watched = Watched::default();
        for nth in 0..MOST + 10 {
            watched.note(&nth.to_string(), start);
        }
        assert_eq!(watched.messages.len(), MOST);
        assert_eq!(watched.numbers.len(), MOST);
        let due = watched.due(start + SHORTEST_WAIT);
        assert_eq!((due.len(), due[0].as_str()), (MOST_AT_ONCE, "10"));
        watched.forget("10");
        watched.forget("1");
        assert_eq!(watched.messages.len(), MOST - 1);
        assert_eq!(watched.due(start + SHORTEST_WAIT)[0], "11");
    }
}
