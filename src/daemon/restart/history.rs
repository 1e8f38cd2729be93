//! What a daemon knows of its earlier runs in the same process.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::config::Origin;
use crate::health::service_status::Restarts;
use crate::retry::{Backoff, HEALTHY_AFTER};
use crate::store::WorkerId;

/// What a daemon knows of its earlier runs in the same process.
#[derive(Clone, Serialize, Deserialize)]
pub struct DaemonHistory {
    /// How often it has restarted, and why; `None` in its first run.
    pub restarts: Option<Restarts>,
    /// How often it has restarted since it last ran for longer than [`HEALTHY_AFTER`].
    quick_restarts: u32,
    /// The worker ids of earlier runs that may still be registered in the database.
    workers: Vec<i64>,
    /// Where its configuration is read from.
    pub origin: Origin,
}

impl DaemonHistory {
    /// The history of a daemon in its first run.
    #[must_use]
    pub const fn first_run(origin: Origin) -> Self {
        Self {
            restarts: None,
            quick_restarts: 0,
            workers: Vec::new(),
            origin,
        }
    }

    /// This history with one more run, which lasted for `run_time` and died of `cause`; `worker` is its id, if it
    /// was registered.
    #[must_use]
    pub fn after_run(&self, cause: &str, worker: Option<WorkerId>, run_time: Duration) -> Self {
        let quick_restarts = if run_time > HEALTHY_AFTER {
            0
        } else {
            self.quick_restarts
        };
        let registered = worker.map(|WorkerId(id)| vec![id]);
        Self {
            restarts: Some(Restarts::after(self.restarts.as_ref(), cause)),
            quick_restarts: quick_restarts.saturating_add(1),
            // A run that registers itself deregisters the earlier workers.
            workers: registered.unwrap_or_else(|| self.workers.clone()),
            origin: self.origin.clone(),
        }
    }

    /// The worker ids of earlier runs that may still be registered in the database.
    #[must_use]
    pub fn workers(&self) -> Vec<WorkerId> {
        self.workers.iter().copied().map(WorkerId).collect()
    }

    /// How long to wait before the next run.
    #[must_use]
    pub fn restart_delay(&self) -> Duration {
        let before = self.quick_restarts.saturating_sub(1);
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
    fn a_daemon_that_keeps_dying_waits_longer_each_time() {
        let short = Duration::from_secs(1);
        let mut history = DaemonHistory::first_run(origin());
        for _ in 0..5 {
            history = history.after_run("it", None, short);
        }
        assert!(history.restart_delay() >= Duration::from_millis(800));
        let history = history.after_run("it", None, 2 * HEALTHY_AFTER);
        assert!(history.restart_delay() <= Duration::from_millis(100));
        assert_eq!(history.restarts.unwrap().count, 6);
    }

    #[test]
    fn workers_are_kept_until_another_has_registered() {
        let life = Duration::ZERO;
        let history = DaemonHistory::first_run(origin()).after_run("it", Some(WorkerId(1)), life);
        let unregistered = history.after_run("it", None, life);
        assert_eq!(unregistered.workers(), [WorkerId(1)]);
        let registered = unregistered.after_run("it", Some(WorkerId(2)), life);
        assert_eq!(registered.workers(), [WorkerId(2)]);
    }
}
