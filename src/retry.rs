//! How long to wait before trying again, and with how much.

use std::time::Duration;

/// A child that has lived so long was well: the next death counts from one again.
pub const HEALTHY_AFTER: Duration = Duration::from_secs(60);

/// Exponential backoff with full jitter in its upper half: the `n`th wait is between half and all
/// of `first × 2ⁿ`, and never over `most`. The jitter keeps a fleet from coming back in step.
#[derive(Debug, Clone)]
pub struct Backoff {
    first: Duration,
    most: Duration,
    tries: u32,
}

impl Backoff {
    /// Waits that start at `first` and double up to `most`.
    #[must_use]
    pub const fn new(first: Duration, most: Duration) -> Self {
        Self {
            first,
            most,
            tries: 0,
        }
    }

    /// For a server that is away: 100 ms, doubled up to 5 s, so that work resumes within seconds
    /// of its return and a server under repair is not hammered.
    #[must_use]
    pub const fn for_connections() -> Self {
        Self::new(Duration::from_millis(100), Duration::from_secs(5))
    }

    /// For a consumer that died, or whatever else is begun anew: 100 ms, doubled up to 30 s.
    #[must_use]
    pub const fn for_restarts() -> Self {
        Self::new(Duration::from_millis(100), Duration::from_secs(30))
    }

    /// As it is after so many tries.
    #[must_use]
    pub const fn with_tries(self, tries: u32) -> Self {
        Self { tries, ..self }
    }

    /// The next wait.
    pub fn next_wait(&mut self) -> Duration {
        let doubled = self.first.saturating_mul(1 << self.tries.min(20));
        self.tries = self.tries.saturating_add(1);
        doubled
            .min(self.most)
            .mul_f64(0.5_f64.mul_add(fastrand::f64(), 0.5))
    }

    /// The wait after the death of what has lived so long.
    pub fn next_wait_after(&mut self, life: Duration) -> Duration {
        if life > HEALTHY_AFTER {
            self.reset();
        }
        self.next_wait()
    }

    /// Starts over: what was tried has worked.
    pub const fn reset(&mut self) {
        self.tries = 0;
    }
}

/// How many of many are tried together, while one that is refused refuses all: half as many each time, until that one
/// is alone, and then twice as many each time.
#[derive(Debug, Clone)]
pub struct BatchSize {
    size: usize,
    most: usize,
}

impl BatchSize {
    /// All at first.
    #[must_use]
    pub const fn new(most: usize) -> Self {
        Self { size: most, most }
    }

    /// How many are tried next.
    #[must_use]
    pub const fn get(&self) -> usize {
        self.size
    }

    /// Whether nothing was refused lately.
    #[must_use]
    pub const fn is_full(&self) -> bool {
        self.size == self.most
    }

    /// So many were refused together.
    pub fn halve(&mut self, count: usize) {
        self.size = (count / 2).min(self.most / 2).max(1);
    }

    /// What was tried has worked, or was the one that is refused.
    pub fn grow(&mut self) {
        self.size = (self.size * 2).min(self.most);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bad_one_is_alone_after_a_few_tries() {
        for most in [1, 2, 7, 100] {
            for bad in 0..most {
                let mut batch_size = BatchSize::new(most);
                let (mut next, mut tries) = (0, 0);
                let mut alone = Vec::new();
                while next < most {
                    tries += 1;
                    let end = (next + batch_size.get()).min(most);
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
                assert!(tries <= 25, "{bad} of {most}: {tries}");
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
