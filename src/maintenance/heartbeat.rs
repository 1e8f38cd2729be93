//! The heartbeat shows that this worker is alive, and removes workers that are dead.
//!
//! A worker of this host is removed as soon as its process is gone. Any other is removed when it has been
//! silent for long, both by the database's clock and by the clock of the worker that removes it. After an outage
//! of the database every worker has been silent: so only a worker whose heartbeats have had no gap for longer
//! than the others need to reconnect may declare them dead.
//!
//! A worker that stood still for long may have been declared dead itself: see [`Lease`].

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

use crate::failpoint;
use crate::health::worker_thread::{StopFlag, WorkerThread};
use crate::store::liveness::{self, SilenceTracker};
use crate::store::{DEAD_AFTER, Database, StoreError, WorkerId, WorkerProcess, WorkerStore};

/// A worker may miss four heartbeats before it counts as dead.
const INTERVAL: Duration = Duration::from_secs(5);

/// The longest time between two heartbeats of a worker that finds its database back: the interval and
/// the longest backoff, and some.
const RECONNECT_TIME: Duration = Duration::from_secs(12);

/// For how long after a heartbeat a worker can be sure to own its messages: nobody declares it dead before
/// [`DEAD_AFTER`]. The difference leaves time for a run to begin.
const LEASE_TIME: Duration = DEAD_AFTER.saturating_sub(Duration::from_secs(5));

/// Tells whether this worker can be sure to own its messages. A worker that stood still can't be: it asks the
/// database before it begins a message that it had claimed by then.
#[derive(Debug, Clone)]
pub struct Lease(Arc<Mutex<Term>>);

#[derive(Debug)]
struct Term {
    /// Nobody has declared this worker dead since then.
    since: Instant,
    /// When the last heartbeat was sent.
    sent: BootInstant,
}

/// A time on a clock that goes on while this machine sleeps, as the clocks of other machines do; that of an
/// [`Instant`] stops.
#[derive(Debug, Clone, Copy)]
pub struct BootInstant(Duration);

impl BootInstant {
    /// Now.
    #[must_use]
    pub fn now() -> Self {
        let time = clock_gettime(ClockId::Boottime);
        let seconds = u64::try_from(time.tv_sec).unwrap_or_default();
        let nanoseconds = u32::try_from(time.tv_nsec).unwrap_or_default();
        Self(Duration::new(seconds, nanoseconds))
    }

    fn elapsed(self) -> Duration {
        Self::now().0.saturating_sub(self.0)
    }
}

impl Lease {
    /// The lease of a worker that sent its registration at `sent` and is registered now.
    #[must_use]
    pub fn granted_at(sent: BootInstant) -> Self {
        let since = Instant::now();
        Self(Arc::new(Mutex::new(Term { since, sent })))
    }

    /// Whether this worker can be sure to own a message that it asked for at `requested_at`, and got.
    #[must_use]
    pub fn covers(&self, requested_at: Instant) -> bool {
        let term = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        requested_at >= term.since && term.sent.elapsed() < LEASE_TIME
    }

    /// Renews the lease after a heartbeat that was sent at `sent`.
    fn renew(&self, sent: BootInstant) {
        let mut term = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if term.sent.elapsed() >= LEASE_TIME {
            term.since = Instant::now();
        }
        term.sent = sent;
    }
}

/// Starts the heartbeat's thread.
///
/// # Errors
/// When the system has no thread left.
pub fn start(
    mut database: Database,
    id: WorkerId,
    process: WorkerProcess,
    lease: Lease,
) -> std::io::Result<WorkerThread> {
    WorkerThread::restarting("heartbeat", move |stop| {
        beat(&mut database, id, &process, &lease, stop);
    })
}

fn beat(
    database: &mut Database,
    id: WorkerId,
    process: &WorkerProcess,
    lease: &Lease,
    stop: &StopFlag,
) {
    let mut watch = SilenceTracker::default();
    let mut beating_since = Instant::now();
    let mut last_beat = Instant::now();
    loop {
        failpoint::hit("heartbeat.beats");
        let is_steady =
            || last_beat.elapsed() < RECONNECT_TIME && beating_since.elapsed() > RECONNECT_TIME;
        let beaten = database
            .ask(|session, _| beat_once(session, &mut watch, (id, process), lease, is_steady));
        let wait = match beaten {
            Ok(()) => {
                if last_beat.elapsed() > RECONNECT_TIME {
                    // The database, or this process, stood still.
                    beating_since = Instant::now();
                }
                last_beat = Instant::now();
                INTERVAL
            }
            Err(error) => {
                if !matches!(error, StoreError::Conflict(_)) {
                    beating_since = Instant::now();
                }
                database.retry_in()
            }
        };
        if stop.wait(wait) {
            return;
        }
    }
}

fn beat_once(
    session: &mut dyn WorkerStore,
    watch: &mut SilenceTracker,
    (id, process): (WorkerId, &WorkerProcess),
    lease: &Lease,
    is_steady: impl Fn() -> bool,
) -> Result<(), StoreError> {
    let sent = BootInstant::now();
    session.heartbeat(id, process)?;
    lease.renew(sent);
    liveness::remove_dead_workers(session, &process.namespace)?;
    liveness::remove_silent_workers(session, watch, is_steady)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_covers_what_was_asked_for_since_the_last_gap() {
        let lease = Lease::granted_at(BootInstant::now());
        let early = Instant::now();
        assert!(lease.covers(early));
        lease.renew(BootInstant::now());
        assert!(lease.covers(early));

        // As if the worker had stood still since.
        lease.renew(BootInstant(BootInstant::now().0.saturating_sub(LEASE_TIME)));
        assert!(!lease.covers(Instant::now()));
        lease.renew(BootInstant::now());
        assert!(!lease.covers(early));
        assert!(lease.covers(Instant::now()));
    }
}
