//! How the service is, for whoever asks or waits for it: the daemon's start, `status`, systemd.
//!
//! The service, the tree and the subscriptions write down what they see; how the servers are is known
//! to `Servers`. [`ServiceStatus::look`] puts both together, and [`ServiceStatus::follow`] waits for a change.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};

use super::queue_status::QueueStatus;
pub(crate) use super::queue_status::QueueStatusHandle;
use super::status_report::shown;
pub use super::status_report::{QueueReport, Restarts, ServiceState, StatusReport};
use crate::health::outage::{ServerHealth, Servers};
use crate::health::watchdog::Watchdog;

/// A change as [`ServiceStatus::follow`] has seen it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StatusVersion(u64);

/// How a service is. Cheap to write to; a clone of the `Arc` goes to whoever has to know.
#[derive(Debug)]
pub struct ServiceStatus {
    since: DateTime<Utc>,
    restarts: Option<Restarts>,
    servers: Arc<Servers>,
    pulse: Arc<Watchdog>,
    inner: Mutex<StatusFacts>,
    changed: Condvar,
}

#[derive(Debug, Default)]
pub(super) struct StatusFacts {
    changes: u64,
    scheduler: bool,
    phase: ServicePhase,
    /// Whether it starts again should it fail.
    is_resumed: bool,
    failure: Option<String>,
    queues: Vec<Arc<QueueStatus>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum ServicePhase {
    /// The tree has not grown: the database has not let this worker in.
    #[default]
    Starting,
    /// The tree has grown.
    Grown,
    /// It was up once.
    Up,
    Stopping,
    /// It has lost what it can't do without.
    Failed,
}

impl ServiceStatus {
    /// Of a service that starts now.
    #[must_use]
    pub fn new() -> Arc<Self> {
        Self::with(None)
    }

    /// Of a service that is to start again: it has failed until it [begins](Self::begins).
    #[must_use]
    pub fn after(restarts: Restarts) -> Arc<Self> {
        let cause = restarts.cause.clone();
        let service_status = Self::with(Some(restarts));
        service_status.is_resumed();
        service_status.failed(&cause);
        service_status
    }

    fn with(restarts: Option<Restarts>) -> Arc<Self> {
        let service_status = Arc::new(Self {
            since: Utc::now(),
            restarts,
            servers: Arc::default(),
            pulse: Arc::default(),
            inner: Mutex::default(),
            changed: Condvar::new(),
        });
        let weak = Arc::downgrade(&service_status);
        service_status.servers.on_news(move || {
            if let Some(service_status) = weak.upgrade() {
                service_status.change(|_| {});
            }
        });
        service_status
    }

    /// How the servers are that the service uses.
    pub(crate) const fn servers(&self) -> &Arc<Servers> {
        &self.servers
    }

    /// Whether what it can't do without is at work.
    pub(crate) const fn pulse(&self) -> &Arc<Watchdog> {
        &self.pulse
    }

    /// Whether it has a scheduler.
    pub(crate) fn has_scheduler(&self, scheduler: bool) {
        self.change(|inner| inner.scheduler = scheduler);
    }

    /// One more queue that is to be consumed.
    pub(crate) fn queue(
        self: &Arc<Self>,
        name: &str,
        consumers: usize,
        broker: &Arc<ServerHealth>,
    ) -> QueueStatusHandle {
        let queue = Arc::new(QueueStatus::new(name, consumers, broker));
        self.change(|inner| inner.queues.push(Arc::clone(&queue)));
        QueueStatusHandle::new(Arc::clone(self), queue)
    }

    /// The tree has grown.
    pub(crate) fn grown(&self) {
        self.change(|inner| {
            if inner.phase == ServicePhase::Starting {
                inner.phase = ServicePhase::Grown;
            }
        });
    }

    /// It stops.
    pub(crate) fn stopping(&self) {
        self.change(|inner| inner.phase = ServicePhase::Stopping);
    }

    /// Should it fail from now on, it starts again.
    pub(crate) fn is_resumed(&self) {
        self.change(|inner| inner.is_resumed = true);
    }

    /// Whether it is to start again, if it has failed: not once it was told to stop.
    pub(crate) fn is_to_resume(&self) -> bool {
        let inner = self.lock();
        inner.is_resumed && inner.phase != ServicePhase::Stopping
    }

