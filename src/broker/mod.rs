//! The seam to the broker: what the rest of the crate may ask of it. Only this room names amiquip.
//!
//! A [`Broker`] is one virtual host. Consuming is one blocking call on the caller's thread, which
//! ends when the connection does: reconnecting is the caller's. Publishing goes through a
//! [`BrokerPublisher`] with a connection of its own, since a broker that is short of memory stops reading
//! from connections that publish.
//!
//! There are two: RabbitMQ, and the embedded one, whose messages wait in the database.

mod amqp;
mod embedded;
mod envelope;
mod error;

pub use embedded::{QueueSession, QueueStore};
pub use envelope::{DeliveryHandle, Envelope, Fingerprint};
pub use error::BrokerError;

use std::sync::Arc;

use crossbeam_channel::Receiver;

use self::embedded::{Embedded, EmbeddedPublisher};
use crate::config::{BrokerHost, BrokerUrl, QueueConfig};
use crate::message::Message;

/// What a subscription tells its owner.
#[derive(Debug)]
pub enum BrokerEvent {
    /// The queue is declared and messages will come; so many wait in it.
    Opened {
        /// Messages ready in the queue.
        waiting: u32,
    },
    /// Whatever had arrived.
    Delivered(Vec<Envelope>),
    /// The queue counts how often a message comes back, which its arguments do not say: from now on no more
    /// come than run, unless its prefetch is set.
    CountsRedeliveries,
    /// The answer to [`SubscriptionCommand::Depth`].
    Depth(u32),
    /// The answer to [`SubscriptionCommand::Cancel`]: nothing more will come.
    Cancelled,
}

/// What its owner tells a subscription. Dropping the sender ends it.
#[derive(Debug)]
pub enum SubscriptionCommand {
    /// Settle deliveries. Those of another epoch are passed over: their broker has them back.
    Settle {
        /// They are done with.
        accept: Vec<DeliveryHandle>,
        /// They go back into the queue.
        give_back: Vec<DeliveryHandle>,
    },
    /// Take more deliveries than the queue's prefetch. Meant for another epoch, it is passed over.
    Prefetch {
        /// How many more; 0 for none.
        more: u16,
        /// The connection that it is meant for.
        epoch: u64,
    },
    /// Say how many messages are ready in the queue.
    Depth,
    /// Take no more deliveries, and give back those that were not handed on yet. Settling goes on.
    Cancel,
}

/// What the broker said of a published message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Confirmation {
    /// The broker has it.
    Confirmed,
    /// It fits no queue.
    Unroutable,
    /// The broker does not take it now; its queue may be full.
    Busy,
    /// The broker takes nothing from us now, for this reason: it is short of memory or disk. It may
    /// take the message all the same, later.
    Blocked(String),
    /// AMQP can't carry it, for this reason.
    Unfit(String),
    /// The broker was sent it and has not said a word of it yet, for this reason. Unless the connection has ended,
    /// that is still to come.
    Unconfirmed(String),
}

/// What a broker has said of messages that it was late with.
#[derive(Debug, Default)]
pub struct LateConfirmations {
    /// Their keys, and what it said.
    pub said: Vec<(String, Confirmation)>,
    /// Whether the connection has ended: of the others it will say nothing any more.
    pub ended: bool,
}

/// A virtual host of a broker.
pub trait Broker: Send + Sync {
    /// Declares `queue`, then hands what it delivers to `sink` and obeys `commands`, until their
    /// sender is dropped.
    ///
    /// # Errors
    /// When the connection ends before that, or the broker refuses a declaration.
    fn consume(
        &self,
        queue: &QueueConfig,
        epoch: u64,
        commands: &Receiver<SubscriptionCommand>,
        sink: &mut dyn FnMut(BrokerEvent),
    ) -> Result<(), BrokerError>;

    /// Opens a connection to publish on.
    ///
    /// # Errors
    /// When the broker is away or refuses us.
    fn publisher(&self) -> Result<Box<dyn BrokerPublisher>, BrokerError>;

    /// Where it is, without secrets.
    fn describe(&self) -> String;
}

