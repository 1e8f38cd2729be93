//! The health of the servers. An outage is logged once, whichever thread of the service notices it first, and
//! so is its end.
//!
//! Each thread that uses a server has a [`HealthProbe`], on which it records its requests and their results. An
//! outage begins when a request fails or is unanswered for long, and ends when all probes are healthy.
//! A thread that is blocked in a client library can't report its wait: the thread of [`watch`] does.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use super::condition::{Condition, HealthEvent, SILENCE_TIMEOUT};
use crate::health::worker_thread::WorkerThread;

/// How often the waits of all probes are checked.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// Called, without a lock, when a server goes away or is back.
type ChangeHook = Box<dyn Fn() + Send + Sync>;

/// The health of every server that a service uses.
#[derive(Debug, Default)]
pub struct Servers {
    all: Mutex<HashMap<String, Arc<ServerHealth>>>,
    signal: Arc<ChangeSignal>,
}

/// Calls the hook, if one is set.
#[derive(Default)]
struct ChangeSignal(OnceLock<ChangeHook>);

impl ChangeSignal {
    fn notify(&self) {
        if let Some(hook) = self.0.get() {
            hook();
        }
    }
}

impl fmt::Debug for ChangeSignal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ChangeSignal")
    }
}

impl Servers {
    /// Has `hook` called whenever a server goes away or is back; only the first hook counts.
    pub fn on_change(&self, hook: impl Fn() + Send + Sync + 'static) {
        if self.signal.0.set(Box::new(hook)).is_err() {
            log::debug!("changes of the servers' health are reported to another hook already");
        }
    }

    /// The problem of each server that is away or silent, sorted by name.
    #[must_use]
    pub fn problems(&self) -> Vec<String> {
        let all = lock(&self.all);
        let mut problems: Vec<_> = all.values().filter_map(|health| health.problem()).collect();
        problems.sort();
        problems
    }

    /// The health of the database at that address.
    #[must_use]
    pub fn database(&self, address: &str) -> Arc<ServerHealth> {
        self.health(format!("the database {address}"))
    }

    /// The health of the broker at that address.
    #[must_use]
    pub fn broker(&self, address: &str) -> Arc<ServerHealth> {
        self.health(format!("the broker {address}"))
    }

    fn health(&self, what: String) -> Arc<ServerHealth> {
        lock(&self.all)
            .entry(what)
            .or_insert_with_key(|what| Arc::new(ServerHealth::of(what, &self.signal)))
            .clone()
    }

    fn tick(&self) {
        let all: Vec<_> = lock(&self.all).values().cloned().collect();
        all.iter().for_each(|health| health.tick());
    }
}

/// Starts the thread that reports silent servers and the ends of outages.
///
/// # Errors
/// When the system has no thread left.
pub fn watch(servers: Arc<Servers>) -> io::Result<WorkerThread> {
    WorkerThread::start("watch", move |stop| {
        while !stop.wait(CHECK_INTERVAL) {
            servers.tick();
        }
    })
}

/// The health of one server, from all its probes.
#[derive(Debug)]
pub struct ServerHealth {
    what: String,
    condition: Mutex<Condition>,
    probes: AtomicU64,
    /// What was logged about the current outage.
    problem: Mutex<Option<String>>,
    /// The parts that the server refuses, although it is there.
    closed: Mutex<HashMap<ServerPart, ClosedPart>>,
    signal: Arc<ChangeSignal>,
}

impl ServerHealth {
    fn of(what: &str, signal: &Arc<ChangeSignal>) -> Self {
        Self {
            what: what.to_owned(),
            condition: Mutex::default(),
            probes: AtomicU64::new(0),
            problem: Mutex::default(),
            closed: Mutex::default(),
            signal: Arc::clone(signal),
        }
    }

    /// The problem of a server that is away or silent: `the broker amqp://… is away: …`.
    #[must_use]
    pub fn problem(&self) -> Option<String> {
        lock(&self.problem).clone()
    }

    /// Adds a probe for a thread that uses this server; `name` is for the log.
    #[must_use]
    pub fn probe(self: &Arc<Self>, name: impl Into<String>) -> HealthProbe {
        let id = self.probes.fetch_add(1, Ordering::Relaxed);
        let name = name.into();
        lock(&self.condition).add_probe(id, name.clone(), Instant::now());
        HealthProbe {
            health: Arc::clone(self),
            id,
            name,
        }
    }

