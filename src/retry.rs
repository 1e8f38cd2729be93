//! How long to wait before a retry, and how many items to retry together.

use std::time::Duration;

/// A thread or actor that has lived longer than this was healthy: after its death the backoff starts over.
pub const HEALTHY_AFTER: Duration = Duration::from_secs(60);

/// Exponential backoff with jitter: wait `n`, from 0, is between half and all of `first × 2ⁿ`, where the latter
/// is at most `max`. The jitter keeps a fleet of services from retrying at the same moment.
#[derive(Debug, Clone)]
pub struct Backoff {
    first: Duration,
    max: Duration,
    tries: u32,
}

impl Backoff {
    /// Waits that start at `first` and double up to `max`.
    #[must_use]
    pub const fn new(first: Duration, max: Duration) -> Self {
        Self {
            first,
            max,
            tries: 0,
        }
    }

    /// For connecting to a server: 100 ms, doubled up to 5 s. Work resumes within seconds of the server's
    /// return, and a server that is recovering is not flooded.
    #[must_use]
    pub const fn for_connections() -> Self {
        Self::new(Duration::from_millis(100), Duration::from_secs(5))
    }

    /// For restarting a consumer, a thread or an actor that died: 100 ms, doubled up to 30 s.
    #[must_use]
    pub const fn for_restarts() -> Self {
        Self::new(Duration::from_millis(100), Duration::from_secs(30))
    }

    /// The backoff as it is after this many tries.
    #[must_use]
    pub const fn with_tries(self, tries: u32) -> Self {
        Self { tries, ..self }
    }

    /// The next wait, which counts as a try.
    pub fn next_wait(&mut self) -> Duration {
        let doubled = self.first.saturating_mul(1 << self.tries.min(20));
        self.tries = self.tries.saturating_add(1);
        doubled
            .min(self.max)
            .mul_f64(0.5_f64.mul_add(fastrand::f64(), 0.5))
    }

    /// The wait before restarting something that died after it had lived for `life`.
    pub fn next_wait_after(&mut self, life: Duration) -> Duration {
        if life > HEALTHY_AFTER {
            self.reset();
        }
        self.next_wait()
    }

    /// Starts over, after a success.
    pub const fn reset(&mut self) {
        self.tries = 0;
    }
}

/// How many items to try together, where one bad item makes the whole batch fail. Halved at each refusal, until
/// the bad item is alone; doubled at each success, up to the maximum.
#[derive(Debug, Clone)]
pub struct BatchSize {
    size: usize,
    max: usize,
}

impl BatchSize {
    /// Starts with the maximum.
    #[must_use]
    pub const fn new(max: usize) -> Self {
        Self { size: max, max }
    }

    /// How many items to try next.
    #[must_use]
    pub const fn get(&self) -> usize {
        self.size
    }

    /// Whether the size is the maximum: no batch was refused lately.
    #[must_use]
    pub const fn is_full(&self) -> bool {
        self.size == self.max
    }

    /// Notes that a batch of `count` items was refused.
    pub fn halve(&mut self, count: usize) {
        self.size = (count / 2).min(self.max / 2).max(1);
    }

    /// Notes that a batch succeeded, or that the bad item was found.
    pub fn grow(&mut self) {
        self.size = (self.size * 2).min(self.max);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bad_item_is_alone_after_a_few_tries() {
        for max in [1, 2, 7, 100] {
            for bad in 0..max {
                let mut batch_size = BatchSize::new(max);
                let (mut next, mut tries) = (0, 0);
                let mut alone = Vec::new();
                while next < max {
                    tries += 1;
                    let end = (next + batch_size.get()).min(max);
                    if !(next..end).contains(&bad) {
                        batch_size.grow();
                    } else if end - next > 1 {
                        batch_size.halve(end - next);
                        continue;
                    } else {
                        alone.push(next);
                        batch_size.grow();
                    }
                    next = end;
                }
                assert_eq!(alone, [bad]);
                assert!(tries <= 25, "{bad} of {max}: {tries}");
            }
        }
        let mut batch_size = BatchSize::new(500);
        batch_size.halve(10_000);
        assert_eq!(batch_size.get(), 250);
        assert!(!batch_size.is_full());
        batch_size.grow();
        assert!(batch_size.is_full());
    }

    #[test]
    fn waits_grow_up_to_the_limit_and_start_over() {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(1));
        let waits: Vec<_> = (0..100).map(|_| backoff.next_wait()).collect();
        assert!(waits[0] >= Duration::from_millis(50) && waits[0] <= Duration::from_millis(100));
        assert!(waits[3] >= Duration::from_millis(400));
        assert!(waits.iter().all(|wait| *wait <= Duration::from_secs(1)));
        backoff.reset();
        assert!(backoff.next_wait() <= Duration::from_millis(100));
        let mut later = backoff.with_tries(3);
        assert!(later.next_wait() >= Duration::from_millis(400));
        assert!(later.next_wait_after(2 * HEALTHY_AFTER) <= Duration::from_millis(100));
    }
}
