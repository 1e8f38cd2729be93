//! What the scheduler needs of its service.

use std::sync::Arc;

use crossbeam_channel::Sender;

use crate::config::Config;
use crate::health::outage::Servers;
use crate::store::Store;

/// What the service gives the scheduler.
#[derive(Clone)]
pub struct Setup {
    /// The database.
    pub store: Arc<dyn Store>,
    /// The configuration, with the brokers of queues.
    pub config: Arc<Config>,
    /// The health of the servers.
    pub(crate) servers: Arc<Servers>,
    /// Every thread holds one, so that the receiver sees when the last thread has ended.
    pub(crate) alive: Sender<()>,
}
