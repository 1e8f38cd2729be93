//! The health of the servers: one that is away is said to be so once, whoever of this service's threads
//! notices it first, and once that it is back.
//!
//! Each thread that asks a server is its [`HealthProbe`], which says when it asks and what came of it. An
//! outage begins when the first is not served, or has waited for long, and is over when all are served.
//! Those who wait in a client library can't say so: [`watch`] is a thread that does.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use super::condition::{Condition, News, SILENCE};
use crate::health::worker_thread::WorkerThread;

/// How often it is looked who waits for how long.
const TICK: Duration = Duration::from_secs(1);

/// Called when a server goes away or is back, under no lock.
type OnNews = Box<dyn Fn() + Send + Sync>;

/// The health of every server that a service uses.
#[derive(Debug, Default)]
pub struct Servers {
    all: Mutex<HashMap<String, Arc<ServerHealth>>>,
    pulse: Arc<NewsSignal>,
}

/// Tells whoever wants to know that there is news.
#[derive(Default)]
struct NewsSignal(OnceLock<OnNews>);

impl NewsSignal {
    fn beat(&self) {
        if let Some(on_news) = self.0.get() {
            on_news();
        }
    }
}

impl fmt::Debug for NewsSignal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("NewsSignal")
    }
}

impl Servers {
    /// Has `call` called whenever a server goes away or is back; only the first `call` counts.
    pub fn on_news(&self, call: impl Fn() + Send + Sync + 'static) {
        if self.pulse.0.set(Box::new(call)).is_err() {
            log::debug!("somebody is told already how the servers are");
        }
    }

    /// What is wrong with each server that is away or silent, in the order of their names.
    #[must_use]
    pub fn troubles(&self) -> Vec<String> {
        let all = lock(&self.all);
        let mut troubles: Vec<_> = all.values().filter_map(|health| health.trouble()).collect();
        troubles.sort();
        troubles
    }

    /// The database there.
    #[must_use]
    pub fn database(&self, address: &str) -> Arc<ServerHealth> {
        self.health(format!("the database {address}"))
    }

    /// The broker there.
    #[must_use]
    pub fn broker(&self, address: &str) -> Arc<ServerHealth> {
        self.health(format!("the broker {address}"))
    }

    fn health(&self, what: String) -> Arc<ServerHealth> {
        lock(&self.all)
            .entry(what)
            .or_insert_with_key(|what| Arc::new(ServerHealth::of(what, &self.pulse)))
            .clone()
    }

    fn tick(&self) {
        let all: Vec<_> = lock(&self.all).values().cloned().collect();
        all.iter().for_each(|health| health.tick());
    }
}

/// Starts the thread that says how the servers are.
///
/// # Errors
/// When the system has no thread left.
pub fn watch(servers: Arc<Servers>) -> io::Result<WorkerThread> {
    WorkerThread::start("watch", move |stop| {
        while !stop.wait(TICK) {
            servers.tick();
        }
    })
}

/// The health of one server, as all its clients together know it.
#[derive(Debug)]
pub struct ServerHealth {
    what: String,
    condition: Mutex<Condition>,
    clients: AtomicU64,
    /// While there is an outage, what was said of it.
    trouble: Mutex<Option<String>>,
    /// What of it is shut, though it is there.
    shut: Mutex<HashMap<ServerPart, ClosedPart>>,
    pulse: Arc<NewsSignal>,
}

impl ServerHealth {
    fn of(what: &str, pulse: &Arc<NewsSignal>) -> Self {
        Self {
            what: what.to_owned(),
            condition: Mutex::default(),
            clients: AtomicU64::new(0),
            trouble: Mutex::default(),
            shut: Mutex::default(),
            pulse: Arc::clone(pulse),
        }
    }

    /// What is wrong with the server, if it is away or silent: `the broker amqp://… is away: …`.
    #[must_use]
    pub fn trouble(&self) -> Option<String> {
        lock(&self.trouble).clone()
    }

    /// One more who asks this server, by the name that the log has for it.
    #[must_use]
    pub fn probe(self: &Arc<Self>, name: impl Into<String>) -> HealthProbe {
        let id = self.clients.fetch_add(1, Ordering::Relaxed);
        let name = name.into();
        lock(&self.condition).join(id, name.clone(), Instant::now());
        HealthProbe {
            health: Arc::clone(self),
            id,
            name,
        }
    }

