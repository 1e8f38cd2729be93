//! What a daemon knows of its lives before.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::config::Origin;
use crate::health::service_status::Restarts;
use crate::retry::{Backoff, HEALTHY_AFTER};
use crate::store::WorkerId;

/// What a daemon knows of its lives before.
#[derive(Clone, Serialize, Deserialize)]
pub struct Past {
    /// How often it has begun again, and why; none in its first life.
    pub restarts: Option<Restarts>,
    /// How often it has begun again without having lived for long in between.
    tries: u32,
    /// The workers that it was, as far as they may not be signed off.
    workers: Vec<i64>,
    /// What it is configured by.
    pub origin: Origin,
}

impl Past {
    /// Of a daemon in its first life.
    #[must_use]
    pub const fn none(origin: Origin) -> Self {
        Self {
            restarts: None,
            tries: 0,
            workers: Vec::new(),
            origin,
        }
    }

    /// With a life more, which was so long, as `worker` if it came so far.
    #[must_use]
    pub fn and(&self, cause: &str, worker: Option<WorkerId>, life: Duration) -> Self {
        let tries = if life > HEALTHY_AFTER { 0 } else { self.tries };
        let registered = worker.map(|WorkerId(id)| vec![id]);
        Self {
            restarts: Some(Restarts::after(self.restarts.as_ref(), cause)),
            tries: tries.saturating_add(1),
            // Who has registered has signed off those before.
            workers: registered.unwrap_or_else(|| self.workers.clone()),
            origin: self.origin.clone(),
        }
    }

    /// The workers that it was, as far as they may not be signed off.
    #[must_use]
    pub fn workers(&self) -> Vec<WorkerId> {
        self.workers.iter().copied().map(WorkerId).collect()
    }

    /// How long it waits before it begins.
    #[must_use]
    pub fn rest(&self) -> Duration {
        let before = self.tries.saturating_sub(1);
        Backoff::for_restarts().with_tries(before).next_wait()
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::Environment;

    fn origin() -> Origin {
        Origin::find(None, &Environment::default(), Path::new("/")).unwrap()
    }

    #[test]
    fn one_that_dies_again_and_again_waits_longer_and_longer() {
        let short = Duration::from_secs(1);
        let mut past = Past::none(origin());
        for _ in 0..5 {
            past = past.and("it", None, short);
        }
        assert!(past.rest() >= Duration::from_millis(800));
        let past = past.and("it", None, 2 * HEALTHY_AFTER);
        assert!(past.rest() <= Duration::from_millis(100));
        assert_eq!(past.restarts.unwrap().count, 6);
    }

    #[test]
    fn workers_are_known_until_another_has_registered() {
        let life = Duration::ZERO;
        let past = Past::none(origin()).and("it", Some(WorkerId(1)), life);
        let unregistered = past.and("it", None, life);
        assert_eq!(unregistered.workers(), [WorkerId(1)]);
        let registered = unregistered.and("it", Some(WorkerId(2)), life);
        assert_eq!(registered.workers(), [WorkerId(2)]);
    }
}
