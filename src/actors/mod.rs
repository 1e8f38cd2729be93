//! The tree: state and control. No actor blocks, and none touches diesel or amiquip; what blocks runs
//! on threads that send to their actor.
//!
//! Stopping goes down as messages: the scheduler first, so that nothing new is published, then all
//! sets at once, each of which tells all its consumers before it waits for any.

mod consumer;
mod consumer_set;
mod messages;
mod probe;
mod scheduler;
mod subscription;
mod supervisor;

pub use probe::all_respond;
pub use supervisor::{Shutdown, SupervisorActor, ThreadDied, TreeOutcome};

use std::sync::Arc;

use crate::broker::Broker;
use crate::config::QueueConfig;
use crate::execution::Executor;
use crate::health::outage::ServerHealth;
use crate::health::service_status::{QueueStatusHandle, ServiceStatus};
use crate::ledger::Ledger;
use crate::maintenance::heartbeat::Lease;
use crate::schedule;

/// A queue to consume.
#[derive(Clone)]
pub struct ConsumedQueue {
    /// The queue.
    pub queue: QueueConfig,
    /// The broker that has it.
    pub broker: Arc<dyn Broker>,
    /// How that broker is.
    pub health: Arc<ServerHealth>,
    /// How the queue is.
    pub(crate) queue_status: QueueStatusHandle,
}

/// What the tree needs of its service.
#[derive(Clone)]
pub struct Tree {
    /// The queues to consume.
    pub queues: Vec<ConsumedQueue>,
    /// What the scheduler needs, if it is started.
    pub scheduler: Option<schedule::Setup>,
    /// Whether to stop once the queues are empty.
    pub until_idle: bool,
    /// The way to the ledger.
    pub ledger: Ledger,
    /// Whether what was claimed is still ours.
    pub lease: Lease,
    /// What runs messages.
    pub executor: Arc<Executor>,
    /// Says a start-up line to the user.
    pub announce: Arc<dyn Fn(&str) + Send + Sync>,
    /// Where the logs are, for the last start-up line.
    pub logs: String,
    /// How the service is.
    pub service_status: Arc<ServiceStatus>,
}
