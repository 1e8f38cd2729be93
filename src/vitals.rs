//! How the service is, for whoever asks or waits for it: the daemon's start, `status`, systemd.
//!
//! The service, the tree and the subscriptions write down what they see; how the servers are is known
//! to `Servers`. [`Vitals::look`] puts both together, and [`Vitals::follow`] waits for a change.

mod queue;
mod report;

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};

pub(crate) use self::queue::QueueHandle;
use self::queue::QueueVitals;
use self::report::shown;
pub use self::report::{QueueReport, Report, Restarts, State};
use crate::outage::{Health, Servers};
use crate::pulse::Pulse;

/// A change as [`Vitals::follow`] has seen it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Seen(u64);

/// How a service is. Cheap to write to; a clone of the `Arc` goes to whoever has to know.
#[derive(Debug)]
pub struct Vitals {
    since: DateTime<Utc>,
    restarts: Option<Restarts>,
    servers: Arc<Servers>,
    pulse: Arc<Pulse>,
    inner: Mutex<Inner>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Inner {
    changes: u64,
    scheduler: bool,
    phase: Phase,
    /// Whether it starts again should it fail.
    is_resumed: bool,
    failure: Option<String>,
    queues: Vec<Arc<QueueVitals>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Phase {
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

impl Vitals {
    /// Of a service that starts now.
    #[must_use]
    pub fn new() -> Arc<Self> {
        Self::with(None)
    }

    /// Of a service that is to start again: it has failed until it [begins](Self::begins).
    #[must_use]
    pub fn after(restarts: Restarts) -> Arc<Self> {
        let cause = restarts.cause.clone();
        let vitals = Self::with(Some(restarts));
        vitals.is_resumed();
        vitals.failed(&cause);
        vitals
    }

    fn with(restarts: Option<Restarts>) -> Arc<Self> {
        let vitals = Arc::new(Self {
            since: Utc::now(),
            restarts,
            servers: Arc::default(),
            pulse: Arc::default(),
            inner: Mutex::default(),
            changed: Condvar::new(),
        });
        let weak = Arc::downgrade(&vitals);
        vitals.servers.on_news(move || {
            if let Some(vitals) = weak.upgrade() {
                vitals.change(|_| {});
            }
        });
        vitals
    }

    /// How the servers are that the service uses.
    pub(crate) const fn servers(&self) -> &Arc<Servers> {
        &self.servers
    }

    /// Whether what it can't do without is at work.
    pub(crate) const fn pulse(&self) -> &Arc<Pulse> {
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
        broker: &Arc<Health>,
    ) -> QueueHandle {
        let queue = Arc::new(QueueVitals::new(name, consumers, broker));
        self.change(|inner| inner.queues.push(Arc::clone(&queue)));
        QueueHandle::new(Arc::clone(self), queue)
    }

    /// The tree has grown.
    pub(crate) fn grown(&self) {
        self.change(|inner| {
            if inner.phase == Phase::Starting {
                inner.phase = Phase::Grown;
            }
        });
    }

    /// It stops.
    pub(crate) fn stopping(&self) {
        self.change(|inner| inner.phase = Phase::Stopping);
    }

    /// Should it fail from now on, it starts again.
    pub(crate) fn is_resumed(&self) {
        self.change(|inner| inner.is_resumed = true);
    }

    /// Whether it is to start again, if it has failed: not once it was told to stop.
    pub(crate) fn is_to_resume(&self) -> bool {
        let inner = self.lock();
        inner.is_resumed && inner.phase != Phase::Stopping
    }

    /// It has lost this, which it can't do without.
    pub(crate) fn failed(&self, what: &str) {
        self.change(|inner| {
            inner.failure = Some(what.to_owned());
            if inner.phase != Phase::Stopping {
                inner.phase = Phase::Failed;
            }
        });
    }

    /// It starts again now.
    pub(crate) fn begins(&self) {
        self.change(|inner| {
            inner.failure = None;
            if inner.phase == Phase::Failed {
                inner.phase = Phase::Starting;
            }
        });
    }

    /// How it is now.
    #[must_use]
    pub fn look(&self) -> Report {
        self.report(&mut self.lock())
    }

    /// Waits until something has changed since `seen`, but for the number of tasks, or until `timeout`
    /// is over if there is one. Begin with `Seen::default()`, which returns at once.
    #[must_use]
    pub fn follow(&self, seen: Seen, timeout: Option<Duration>) -> (Seen, Report) {
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        let mut inner = self.lock();
        // 0 is never a number of changes, so that a default `Seen` has seen nothing.
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
        (Seen(inner.changes + 1), report)
    }

    /// Waits until the service is up, or stops before it was.
    #[must_use]
    pub fn settled(&self) -> Report {
        let mut seen = Seen::default();
        loop {
            let (now, report) = self.follow(seen, None);
            if report.state != State::Starting {
                return report;
            }
            seen = now;
        }
    }

    fn report(&self, inner: &mut Inner) -> Report {
        let mut waiting_for = self.servers.troubles();
        waiting_for.extend(inner.queues.iter().filter_map(|queue| queue.trouble()));
        let decided = match inner.phase {
            // Nobody but the database has been asked for anything yet.
            Phase::Starting => !waiting_for.is_empty(),
            Phase::Grown => inner.queues.iter().all(|queue| queue.is_decided()),
            Phase::Up | Phase::Stopping | Phase::Failed => true,
        };
        if decided && inner.phase == Phase::Grown {
            inner.phase = Phase::Up;
        }
        let mut queues: Vec<QueueReport> =
            inner.queues.iter().map(|queue| queue.report()).collect();
        if inner.phase == Phase::Failed {
            queues.iter_mut().for_each(|queue| queue.consumed = false);
        }
        let all_consumed = queues.iter().all(|queue| queue.consumed);
        let state = match inner.phase {
            Phase::Failed if inner.is_resumed => State::Restarting,
            Phase::Stopping | Phase::Failed => State::Stopping,
            _ if !decided => State::Starting,
            Phase::Up if all_consumed && waiting_for.is_empty() => State::Consuming,
            _ => State::Waiting,
        };
        Report {
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

    fn change(&self, what: impl FnOnce(&mut Inner)) {
        let mut inner = self.lock();
        what(&mut inner);
        inner.changes += 1;
        drop(inner);
        self.changed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        lock(&self.inner)
    }
}

/// Nobody panics under these locks.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Story {
        vitals: Arc<Vitals>,
        broker: Arc<Health>,
        queue: QueueHandle,
    }

    fn story() -> Story {
        let vitals = Vitals::new();
        let broker = vitals.servers().broker("amqp://there");
        let queue = vitals.queue("default", 2, &broker);
        Story {
            vitals,
            broker,
            queue,
        }
    }

    #[test]
    fn it_consumes_when_every_queue_is_consumed() {
        let Story { vitals, queue, .. } = story();
        assert_eq!(vitals.look().state, State::Starting);
        vitals.grown();
        assert_eq!(vitals.look().state, State::Starting);
        queue.consumed();
        assert_eq!(vitals.look().state, State::Consuming);
        queue.lost();
        assert_eq!(vitals.look().state, State::Waiting, "never starting again");
        vitals.stopping();
        assert_eq!(vitals.look().state, State::Stopping);
    }

    #[test]
    fn it_is_up_when_what_is_missing_is_known_to_be_away() {
        let story = story();
        story.vitals.grown();
        story.broker.client("the queue").fails(&"refused");
        let report = story.vitals.settled();
        assert_eq!(report.state, State::Waiting);
        assert_eq!(
            report.waiting_for,
            ["the broker amqp://there is away: refused"]
        );
    }

    #[test]
    fn a_database_that_is_away_is_what_a_start_waits_for() {
        let Story { vitals, .. } = story();
        let database = vitals.servers().database("sqlite://x");
        let client = database.client("the start");
        let waiting = std::thread::scope(|scope| {
            let waiting = scope.spawn(|| vitals.settled());
            client.fails(&"locked");
            waiting.join().unwrap()
        });
        assert_eq!(waiting.state, State::Waiting);
        assert_eq!(
            waiting.waiting_for,
            ["the database sqlite://x is away: locked"]
        );
    }

    #[test]
    fn a_queue_that_is_refused_is_named_with_the_reason() {
        let story = story();
        story.vitals.grown();
        story.queue.shut("PRECONDITION_FAILED".to_owned());
        assert_eq!(
            story.vitals.settled().waiting_for,
            ["queue \"default\" is not consumed: PRECONDITION_FAILED"]
        );
    }

    #[test]
    fn one_that_has_failed_stops_or_starts_again_unless_it_was_told_to_stop() {
        let Story { vitals, queue, .. } = story();
        vitals.grown();
        queue.consumed();
        vitals.failed("it");
        let report = vitals.look();
        assert_eq!(report.state, State::Stopping);
        assert!(!report.queues[0].consumed);
        assert_eq!(report.failure.as_deref(), Some("it"));
        assert!(!vitals.is_to_resume());

        vitals.is_resumed();
        assert_eq!(vitals.look().state, State::Restarting);
        assert!(vitals.is_to_resume());
        vitals.stopping();
        assert_eq!(vitals.look().state, State::Stopping);
        assert!(!vitals.is_to_resume());
    }

    #[test]
    fn one_that_starts_again_says_how_often_and_why() {
        let first = Restarts::after(None, "it");
        let again = Restarts::after(Some(&first), "that");
        assert_eq!((first.count, again.count), (1, 2));
        let vitals = Vitals::after(again.clone());
        assert_eq!(vitals.look().state, State::Restarting);
        vitals.begins();
        let report = vitals.look();
        assert_eq!((report.state, report.failure), (State::Starting, None));
        assert_eq!(report.restarts, Some(again));
    }

    #[test]
    fn tasks_are_counted_while_they_run() {
        let Story { vitals, queue, .. } = story();
        let tasks = (queue.task(), queue.task());
        assert_eq!(vitals.look().running_tasks, 2);
        drop(tasks.0);
        assert_eq!(vitals.look().queues[0].running_tasks, 1);
    }

    #[test]
    fn who_follows_sees_each_change_once() {
        let Story { vitals, .. } = story();
        let (seen, _) = vitals.follow(Seen::default(), None);
        let (same, _) = vitals.follow(seen, Some(Duration::ZERO));
        assert_eq!(seen, same);
        vitals.stopping();
        let (_, report) = vitals.follow(seen, None);
        assert_eq!(report.state, State::Stopping);
    }
}
