//! The service: opens the database and the brokers, runs the threads and the actor tree until a signal stops
//! them, and drains.

pub(crate) mod embedded_queue;
pub(crate) mod notifier;
mod registration;
mod run;
mod signal_forwarder;
mod threads;

use std::io;
use std::sync::Arc;

use crate::broker::BrokerError;
use crate::config::Config;
use crate::health::service_status::ServiceStatus;
use crate::schedule::{Schedule, ScheduleError};
use crate::store::{StoreError, WorkerId};
use crate::task::{DuplicateTask, Registry, StateError};

/// The parts and options of a service.
#[derive(Clone)]
pub struct Service {
    /// The configuration.
    pub config: Arc<Config>,
    /// The tasks that are functions; commands come from the configuration.
    pub registry: Registry,
    /// Schedules that are added at the start if there is none of that name.
    pub schedules: Vec<Schedule>,
    /// Whether to start the scheduler.
    pub scheduler: bool,
    /// Whether to run the queued messages and then end.
    pub until_idle: bool,
    /// Prints a start-up line for the user.
    pub announce: Arc<dyn Fn(&str) + Send + Sync>,
    /// The name of the log file, for the last start-up line.
    pub logs: String,
    /// Where it records its state.
    pub service_status: Arc<ServiceStatus>,
    /// The workers of earlier runs in this process that may still be registered: since the process lives, others
    /// take them for alive.
    pub predecessors: Vec<WorkerId>,
}

/// A signal to a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// Stop in order; the second time, stop hard.
    Stop,
    /// Stop hard.
    Halt,
}

impl Signal {
    /// How a service ends that receives the signal before its start is over.
    const fn ends_a_start(self) -> Ended {
        match self {
            Self::Stop => Ended::Drained,
            Self::Halt => Ended::Halted,
        }
    }
}

/// How a service ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// Everything that was running has finished.
    Drained,
    /// It was stopped hard: running tasks were left for redelivery.
    Halted,
}

/// Why a service did not start, or failed.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    /// Two tasks have the same name.
    #[error(transparent)]
    DuplicateTask(#[from] DuplicateTask),
    /// The tasks' shared state is missing or can't be made.
    #[error(transparent)]
    State(#[from] StateError),
    /// A schedule of the app's is invalid.
    #[error(transparent)]
    Schedule(#[from] ScheduleError),
    /// The database can't be used.
    #[error("the database can't be used: {0}")]
    Store(#[from] StoreError),
    /// The broker can't be used.
    #[error("the broker can't be used: {0}")]
    Broker(#[from] BrokerError),
    /// With `until_idle`: the queued messages could not be run.
    #[error("what is queued could not be run: {0}")]
    NotIdle(String),
    /// A vital part has died that can't be restarted by itself.
    #[error("{what} died: what was running is run again")]
    Died {
        /// The part.
        what: String,
        /// The service's worker id.
        worker: WorkerId,
    },
    /// The system refused something.
    #[error("the service could not be started: {0}")]
    System(#[from] io::Error),
}
