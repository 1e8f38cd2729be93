//! RabbitMQ, through amiquip, whose parser does not take all that AMQP allows: a [`gate`] of ours stands
//! before it.
//!
//! amiquip's `Channel` and `Consumer` stay on the thread that opened them; see the rules that each
//! file obeys at the place where it does.

mod connection;
mod gate;
mod publisher;
mod returns;
mod socket;
mod subscription;
mod topology;
mod unsettled;
mod window;

use crossbeam_channel::Receiver;

use self::returns::Returns;
use super::{Broker, BrokerError, BrokerEvent, BrokerPublisher, SubscriptionCommand};
use crate::config::{BrokerUrl, QueueConfig};

/// A virtual host of RabbitMQ.
pub(super) struct RabbitMq {
    url: BrokerUrl,
    returns: Returns,
}

impl RabbitMq {
    pub(super) fn new(url: &BrokerUrl) -> Result<Self, BrokerError> {
        if url.secure && !cfg!(feature = "tls") {
            return Err(without_tls(url));
        }
        Ok(Self {
            url: url.clone(),
            returns: Returns::default(),
        })
    }
}

fn without_tls(url: &BrokerUrl) -> BrokerError {
    BrokerError::Unsupported(format!(
        "{url} asks for TLS, which this build is without: build with `--features tls`, or use amqp://"
    ))
}

impl Broker for RabbitMq {
    fn consume(
        &self,
        queue: &QueueConfig,
        epoch: u64,
        commands: &Receiver<SubscriptionCommand>,
        sink: &mut dyn FnMut(BrokerEvent),
    ) -> Result<(), BrokerError> {
        subscription::consume(&self.url, &self.returns, queue, epoch, commands, sink)
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
