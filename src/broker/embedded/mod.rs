//! The embedded broker: messages wait in the database, where their rows are anyway.
//!
//! This module does not depend on the database: the service gives it a [`QueueStore`]. A message can be taken as
//! soon as its row is marked as published. So a publisher sends nothing; it wakes the consumers of its process.
//! Consumers in other processes poll.

mod publisher;
mod queue_store;
mod subscription;
mod wake;

pub(super) use publisher::EmbeddedPublisher;
pub use queue_store::{QueueSession, QueueStore};

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use crossbeam_channel::Receiver;

use super::{Broker, BrokerError, BrokerEvent, BrokerPublisher, SubscriptionCommand};
use crate::config::{BrokerHost, QueueConfig};

/// The embedded broker of a service.
pub(super) struct EmbeddedBroker {
    store: Arc<dyn QueueStore>,
    /// The queues with a consumer that has not ended in order: the messages that it took are still to be put back.
    left_behind: Mutex<HashSet<String>>,
}

impl EmbeddedBroker {
    pub(super) fn new(store: Arc<dyn QueueStore>) -> Self {
        Self {
            store,
            left_behind: Mutex::default(),
        }
    }

    /// Sets whether the queue's consumer would leave messages behind if it ended now. Returns whether it would have
    /// before.
    fn set_left_behind(&self, queue: &str, is_left_behind: bool) -> bool {
        let mut queues = self
            .left_behind
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if is_left_behind {
            !queues.insert(queue.to_owned())
        } else {
            queues.remove(queue)
        }
    }
}

impl Broker for EmbeddedBroker {
    fn consume(
        &self,
        queue: &QueueConfig,
        epoch: u64,
        commands: &Receiver<SubscriptionCommand>,
        sink: &mut dyn FnMut(BrokerEvent),
    ) -> Result<(), BrokerError> {
        let mut session = self.store.connect()?;
        if self.set_left_behind(&queue.name, true) {
            session.put_back_all(&queue.name)?;
        }
        subscription::consume(session, queue, epoch, commands, sink)?;
        self.set_left_behind(&queue.name, false);
        Ok(())
    }

    fn publisher(&self) -> Result<Box<dyn BrokerPublisher>, BrokerError> {
        Ok(Box::new(EmbeddedPublisher::default()))
    }

    fn describe(&self) -> String {
        BrokerHost::Embedded.to_string()
    }
}