    /// It has lost this, which it can't do without.
    pub(crate) fn failed(&self, what: &str) {
        self.change(|inner| {
            inner.failure = Some(what.to_owned());
            if inner.phase != ServicePhase::Stopping {
                inner.phase = ServicePhase::Failed;
            }
        });
    }

    /// It starts again now.
    pub(crate) fn begins(&self) {
        self.change(|inner| {
            inner.failure = None;
            if inner.phase == ServicePhase::Failed {
                inner.phase = ServicePhase::Starting;
            }
        });
    }

    /// How it is now.
    #[must_use]
    pub fn look(&self) -> StatusReport {
        self.report(&mut self.lock())
    }

    /// Waits until something has changed since `seen`, but for the number of tasks, or until `timeout`
    /// is over if there is one. Begin with `StatusVersion::default()`, which returns at once.
    #[must_use]
    pub fn follow(
        &self,
        seen: StatusVersion,
        timeout: Option<Duration>,
    ) -> (StatusVersion, StatusReport) {
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        let mut inner = self.lock();
        // 0 is never a number of changes, so that a default `StatusVersion` has seen nothing.
        while inner.changes + 1 == seen.0 {
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            inner = match left {
                None => self
                    .changed
                    .wait(inner)
                    .unwrap_or_else(PoisonError::into_inner),
                Some(Duration::ZERO) => break,
                Some(left) => {
                    self.changed
                        .wait_timeout(inner, left)
                        .unwrap_or_else(PoisonError::into_inner)
                        .0
                }
            };
        }
        let report = self.report(&mut inner);
        (StatusVersion(inner.changes + 1), report)
    }

    /// Waits until the service is up, or stops before it was.
    #[must_use]
    pub fn settled(&self) -> StatusReport {
        let mut seen = StatusVersion::default();
        loop {
            let (now, report) = self.follow(seen, None);
            if report.state != ServiceState::Starting {
                return report;
            }
            seen = now;
        }
    }

    fn report(&self, inner: &mut StatusFacts) -> StatusReport {
        let mut waiting_for = self.servers.troubles();
        waiting_for.extend(inner.queues.iter().filter_map(|queue| queue.trouble()));
        let decided = match inner.phase {
            // Nobody but the database has been asked for anything yet.
            ServicePhase::Starting => !waiting_for.is_empty(),
            ServicePhase::Grown => inner.queues.iter().all(|queue| queue.is_decided()),
            ServicePhase::Up | ServicePhase::Stopping | ServicePhase::Failed => true,
        };
        if decided && inner.phase == ServicePhase::Grown {
            inner.phase = ServicePhase::Up;
        }
        let mut queues: Vec<QueueReport> =
            inner.queues.iter().map(|queue| queue.report()).collect();
        if inner.phase == ServicePhase::Failed {
            queues.iter_mut().for_each(|queue| queue.consumed = false);
        }
        let all_consumed = queues.iter().all(|queue| queue.consumed);
        let state = match inner.phase {
            ServicePhase::Failed if inner.is_resumed => ServiceState::Restarting,
            ServicePhase::Stopping | ServicePhase::Failed => ServiceState::Stopping,
            _ if !decided => ServiceState::Starting,
            ServicePhase::Up if all_consumed && waiting_for.is_empty() => ServiceState::Consuming,
            _ => ServiceState::Waiting,
        };
        StatusReport {
            pid: std::process::id(),
            state,
            since: shown(self.since),
            failure: inner.failure.clone(),
            restarts: self.restarts.clone(),
            scheduler: inner.scheduler,
            waiting_for,
            running_tasks: queues.iter().map(|queue| queue.running_tasks).sum(),
            in_hand: inner.queues.iter().map(|queue| queue.in_hand()).sum(),
            queues,
        }
    }

    pub(super) fn change(&self, what: impl FnOnce(&mut StatusFacts)) {
        let mut inner = self.lock();
        what(&mut inner);
        inner.changes += 1;
        drop(inner);
        self.changed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, StatusFacts> {
        lock(&self.inner)
    }
}

/// Nobody panics under these locks.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Story {
        service_status: Arc<ServiceStatus>,
        broker: Arc<ServerHealth>,
        queue: QueueStatusHandle,
    }

