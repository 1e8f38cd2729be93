//! Publishing on the embedded broker: the row is the message.

use std::collections::{BTreeSet, HashSet};

use super::super::{BrokerError, BrokerPublisher, Confirmation, SentBatch};
use super::wake;
use crate::config::QueueConfig;
use crate::message::Message;

/// A publisher that sends nothing. It confirms messages for the queues that were declared on it: no consumer would
/// take a message for another queue.
#[derive(Default)]
pub(in crate::broker) struct EmbeddedPublisher {
    queues: HashSet<String>,
}

impl EmbeddedPublisher {
    /// Accepts the default exchange and the exchange with the queue's name, the two by which RabbitMQ would route
    /// the message.
    fn confirm(&self, message: &Message) -> Confirmation {
        let queue = &message.routing_key;
        let fits = message.exchange.is_empty() || message.exchange == *queue;
        if fits && self.queues.contains(queue) {
            Confirmation::Confirmed
        } else {
            Confirmation::Unroutable
        }
    }
}

impl BrokerPublisher for EmbeddedPublisher {
    fn send(&mut self, _: &[&Message]) -> Result<SentBatch, BrokerError> {
        Ok(SentBatch(0))
    }

    fn confirmations(
        &mut self,
        _: SentBatch,
        messages: &[&Message],
    ) -> Result<Vec<Confirmation>, BrokerError> {
        Ok(messages
            .iter()
            .map(|message| self.confirm(message))
            .collect())
    }

    fn rows_marked(&mut self, messages: &[&Message]) {
        let queues: BTreeSet<&String> = messages
            .iter()
            .map(|message| &message.routing_key)
            .collect();
        queues.into_iter().for_each(|queue| wake::wake(queue));
    }

    fn declare(&mut self, queue: &QueueConfig) -> Result<(), BrokerError> {
        self.queues.insert(queue.name.clone());
        Ok(())
    }

    fn is_open(&mut self) -> bool {
        true
    }

    fn version(&self) -> String {
        "messages wait in the database".to_owned()
    }
}
