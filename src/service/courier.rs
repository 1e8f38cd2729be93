//! What the supervisor is told from outside of the tree: signals, and deaths.

use std::sync::Arc;
use std::time::Duration;

use actix::prelude::*;
use crossbeam_channel::{Receiver, never, select};

use super::Signal;
use crate::actors::{Shutdown, SupervisorActor, ThreadDied};
use crate::execution::Executor;
use crate::health::service_status::ServiceStatus;

pub(super) struct Courier {
    pub(super) signals: Receiver<Signal>,
    /// What has died, beside the tree, that can't be begun anew.
    pub(super) died: Receiver<&'static str>,
    pub(super) supervisor: Addr<SupervisorActor>,
    pub(super) executor: Arc<Executor>,
    pub(super) service_status: Arc<ServiceStatus>,
    pub(super) grace: Option<Duration>,
}

impl Courier {
    /// Until nobody can send a signal any more.
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
        // Said at once, however long the supervisor takes: a `daemon stop` that does not see it sends a second
        // signal, which is a hard stop.
        self.service_status.stopping();
        self.supervisor.do_send(shutdown);
    }
}
