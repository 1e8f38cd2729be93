//! The heartbeat: this worker lives, and those that do not are buried.
//!
//! A worker of this host is buried as soon as its process is gone; any other when it has been silent
//! for long. But a database that was away has heard nobody: only who has beaten without a gap for
//! longer than it takes the others to come back may call them dead.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::outage::Client;
use crate::presence;
use crate::retry::Backoff;
use crate::stop::{StopFlag, Thread};
use crate::store::{Session, Store, StoreError, WorkerId, WorkerProcess};

/// Four heartbeats may be missed before a worker counts as dead.
const INTERVAL: Duration = Duration::from_secs(5);

/// The longest time between two heartbeats of a worker that finds its database back: the interval and
/// the longest backoff, and some.
const OTHERS_ARE_BACK: Duration = Duration::from_secs(12);

/// Starts the heartbeat's thread.
///
/// # Errors
/// When the system has no thread left.
pub fn start(
    store: Arc<dyn Store>,
    id: WorkerId,
    process: WorkerProcess,
    health: Client,
) -> std::io::Result<Thread> {
    Thread::start("heartbeat", move |stop| {
        beat(store.as_ref(), id, &process, &health, stop);
    })
}

fn beat(
    store: &dyn Store,
    id: WorkerId,
    process: &WorkerProcess,
    health: &Client,
    stop: &StopFlag,
) {
    let mut session = None;
    let mut beating_since = Instant::now();
    let mut last_beat = Instant::now();
    let mut backoff = Backoff::for_connections();
    loop {
        let steady = last_beat.elapsed() < OTHERS_ARE_BACK;
        let may_bury = steady && beating_since.elapsed() > OTHERS_ARE_BACK;
        health.asks();
        let wait = match beat_once(store, &mut session, id, process, may_bury) {
            Ok(()) => {
                if last_beat.elapsed() > OTHERS_ARE_BACK {
                    // The database, or this process, stood still.
                    beating_since = Instant::now();
                }
                last_beat = Instant::now();
                health.is_served();
                backoff.reset();
                INTERVAL
            }
            Err(StoreError::Conflict(reason)) => {
                log::debug!("the heartbeat met another transaction: {reason}");
                backoff.next_wait()
            }
            Err(error) => {
                health.fails(&error);
                session = None;
                beating_since = Instant::now();
                backoff.next_wait()
            }
        };
        if stop.wait(wait) {
            return;
        }
    }
}

fn beat_once(
    store: &dyn Store,
    session: &mut Option<Box<dyn Session>>,
    id: WorkerId,
    process: &WorkerProcess,
    may_bury: bool,
) -> Result<(), StoreError> {
    let open = match session.take() {
        Some(open) => open,
        None => store.connect()?,
    };
    let session = session.insert(open).as_mut();
    session.heartbeat(id, process)?;
    presence::bury_the_dead(session, &process.namespace)?;
    if may_bury {
        presence::bury_the_silent(session)?;
    }
    Ok(())
}
