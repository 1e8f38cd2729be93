//! What the actor tree is built from.

use std::sync::Arc;

use crate::broker::Broker;
use crate::config::QueueConfig;
use crate::execution::Executor;
use crate::health::outage::ServerHealth;
use crate::health::queue_status_handle::QueueStatusHandle;
use crate::health::service_status::ServiceStatus;
use crate::ledger::Ledger;
use crate::maintenance::heartbeat::Lease;
use crate::schedule;

/// A queue to consume, with its broker.
#[derive(Clone)]
pub struct ConsumedQueue {
    /// The queue.
    pub queue: QueueConfig,
    /// The broker that has it.
    pub broker: Arc<dyn Broker>,
    /// The health of that broker.
    pub health: Arc<ServerHealth>,
    /// The status of the queue.
    pub(crate) queue_status: QueueStatusHandle,
}

/// What the actor tree needs of its service.
#[derive(Clone)]
pub struct Tree {
    /// The queues to consume.
    pub queues: Vec<ConsumedQueue>,
    /// What the scheduler needs, if it is started.
    pub scheduler: Option<schedule::Setup>,
    /// Whether to stop once the queues are empty.
    pub until_idle: bool,
    /// The ledger.
    pub ledger: Ledger,
    /// Tells whether this worker still owns what it claimed.
    pub lease: Lease,
    /// Executes messages.
    pub executor: Arc<Executor>,
    /// Prints a start-up line for the user.
    pub announce: Arc<dyn Fn(&str) + Send + Sync>,
    /// Where the logs are, for the last start-up line.
    pub logs: String,
    /// The status of the service.
    pub service_status: Arc<ServiceStatus>,
}