    fn tick(&self) {
        // The lines are written under the lock, in the order of what they tell.
        let mut condition = lock(&self.condition);
        match condition.tick(Instant::now()) {
            Some(News::Silent { client }) => {
                let seconds = SILENCE.as_secs();
                let trouble = format!("{} has not answered {client} for {seconds} s", self.what);
                log::error!("{trouble}; waiting until it does");
                *lock(&self.trouble) = Some(trouble);
            }
            Some(News::Back { after, failed }) => {
                log::warn!(
                    "{} {} after {:.1} s",
                    self.what,
                    if failed { "is back" } else { "answers again" },
                    after.as_secs_f64()
                );
                *lock(&self.trouble) = None;
            }
            Some(News::Away) | None => return,
        }
        drop(condition);
        self.pulse.beat();
    }
}

/// One who asks a server. After [`HealthProbe::started`] it says which of the other three it was, or asks again.
#[derive(Debug)]
pub struct HealthProbe {
    health: Arc<ServerHealth>,
    id: u64,
    name: String,
}

impl HealthProbe {
    /// What the log calls it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// It waits for an answer from now on, or still does: one whose transactions only ever meet others
    /// has none.
    pub fn started(&self) {
        self.condition().ask(self.id, Instant::now());
    }

    /// It has an answer: the server is there, whatever the answer was.
    pub fn answered(&self) {
        self.condition().answer(self.id, Instant::now());
    }

    /// It has what it wanted: if it had failed, that is over.
    pub fn succeeded(&self) {
        self.condition().serve(self.id, Instant::now());
    }

    /// It has not got what it wanted, and tries again until it has.
    pub fn failed(&self, error: &dyn fmt::Display) {
        let what = &self.health.what;
        log::debug!("{} on {what}: {error}", self.name);
        let mut condition = self.condition();
        if condition.fail(self.id, Instant::now()) == Some(News::Away) {
            let trouble = format!("{what} is away: {error}");
            log::error!("{trouble}; trying again until it is back");
            *lock(&self.health.trouble) = Some(trouble);
            drop(condition);
            self.health.pulse.beat();
        }
    }

    /// The server is there, and this does not get on for what it says. That is said once for each reason.
    pub fn refused(&self, error: &dyn fmt::Display) {
        self.answered();
        let Self { health, name, .. } = self;
        let reason = error.to_string();
        if self.close(&ServerPart::Client(name.clone()), &reason) {
            log::error!("{name} does not get on with {}: {reason}", health.what);
        }
    }

    /// That part of the server is shut for this reason, for all of its clients; whether that, or the
    /// reason, is new.
    #[must_use]
    pub fn close(&self, part: &ServerPart, reason: &str) -> bool {
        let mut shut = lock(&self.health.shut);
        shut.entry(part.clone()).or_default().close(reason)
    }

    /// That part of the server is open; for how long it had been shut, if it had.
    #[must_use]
    pub fn reopen(&self, part: &ServerPart) -> Option<Duration> {
        lock(&self.health.shut).remove(part)?.reopen()
    }

    /// Its connection was good so long ago. A failure is no news if all that is known of the connection
    /// is from before an outage.
    pub fn was_healthy(&self, ago: Duration) {
        if let Some(then) = Instant::now().checked_sub(ago) {
            self.condition().alive(self.id, then);
        }
    }

    fn condition(&self) -> MutexGuard<'_, Condition> {
        lock(&self.health.condition)
    }
}

impl Drop for HealthProbe {
    fn drop(&mut self) {
        self.condition().leave(self.id, Instant::now());
    }
}

/// Nobody panics under these locks.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What of a server may be shut though it is there.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum ServerPart {
    /// All of it, for one client, by the name that the log has for it.
    Client(String),
    /// A broker's whole intake of messages.
    Intake,
    /// New connections to a broker.
    Entrance,
    /// A queue's intake.
    Queue(String),
    /// The path of messages for a queue: permissions are on exchanges.
    Path {
        /// The queue that they are meant for.
        queue: String,
        /// The exchange by which they go there.
        exchange: String,
    },
}

/// What is shut, said once until it is open again.
#[derive(Debug, Default)]
pub struct ClosedPart {
    since: Option<Instant>,
    reason: String,
}

impl ClosedPart {
    /// It is shut; whether that, or the reason, is new.
    pub fn close(&mut self, reason: &str) -> bool {
        let is_news = self.since.is_none() || self.reason != reason;
        self.since.get_or_insert_with(Instant::now);
        reason.clone_into(&mut self.reason);
        is_news
    }

    /// It is open; for how long it had been shut, if it had.
    pub fn reopen(&mut self) -> Option<Duration> {
        self.since.take().map(|since| since.elapsed())
    }
}
