//! The heartbeat: this worker lives, and those of its host that do not are buried.

use std::sync::Arc;
use std::time::Duration;

use crate::outage::Outage;
use crate::presence;
use crate::retry::Backoff;
use crate::stop::{StopFlag, Thread};
use crate::store::{Session, Store, StoreError, WorkerId, WorkerProcess};

/// Four heartbeats may be missed before a worker counts as dead.
const INTERVAL: Duration = Duration::from_secs(5);

/// Starts the heartbeat's thread.
///
/// # Errors
/// When the system has no thread left.
pub fn start(
    store: Arc<dyn Store>,
    id: WorkerId,
    process: WorkerProcess,
) -> std::io::Result<Thread> {
    Thread::start("heartbeat", move |stop| {
        beat(store.as_ref(), id, &process, stop);
    })
}

fn beat(store: &dyn Store, id: WorkerId, process: &WorkerProcess, stop: &StopFlag) {
    let mut session = None;
    let mut outage = Outage::of("the heartbeat's database".to_owned());
    let mut backoff = Backoff::for_connections();
    loop {
        let wait = match beat_once(store, &mut session, id, process) {
            Ok(()) => {
                outage.is_over();
                backoff.reset();
                INTERVAL
            }
            Err(error) => {
                outage.goes_on(&error);
                session = None;
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
) -> Result<(), StoreError> {
    let open = match session.take() {
        Some(open) => open,
        None => store.connect()?,
    };
    let session = session.insert(open).as_mut();
    session.heartbeat(id, process)?;
    presence::bury_the_dead(session, &process.namespace)?;
    session.forget_dead()?;
    Ok(())
}