    fn story() -> Story {
        let service_status = ServiceStatus::new();
        let broker = service_status.servers().broker("amqp://there");
        let queue = service_status.queue("default", 2, &broker);
        Story {
            service_status,
            broker,
            queue,
        }
    }

    #[test]
    fn it_consumes_when_every_queue_is_consumed() {
        let Story {
            service_status,
            queue,
            ..
        } = story();
        assert_eq!(service_status.look().state, ServiceState::Starting);
        service_status.grown();
        assert_eq!(service_status.look().state, ServiceState::Starting);
        queue.consumed();
        assert_eq!(service_status.look().state, ServiceState::Consuming);
        queue.lost();
        assert_eq!(
            service_status.look().state,
            ServiceState::Waiting,
            "never starting again"
        );
        service_status.stopping();
        assert_eq!(service_status.look().state, ServiceState::Stopping);
    }

    #[test]
    fn it_is_up_when_what_is_missing_is_known_to_be_away() {
        let story = story();
        story.service_status.grown();
        story.broker.probe("the queue").failed(&"refused");
        let report = story.service_status.settled();
        assert_eq!(report.state, ServiceState::Waiting);
        assert_eq!(
            report.waiting_for,
            ["the broker amqp://there is away: refused"]
        );
    }

    #[test]
    fn a_database_that_is_away_is_what_a_start_waits_for() {
        let Story { service_status, .. } = story();
        let database = service_status.servers().database("sqlite://x");
        let client = database.probe("the start");
        let waiting = std::thread::scope(|scope| {
            let waiting = scope.spawn(|| service_status.settled());
            client.failed(&"locked");
            waiting.join().unwrap()
        });
        assert_eq!(waiting.state, ServiceState::Waiting);
        assert_eq!(
            waiting.waiting_for,
            ["the database sqlite://x is away: locked"]
        );
    }

    #[test]
    fn a_queue_that_is_refused_is_named_with_the_reason() {
        let story = story();
        story.service_status.grown();
        story.queue.shut("PRECONDITION_FAILED".to_owned());
        assert_eq!(
            story.service_status.settled().waiting_for,
            ["queue \"default\" is not consumed: PRECONDITION_FAILED"]
        );
    }

    #[test]
    fn one_that_has_failed_stops_or_starts_again_unless_it_was_told_to_stop() {
        let Story {
            service_status,
            queue,
            ..
        } = story();
        service_status.grown();
        queue.consumed();
        service_status.failed("it");
        let report = service_status.look();
        assert_eq!(report.state, ServiceState::Stopping);
        assert!(!report.queues[0].consumed);
        assert_eq!(report.failure.as_deref(), Some("it"));
        assert!(!service_status.is_to_resume());

        service_status.is_resumed();
        assert_eq!(service_status.look().state, ServiceState::Restarting);
        assert!(service_status.is_to_resume());
        service_status.stopping();
        assert_eq!(service_status.look().state, ServiceState::Stopping);
        assert!(!service_status.is_to_resume());
    }

    #[test]
    fn one_that_starts_again_says_how_often_and_why() {
        let first = Restarts::after(None, "it");
        let again = Restarts::after(Some(&first), "that");
        assert_eq!((first.count, again.count), (1, 2));
        let service_status = ServiceStatus::after(again.clone());
        assert_eq!(service_status.look().state, ServiceState::Restarting);
        service_status.begins();
        let report = service_status.look();
        assert_eq!(
            (report.state, report.failure),
            (ServiceState::Starting, None)
        );
        assert_eq!(report.restarts, Some(again));
    }

    #[test]
    fn tasks_are_counted_while_they_run() {
        let Story {
            service_status,
            queue,
            ..
        } = story();
        let tasks = (queue.task(), queue.task());
        assert_eq!(service_status.look().running_tasks, 2);
        drop(tasks.0);
        assert_eq!(service_status.look().queues[0].running_tasks, 1);
    }

    #[test]
    fn who_follows_sees_each_change_once() {
        let Story { service_status, .. } = story();
        let (seen, _) = service_status.follow(StatusVersion::default(), None);
        let (same, _) = service_status.follow(seen, Some(Duration::ZERO));
        assert_eq!(seen, same);
        service_status.stopping();
        let (_, report) = service_status.follow(seen, None);
        assert_eq!(report.state, ServiceState::Stopping);
    }
}
