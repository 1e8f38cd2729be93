//! The embedded broker: messages wait in the database, where their rows are anyway.
//!
//! This room does not know the database: whoever composes the service gives it a [`QueueStore`]. A
//! message is there for the taking as soon as its row is marked as published, so that a publisher has
//! nothing to send; it wakes the consumers of this process. Those of others look by themselves.

mod publisher;
mod subscription;
mod wake;

pub(super) use publisher::EmbeddedPublisher;

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use crossbeam_channel::Receiver;

use super::{Broker, BrokerError, BrokerEvent, BrokerPublisher, SubscriptionCommand};
use crate::config::{BrokerHost, QueueConfig};
use crate::message::Message;

/// The database, as the embedded broker needs it, for one worker.
pub trait QueueStore: Send + Sync {
    /// Opens a connection.
    ///
    /// # Errors
    /// When the database is away or refuses us.
    fn connect(&self) -> Result<Box<dyn QueueSession>, BrokerError>;
}

/// A connection to the database, for one thread.
pub trait QueueSession {
    /// Takes up to `limit` messages that wait in a queue, the highest priority and then the oldest first.
    /// No live worker but this one takes them until they are put back.
    ///
    /// # Errors
    /// When the database is away; they may have been taken then.
    fn take(&mut self, queue: &str, limit: usize) -> Result<Vec<Message>, BrokerError>;

    /// Puts back messages that this worker took, unless they were claimed since.
    ///
    /// # Errors
    /// When the database is away.
    fn put_back(&mut self, keys: &[String]) -> Result<(), BrokerError>;

    /// The same for all that it took from a queue.
    ///
    /// # Errors
    /// When the database is away.
    fn put_back_all(&mut self, queue: &str) -> Result<(), BrokerError>;

    /// How many messages wait in a queue.
    ///
    /// # Errors
    /// When the database is away.
    fn depth(&mut self, queue: &str) -> Result<u32, BrokerError>;
}

/// The broker of a service that keeps its messages in its database.
pub(super) struct Embedded {
    store: Arc<dyn QueueStore>,
    /// The queues whose last consumer did not end in order: what it had taken is still to be put back.
    left_behind: Mutex<HashSet<String>>,
}

impl Embedded {
    pub(super) fn new(store: Arc<dyn QueueStore>) -> Self {
        Self {
            store,
            left_behind: Mutex::default(),
        }
    }

    /// Notes whether what the queue's consumer takes is left behind should it end now; whether it was.
    fn leaves(&self, queue: &str, leaves: bool) -> bool {
        let mut left = self
            .left_behind
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if leaves {
            !left.insert(queue.to_owned())
        } else {
            left.remove(queue)
        }
    }
}

impl Broker for Embedded {
    fn consume(
        &self,
        queue: &QueueConfig,
        epoch: u64,
        commands: &Receiver<SubscriptionCommand>,
        sink: &mut dyn FnMut(BrokerEvent),
    ) -> Result<(), BrokerError> {
        let mut session = self.store.connect()?;
        if self.leaves(&queue.name, true) {
            session.put_back_all(&queue.name)?;
        }
        subscription::consume(session, queue, epoch, commands, sink)?;
        self.leaves(&queue.name, false);
        Ok(())
    }

    fn publisher(&self) -> Result<Box<dyn BrokerPublisher>, BrokerError> {
        Ok(Box::new(EmbeddedPublisher::default()))
    }

    fn describe(&self) -> String {
        BrokerHost::Embedded.to_string()
    }
}
