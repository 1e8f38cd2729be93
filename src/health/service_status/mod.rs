//! The state of the whole service, for whoever asks for it or waits for a change: `daemon start`, `daemon
//! status`, systemd.
//!
//! The service, the actor tree and the subscriptions record what they see; [`Servers`] knows the health of the
//! servers. [`ServiceStatus::report`] combines both, and [`ServiceStatus::wait_for_change`] waits for a change.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};

use super::queue_status::{QueueStatus, lock};
use super::status_report::rfc3339;
pub use super::status_report::{QueueReport, Restarts, ServiceState, StatusReport};
use crate::health::outage::Servers;
use crate::health::watchdog::Watchdog;

/// The last change that a caller of [`ServiceStatus::wait_for_change`] has seen.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StatusVersion(u64);

/// The state of a service. Updates are cheap; everyone who needs it holds a clone of the `Arc`.
#[derive(Debug)]
pub struct ServiceStatus {
    since: DateTime<Utc>,
    restarts: Option<Restarts>,
    servers: Arc<Servers>,
    watchdog: Arc<Watchdog>,
    facts: Mutex<StatusFacts>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct StatusFacts {
    changes: u64,
    scheduler: bool,
    phase: ServicePhase,
    /// Whether the service restarts itself after a failure.
    restarts_itself: bool,
    failure: Option<String>,
    queues: Vec<Arc<QueueStatus>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum ServicePhase {
    /// The actor tree does not run yet: this worker is not registered in the database.
    #[default]
    Starting,
    /// The actor tree runs.
    TreeStarted,
    /// Every queue has been consumed, or the reason why it is not is known.
    Up,
    Stopping,
    /// A vital part has died.
    Failed,
}

impl ServiceStatus {
    /// The status of a service that starts now.
    #[must_use]
    pub fn new() -> Arc<Self> {
        Self::with_restarts(None)
    }

    /// The status of a service that is about to restart: it counts as failed until
    /// [`set_restarted`](Self::set_restarted).
    #[must_use]
    pub fn after(restarts: Restarts) -> Arc<Self> {
        let cause = restarts.cause.clone();
        let service_status = Self::with_restarts(Some(restarts));
        service_status.enable_restart();
        service_status.set_failed(&cause);
        service_status
    }

    fn with_restarts(restarts: Option<Restarts>) -> Arc<Self> {
        let service_status = Arc::new(Self {
            since: Utc::now(),
            restarts,
            servers: Arc::default(),
            watchdog: Arc::default(),
            facts: Mutex::default(),
            changed: Condvar::new(),
        });
        let weak = Arc::downgrade(&service_status);
        service_status.servers.on_change(move || {
            if let Some(service_status) = weak.upgrade() {
                service_status.update(|_| {});
            }
        });
        service_status
    }

    /// The health of the servers that the service uses.
    pub(crate) const fn servers(&self) -> &Arc<Servers> {
        &self.servers
    }

    /// Checks whether the vital threads and actors respond.
    pub(crate) const fn watchdog(&self) -> &Arc<Watchdog> {
        &self.watchdog
    }

    /// Records whether the service runs a scheduler.
    pub(crate) fn set_scheduler(&self, scheduler: bool) {
        self.update(|facts| facts.scheduler = scheduler);
    }

    /// Adds a queue that the service is going to consume.
    pub(super) fn add_queue(&self, queue: Arc<QueueStatus>) {
        self.update(|facts| facts.queues.push(queue));
    }

    /// Changes `queue`, one that was [added](Self::add_queue), and wakes those who wait for a change. Holds the
    /// lock of the whole status meanwhile, so that they see the change.
    pub(super) fn update_queue(&self, queue: &QueueStatus, update: impl FnOnce(&QueueStatus)) {
        self.update(|_| update(queue));
    }

    /// Records that the actor tree runs.
    pub(crate) fn set_tree_started(&self) {
        self.update(|facts| {
            if facts.phase == ServicePhase::Starting {
                facts.phase = ServicePhase::TreeStarted;
            }
        });
    }

    /// Records that the service is stopping.
    pub(crate) fn set_stopping(&self) {
        self.update(|facts| facts.phase = ServicePhase::Stopping);
    }

    /// From now on the service restarts itself when it fails.
    pub(crate) fn enable_restart(&self) {
        self.update(|facts| facts.restarts_itself = true);
    }

    /// Whether the service restarts itself after a failure: it does not once it was told to stop.
    pub(crate) fn will_restart(&self) -> bool {
        let facts = self.lock();
        facts.restarts_itself && facts.phase != ServicePhase::Stopping
    }

    /// Records that `what`, a vital part of the service, has died.
    pub(crate) fn set_failed(&self, what: &str) {
        self.update(|facts| {
            facts.failure = Some(what.to_owned());
            if facts.phase != ServicePhase::Stopping {
                facts.phase = ServicePhase::Failed;
            }
        });
    }

    /// Records that the service starts again now.
    pub(crate) fn set_restarted(&self) {
        self.update(|facts| {
            facts.failure = None;
            if facts.phase == ServicePhase::Failed {
                facts.phase = ServicePhase::Starting;
            }
        });
    }

    /// The current state.
    #[must_use]
    pub fn report(&self) -> StatusReport {
        self.build_report(&mut self.lock())
    }

    /// Waits until something other than a count of tasks has changed since `seen`, at most for `timeout`
    /// if there is one. Begin with `StatusVersion::default()`, for which this returns at once.
    #[must_use]
    pub fn wait_for_change(
        &self,
        seen: StatusVersion,
        timeout: Option<Duration>,
    ) -> (StatusVersion, StatusReport) {
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        let mut facts = self.lock();
        // Versions begin with 1, so the default `StatusVersion` differs from all of them.
        while facts.changes + 1 == seen.0 {
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            facts = match left {
                None => self
                    .changed
                    .wait(facts)
                    .unwrap_or_else(PoisonError::into_inner),
                Some(Duration::ZERO) => break,
                Some(left) => {
                    self.changed
                        .wait_timeout(facts, left)
                        .unwrap_or_else(PoisonError::into_inner)
                        .0
                }
            };
        }
        let report = self.build_report(&mut facts);
        (StatusVersion(facts.changes + 1), report)
    }

    /// Waits until the service is up, or stops before that.
    #[must_use]
    pub fn wait_until_up(&self) -> StatusReport {
        let mut seen = StatusVersion::default();
        loop {
            let (now, report) = self.wait_for_change(seen, None);
            if report.state != ServiceState::Starting {
                return report;
            }
            seen = now;
        }
    }

    fn build_report(&self, facts: &mut StatusFacts) -> StatusReport {
        let mut waiting_for = self.servers.problems();
        waiting_for.extend(facts.queues.iter().filter_map(|queue| queue.problem()));
        let is_up = match facts.phase {
            // Only the database has been used so far: a problem is the database's.
            ServicePhase::Starting => !waiting_for.is_empty(),
            ServicePhase::TreeStarted => facts.queues.iter().all(|queue| queue.is_explained()),
            ServicePhase::Up | ServicePhase::Stopping | ServicePhase::Failed => true,
        };
        if is_up && facts.phase == ServicePhase::TreeStarted {
            facts.phase = ServicePhase::Up;
        }
        let mut queues: Vec<QueueReport> =
            facts.queues.iter().map(|queue| queue.report()).collect();
        if facts.phase == ServicePhase::Failed {
            queues.iter_mut().for_each(|queue| queue.consumed = false);
        }
        let all_consumed = queues.iter().all(|queue| queue.consumed);
        let state = match facts.phase {
            ServicePhase::Failed if facts.restarts_itself => ServiceState::Restarting,
            ServicePhase::Stopping | ServicePhase::Failed => ServiceState::Stopping,
            _ if !is_up => ServiceState::Starting,
            ServicePhase::Up if all_consumed && waiting_for.is_empty() => ServiceState::Consuming,
            _ => ServiceState::Waiting,
        };
        StatusReport {
            pid: std::process::id(),
            state,
            since: rfc3339(self.since),
            failure: facts.failure.clone(),
            restarts: self.restarts.clone(),
            scheduler: facts.scheduler,
            waiting_for,
            running_tasks: queues.iter().map(|queue| queue.running_tasks).sum(),
            in_hand: facts.queues.iter().map(|queue| queue.in_flight()).sum(),
            queues,
        }
    }

    fn update(&self, update: impl FnOnce(&mut StatusFacts)) {
        let mut facts = self.lock();
        update(&mut facts);
        facts.changes += 1;
        drop(facts);
        self.changed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, StatusFacts> {
        lock(&self.facts)
    }
}

#[cfg(test)]
mod tests;
