//! Forwards signals, and deaths of threads outside the actor tree, to the supervisor.

use std::sync::Arc;
use std::time::Duration;

use actix::prelude::*;
use crossbeam_channel::{Receiver, never, select};

use super::Signal;
use crate::actors::{Shutdown, SupervisorActor, ThreadDied};
use crate::execution::Executor;
use crate::health::service_status::ServiceStatus;

pub(super) struct SignalForwarder {
    pub(super) signals: Receiver<Signal>,
    /// Vital parts outside the tree that have died.
    pub(super) died: Receiver<&'static str>,
    pub(super) supervisor: Addr<SupervisorActor>,
    pub(super) executor: Arc<Executor>,
    pub(super) service_status: Arc<ServiceStatus>,
    pub(super) grace: Option<Duration>,
}

impl SignalForwarder {
    /// Runs until the senders of signals are dropped.
    pub(super) fn run(mut self) {
        let mut stopping = false;
        loop {
            select! {
                recv(self.signals) -> signal => {
                    let Ok(signal) = signal else { return };
                    self.stop(signal, stopping);
                    stopping = true;
                }
                recv(self.died) -> died => match died {
                    Ok(what) => self.supervisor.do_send(ThreadDied(what)),
                    Err(_) => self.died = never(),
                }
            }
        }
    }

    fn stop(&self, signal: Signal, stopping: bool) {
        let shutdown = match signal {
            Signal::Stop if !stopping => Shutdown::Drain(self.grace),
            Signal::Stop | Signal::Halt => Shutdown::Halt,
        };
        self.executor.stop();
        log::info!("told to stop {shutdown}");
        // Recorded at once, however long the supervisor takes: a second `daemon stop` that does not see it would
        // send a second signal, which is a hard stop.
        self.service_status.set_stopping();
        self.supervisor.do_send(shutdown);
    }
}