    fn tick(&self) {
        // Logs under the lock, so that the lines are in the order of the events.
        let mut condition = lock(&self.condition);
        match condition.tick(Instant::now()) {
            Some(HealthEvent::Silent { probe }) => {
                let seconds = SILENCE_TIMEOUT.as_secs();
                let problem = format!("{} has not answered {probe} for {seconds} s", self.what);
                log::error!("{problem}; waiting until it does");
                *lock(&self.problem) = Some(problem);
            }
            Some(HealthEvent::Back { after, failed }) => {
                log::warn!(
                    "{} {} after {:.1} s",
                    self.what,
                    if failed { "is back" } else { "answers again" },
                    after.as_secs_f64()
                );
                *lock(&self.problem) = None;
            }
            Some(HealthEvent::Away) | None => return,
        }
        drop(condition);
        self.signal.notify();
    }
}

/// Records one thread's requests to a server: each one [`started`](Self::started), then its result, or
/// `started` again if the request is repeated.
#[derive(Debug)]
pub struct HealthProbe {
    health: Arc<ServerHealth>,
    id: u64,
    name: String,
}

impl HealthProbe {
    /// Its name in the log.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The thread waits for an answer from now on, or still does: a transaction that is repeated because of
    /// conflicts with others has no answer yet.
    pub fn started(&self) {
        self.condition().started(self.id, Instant::now());
    }

    /// The server has answered, whatever the answer was.
    pub fn answered(&self) {
        self.condition().answered(self.id, Instant::now());
    }

    /// The request succeeded, which ends this probe's failure.
    pub fn succeeded(&self) {
        self.condition().succeeded(self.id, Instant::now());
    }

    /// The request failed; the thread repeats it until it succeeds.
    pub fn failed(&self, error: &dyn fmt::Display) {
        let what = &self.health.what;
        log::debug!("{} on {what}: {error}", self.name);
        let mut condition = self.condition();
        if condition.failed(self.id, Instant::now()) == Some(HealthEvent::Away) {
            let problem = format!("{what} is away: {error}");
            log::error!("{problem}; trying again until it is back");
            *lock(&self.health.problem) = Some(problem);
            drop(condition);
            self.health.signal.notify();
        }
    }

    /// The server answered, and refused the request. Logged once for each reason.
    pub fn refused(&self, error: &dyn fmt::Display) {
        self.answered();
        let Self { health, name, .. } = self;
        let reason = error.to_string();
        if self.close(&ServerPart::Client(name.clone()), &reason) {
            log::error!("{name} is refused by {}: {reason}", health.what);
        }
    }

    /// Records that the server refuses this part of it to all clients, for this reason. Returns whether that, or
    /// the reason, is new.
    #[must_use]
    pub fn close(&self, part: &ServerPart, reason: &str) -> bool {
        let mut closed = lock(&self.health.closed);
        closed.entry(part.clone()).or_default().close(reason)
    }

    /// Records that the server accepts this part again. Returns for how long it had refused it, if it had.
    #[must_use]
    pub fn reopen(&self, part: &ServerPart) -> Option<Duration> {
        lock(&self.health.closed).remove(part)?.reopen()
    }

    /// Records that the thread's connection was good so long ago. A failure is not reported as a new outage if
    /// the connection was last known to be good before the previous one.
    pub fn was_healthy(&self, ago: Duration) {
        if let Some(then) = Instant::now().checked_sub(ago) {
            self.condition().healthy_at(self.id, then);
        }
    }

    fn condition(&self) -> MutexGuard<'_, Condition> {
        lock(&self.health.condition)
    }
}

impl Drop for HealthProbe {
    fn drop(&mut self) {
        self.condition().remove_probe(self.id, Instant::now());
    }
}

/// Ignores poisoning: no thread panics while it holds one of these locks.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A part of a server that it may refuse although it is there.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum ServerPart {
    /// All of it, to the probe of this name.
    Client(String),
    /// Publishing to the broker at all.
    Intake,
    /// New connections to a broker.
    Entrance,
    /// Publishing to a queue.
    Queue(String),
    /// Publishing to a queue through an exchange: the broker's permissions are on exchanges.
    Path {
        /// The queue.
        queue: String,
        /// The exchange.
        exchange: String,
    },
}

/// Since when and why a part is refused, so that it is logged once.
#[derive(Debug, Default)]
pub struct ClosedPart {
    since: Option<Instant>,
    reason: String,
}

impl ClosedPart {
    /// Records that the part is refused. Returns whether that, or the reason, is new.
    pub fn close(&mut self, reason: &str) -> bool {
        let is_new = self.since.is_none() || self.reason != reason;
        self.since.get_or_insert_with(Instant::now);
        reason.clone_into(&mut self.reason);
        is_new
    }

    /// Records that the part is accepted. Returns for how long it had been refused, if it had.
    pub fn reopen(&mut self) -> Option<Duration> {
        self.since.take().map(|since| since.elapsed())
    }
}