/// Messages that were sent together on one connection, and not asked after yet.
#[derive(Debug, PartialEq, Eq)]
pub struct SentBatch(u64);

/// A connection that publishes, for one thread.
pub trait BrokerPublisher: Send {
    /// Sends messages, persistent and mandatory, and waits for nothing: they are in memory until the
    /// broker has read them, which is for the caller to bound.
    ///
    /// # Errors
    /// When the connection has ended; any of the messages may have been published by then. A publisher
    /// that erred is of no more use.
    fn send(&mut self, messages: &[&Message]) -> Result<SentBatch, BrokerError>;

    /// Waits until the broker has said of each of the messages, which were sent as `sent`, what became
    /// of it, or says nothing for [`CONFIRM_TIMEOUT`]. What it has not said by then is to be asked for by
    /// [`BrokerPublisher::late_confirmations`].
    ///
    /// # Errors
    /// When the connection ends; any of the messages may have been published by then. A publisher
    /// that erred is of no more use.
    fn confirmations(
        &mut self,
        sent: SentBatch,
        messages: &[&Message],
    ) -> Result<Vec<Confirmation>, BrokerError>;

    /// Whether the broker had said nothing for [`CONFIRM_TIMEOUT`] when it was last waited for.
    fn is_silent(&self) -> bool {
        false
    }

    /// After an error of [`BrokerPublisher::confirmations`], what had been said of each of the messages by then, if that is
    /// known.
    fn partial_confirmations(&mut self) -> Vec<Confirmation> {
        Vec::new()
    }

    /// What the broker has said since of messages that it was late with; waits for nothing.
    fn late_confirmations(&mut self) -> LateConfirmations {
        LateConfirmations::default()
    }

    /// Whether nothing that was sent waits for the broker's word.
    fn is_idle(&self) -> bool {
        true
    }

    /// Nobody will ask for what was sent and not asked for yet.
    fn abandon_sent(&mut self) {}

    /// Publishes messages: sends them and waits for the broker's word.
    ///
    /// # Errors
    /// As [`BrokerPublisher::send`] and [`BrokerPublisher::confirmations`] have them.
    fn publish(&mut self, messages: &[&Message]) -> Result<Vec<Confirmation>, BrokerError> {
        let sent = self.send(messages)?;
        self.confirmations(sent, messages)
    }

    /// The rows of messages that it has confirmed say so from now on.
    fn rows_marked(&mut self, _messages: &[&Message]) {}

    /// Declares a queue as its consumers would.
    ///
    /// # Errors
    /// When the connection ends, or the broker refuses the declaration.
    fn declare(&mut self, queue: &QueueConfig) -> Result<(), BrokerError>;

    /// Whether the connection has not been seen to end: one that has publishes nothing.
    fn is_open(&mut self) -> bool;

    /// The broker's name and version, in its own words.
    fn version(&self) -> String;
}

/// So long a broker may say nothing of messages that it was sent. Below the publishing lease of the
/// store, so that who publishes knows the end before another takes over.
pub const CONFIRM_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(4);

/// The RabbitMQ that `url` names.
///
/// # Errors
/// [`BrokerError::Unsupported`] for a URL that this build can't serve; it says what to do.
pub fn open(url: &BrokerUrl) -> Result<Box<dyn Broker>, BrokerError> {
    Ok(Box::new(amqp::RabbitMq::new(url)?))
}

/// The broker whose messages wait in `store`.
#[must_use]
pub fn embedded(store: Arc<dyn QueueStore>) -> Box<dyn Broker> {
    Box::new(Embedded::new(store))
}

/// Opens a connection to publish on. For the embedded broker there is nothing to open.
///
/// # Errors
/// When the broker is away or refuses us.
pub fn publisher(host: &BrokerHost) -> Result<Box<dyn BrokerPublisher>, BrokerError> {
    match host {
        BrokerHost::Embedded => Ok(Box::new(EmbeddedPublisher::default())),
        BrokerHost::RabbitMq(url) => open(url)?.publisher(),
    }
}
