//! Registers the service as a worker in the database.

use std::io;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Instant;

use crossbeam_channel::{Receiver, RecvTimeoutError, bounded, select};

use super::threads::deregister;
use super::{Ended, Service, ServiceError, Signal};
use crate::health::outage::Servers;
use crate::health::worker_thread::{THREAD_STOP_TIMEOUT, WorkerThread};
use crate::maintenance::heartbeat::{BootInstant, Lease};
use crate::retry::Backoff;
use crate::schedule;
use crate::store::liveness;
use crate::store::{self, Store, StoreError, WorkerId, WorkerProcess};

impl Service {
    /// Registers this worker. Waits for the database as long as it takes, unless the service is told to stop
    /// meanwhile.
    pub(super) fn register(
        &self,
        store: &Arc<dyn Store>,
        servers: &Servers,
        process: &WorkerProcess,
        signals: &Receiver<Signal>,
    ) -> Result<ControlFlow<Ended, (WorkerId, Lease)>, ServiceError> {
        let health = servers.database(&store.describe()).probe("the start");
        let mut backoff = Backoff::for_connections();
        loop {
            health.started();
            let sent = BootInstant::now();
            match self.register_on_thread(store, process, signals)? {
                ControlFlow::Break(ended) => return Ok(ControlFlow::Break(ended)),
                ControlFlow::Continue(Err(ServiceError::Store(
                    StoreError::Unavailable(error) | StoreError::Conflict(error),
                ))) if !self.until_idle => {
                    health.failed(&error);
                }
                ControlFlow::Continue(Err(error)) => return Err(error),
                ControlFlow::Continue(Ok(worker)) => {
                    health.succeeded();
                    return Ok(ControlFlow::Continue((worker, Lease::granted_at(sent))));
                }
            }
            match signals.recv_timeout(backoff.next_wait()) {
                Err(RecvTimeoutError::Timeout) => {}
                Ok(signal) => {
                    self.service_status.set_stopping();
                    return Ok(ControlFlow::Break(signal.ends_a_start()));
                }
                Err(RecvTimeoutError::Disconnected) => {
                    self.service_status.set_stopping();
                    return Ok(ControlFlow::Break(Ended::Drained));
                }
            }
        }
    }

    /// Tries to register once, on a thread of its own: a database that does not answer, or a lock in it, can block
    /// that, and signals are received meanwhile.
    fn register_on_thread(
        &self,
        store: &Arc<dyn Store>,
        process: &WorkerProcess,
        signals: &Receiver<Signal>,
    ) -> Result<ControlFlow<Ended, Result<WorkerId, ServiceError>>, ServiceError> {
        let (result, results) = bounded(1);
        let (service, tried_on, process) = (self.clone(), Arc::clone(store), process.clone());
        let thread = WorkerThread::start("registration", move |_| {
            // If the service was told to stop, nobody waits for the result.
            let _unwanted = result.send(service.try_register(tried_on.as_ref(), &process));
        })?;
        select! {
            recv(results) -> tried => {
                let panicked = |_| io::Error::other("the registration panicked");
                Ok(ControlFlow::Continue(tried.map_err(panicked)?))
            }
            recv(signals) -> signal => {
                self.service_status.set_stopping();
                log::info!("told to stop before the start was over");
                thread.stop(Instant::now() + THREAD_STOP_TIMEOUT);
                if let Ok(Ok(worker)) = results.try_recv() {
                    deregister(store, worker);
                }
                Ok(ControlFlow::Break(signal.map_or(Ended::Drained, Signal::ends_a_start)))
            }
        }
    }

    fn try_register(
        &self,
        store: &dyn Store,
        process: &WorkerProcess,
    ) -> Result<WorkerId, ServiceError> {
        let mut session = store::session(store)?;
        if self.scheduler {
            let specs = self.schedules.iter().map(|one| one.spec(&self.config));
            let specs: Vec<_> = specs.collect::<Result<_, _>>()?;
            schedule::add_missing(&specs, session.as_mut())?;
            let schedules = session.active_schedules()?;
            (self.announce)(&format!("found {schedules} scheduled tasks to run"));
        }
        session.deregister(&self.predecessors)?;
        liveness::remove_dead_workers(session.as_mut(), &process.namespace)?;
        Ok(session.register(process)?)
    }
}
