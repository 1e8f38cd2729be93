//! The seam to the broker: the interface that the rest of the crate uses. Only this module names amiquip.
//!
//! A [`Broker`] is one virtual host. Consuming is one blocking call on the caller's thread. The call returns
//! when the connection ends; the caller reconnects. A [`BrokerPublisher`] has a connection of its own, because
//! a broker that is short of memory stops reading from connections that publish.
//!
//! There are two brokers: RabbitMQ, and the embedded broker, whose messages wait in the database.

mod amqp;
mod embedded;
mod envelope;
mod error;
mod interface;

pub use embedded::{QueueSession, QueueStore};
pub use envelope::{DeliveryHandle, Envelope, Fingerprint};
pub use error::BrokerError;
pub use interface::{
    Broker, BrokerEvent, BrokerPublisher, CONFIRM_TIMEOUT, Confirmation, LateConfirmations,
    SentBatch, SubscriptionCommand,
};

use std::sync::Arc;

use self::embedded::{EmbeddedBroker, EmbeddedPublisher};
use crate::config::{BrokerHost, BrokerUrl};

/// The RabbitMQ virtual host at `url`.
///
/// # Errors
/// [`BrokerError::Unsupported`] for a URL that this build can't serve; the error names the remedy.
pub fn open(url: &BrokerUrl) -> Result<Box<dyn Broker>, BrokerError> {
    Ok(Box::new(amqp::RabbitMq::new(url)?))
}

/// The embedded broker, whose messages wait in `store`.
#[must_use]
pub fn embedded(store: Arc<dyn QueueStore>) -> Box<dyn Broker> {
    Box::new(EmbeddedBroker::new(store))
}

/// Opens a connection to publish on. The embedded broker needs none.
///
/// # Errors
/// When the broker is away or refuses us.
pub fn publisher(host: &BrokerHost) -> Result<Box<dyn BrokerPublisher>, BrokerError> {
    match host {
        BrokerHost::Embedded => Ok(Box::new(EmbeddedPublisher::default())),
        BrokerHost::RabbitMq(url) => open(url)?.publisher(),
    }
}
