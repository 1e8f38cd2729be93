//! RabbitMQ, through amiquip. amiquip's parser does not take everything that AMQP allows, so a [`gate`] between
//! the socket and amiquip mends what it can't parse.
//!
//! amiquip's `Channel` and `Consumer` stay on the thread that opened them. Other rules of amiquip are noted
//! where the code obeys them.

mod confirm_window;
mod connection;
mod delivery;
mod gate;
mod message;
mod publisher;
mod redelivery_counts;
mod socket;
mod subscription;
mod topology;
mod unsettled;

use crossbeam_channel::Receiver;

use self::redelivery_counts::RedeliveryCounters;
use super::{Broker, BrokerError, BrokerEvent, BrokerPublisher, SubscriptionCommand};
use crate::config::{BrokerUrl, QueueConfig};

/// A virtual host of RabbitMQ.
pub(super) struct RabbitMq {
    url: BrokerUrl,
    counters: RedeliveryCounters,
}

impl RabbitMq {
    pub(super) fn new(url: &BrokerUrl) -> Result<Self, BrokerError> {
        if url.secure && !cfg!(feature = "tls") {
            return Err(socket::without_tls(url));
        }
        Ok(Self {
            url: url.clone(),
            counters: RedeliveryCounters::default(),
        })
    }
}

impl Broker for RabbitMq {
    fn consume(
        &self,
        queue: &QueueConfig,
        epoch: u64,
        commands: &Receiver<SubscriptionCommand>,
        sink: &mut dyn FnMut(BrokerEvent),
    ) -> Result<(), BrokerError> {
        subscription::consume(&self.url, &self.counters, queue, epoch, commands, sink)
    }

    fn publisher(&self) -> Result<Box<dyn BrokerPublisher>, BrokerError> {
        let publisher = publisher::AmqpPublisher::open(&self.url)?;
        Ok(Box::new(publisher))
    }

    fn describe(&self) -> String {
        self.url.to_string()
    }
}

#[cfg(all(test, not(feature = "tls")))]
mod tests {
    use super::RabbitMq;
    use crate::broker::BrokerError;

    #[test]
    fn amqps_says_what_to_build() {
        let refused = RabbitMq::new(&"amqps://u:hunter2@h".parse().unwrap()).err();
        let Some(BrokerError::Unsupported(reason)) = refused else {
            panic!("not Unsupported: {refused:?}");
        };
        assert!(reason.contains("--features tls"), "{reason}");
        assert!(!reason.contains("hunter2"), "{reason}");
        assert!(RabbitMq::new(&"amqp://h".parse().unwrap()).is_ok());
    }
}
