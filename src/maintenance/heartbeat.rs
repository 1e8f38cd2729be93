//! The heartbeat: this worker lives, and those that do not are buried.
//!
//! A worker of this host is buried as soon as its process is gone; any other when it has been silent
//! for long, by the database's clock and by that of who buries it. But a database that was away has heard
//! nobody: only who has beaten without a gap for longer than it takes the others to come back may call
//! them dead.
//!
//! Who stood still for long may have been called dead itself: see [`Lease`].

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

use crate::failpoint;
use crate::health::worker_thread::{StopFlag, WorkerThread};
use crate::store::liveness::{self, Watch};
use crate::store::{DEAD_AFTER, Database, StoreError, WorkerId, WorkerProcess, WorkerStore};

/// Four heartbeats may be missed before a worker counts as dead.
const INTERVAL: Duration = Duration::from_secs(5);

/// The longest time between two heartbeats of a worker that finds its database back: the interval and
/// the longest backoff, and some.
const RECONNECT_TIME: Duration = Duration::from_secs(12);

/// From its last heartbeat on, a worker can be sure for so long that its messages are its own: nobody
/// calls it dead before [`DEAD_AFTER`]. What remains is for a run to begin in.
const LEASE_TIME: Duration = DEAD_AFTER.saturating_sub(Duration::from_secs(5));

/// Whether this worker can be sure that its messages are its own. One that stood still may not be: it
/// asks the database before it begins what it had claimed until then.
#[derive(Debug, Clone)]
pub struct Lease(Arc<Mutex<Term>>);

#[derive(Debug)]
struct Term {
    /// Nobody has called this worker dead since then.
    since: Instant,
    /// When the last heartbeat was sent.
    sent: BootInstant,
}

/// When something was sent, on a clock that goes on while this machine sleeps, as the others' do; an
/// `Instant`'s does not.
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
    /// Of a worker that has registered since it began to, at `sent`.
    #[must_use]
    pub fn granted_at(sent: BootInstant) -> Self {
        let since = Instant::now();
        Self(Arc::new(Mutex::new(Term { since, sent })))
    }

    /// Whether it can of a message that it asked for at that time, and got.
    #[must_use]
    pub fn covers(&self, asked: Instant) -> bool {
        let term = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        asked >= term.since && term.sent.elapsed() < LEASE_TIME
    }

    /// A heartbeat that was sent then is written.
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
    let mut watch = Watch::default();
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
    watch: &mut Watch,
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

        // As if it had stood still since.
        lease.renew(BootInstant(BootInstant::now().0.saturating_sub(LEASE_TIME)));
        assert!(!lease.covers(Instant::now()));
        lease.renew(BootInstant::now());
        assert!(!lease.covers(early));
        assert!(lease.covers(Instant::now()));
    }
}
