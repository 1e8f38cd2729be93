//! The interface of a broker: its traits, and the events, commands and confirmations that pass through them.

use crossbeam_channel::Receiver;

use super::envelope::{DeliveryHandle, Envelope};
use super::error::BrokerError;
use crate::config::QueueConfig;
use crate::message::Message;

/// An event that a subscription reports to its owner.
#[derive(Debug)]
pub enum BrokerEvent {
    /// The queue is declared, and deliveries will follow.
    Opened {
        /// Messages ready in the queue.
        waiting: u32,
    },
    /// The deliveries that have arrived.
    Delivered(Vec<Envelope>),
    /// The queue counts redeliveries, although its arguments do not say so. From now on the subscription
    /// prefetches no more messages than can run at once, unless the configuration sets the prefetch.
    CountsRedeliveries,
    /// The answer to [`SubscriptionCommand::Depth`]: how many messages are ready in the queue.
    Depth(u32),
    /// The answer to [`SubscriptionCommand::Cancel`]: no more deliveries will follow.
    Cancelled,
}

/// A command from its owner to a subscription. Dropping the sender ends the subscription.
#[derive(Debug)]
pub enum SubscriptionCommand {
    /// Settle deliveries. Deliveries of another epoch are ignored: the broker has taken them back.
    Settle {
        /// Deliveries to acknowledge.
        accept: Vec<DeliveryHandle>,
        /// Deliveries to put back into the queue.
        give_back: Vec<DeliveryHandle>,
    },
    /// Prefetch more deliveries than the queue's prefetch. A command for another epoch is ignored.
    Prefetch {
        /// How many more; 0 returns to the queue's prefetch.
        more: u16,
        /// The connection that the command is for.
        epoch: u64,
    },
    /// Report how many messages are ready in the queue.
    Depth,
    /// Take no more deliveries, and put back those that were not handed on yet. Settling goes on.
    Cancel,
}

/// The broker's answer for one published message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Confirmation {
    /// The broker has the message.
    Confirmed,
    /// No queue is bound for the message.
    Unroutable,
    /// The broker rejected the message; its queue may be full.
    Busy,
    /// The broker has blocked the connection for this reason: it is short of memory or disk. It may still
    /// take the message later.
    Blocked(String),
    /// AMQP can't carry the message, for this reason.
    Unfit(String),
    /// The message was sent and is not confirmed yet, for this reason. Unless the connection has ended, the
    /// confirmation is still to come.
    Unconfirmed(String),
}

/// Confirmations that came after the publisher had stopped waiting for them.
#[derive(Debug, Default)]
pub struct LateConfirmations {
    /// The messages' keys, and the broker's answers.
    pub confirmations: Vec<(String, Confirmation)>,
    /// Whether the connection has ended: the other messages will never be confirmed.
    pub has_ended: bool,
}

/// A virtual host of a broker.
pub trait Broker: Send + Sync {
    /// Declares `queue`, then passes its deliveries to `sink` and obeys `commands` until their sender is
    /// dropped.
    ///
    /// # Errors
    /// When the connection ends earlier, or the broker refuses a declaration.
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

    /// The broker's address, without secrets.
    fn describe(&self) -> String;
}

/// Messages that were sent together on one connection, and whose confirmations are still to be collected.
#[derive(Debug, PartialEq, Eq)]
pub struct SentBatch(pub(super) u64);

/// A connection that publishes, for one thread.
pub trait BrokerPublisher: Send {
    /// Sends messages, persistent and mandatory, without waiting. They are in memory until the broker has
    /// read them; the caller bounds how many are.
    ///
    /// # Errors
    /// When the connection has ended; any of the messages may have been published by then. A publisher
    /// that returned an error can't be used again.
    fn send(&mut self, messages: &[&Message]) -> Result<SentBatch, BrokerError>;

    /// Waits until the broker has answered for each of the messages, which were sent as `sent`, or has
    /// confirmed nothing for [`CONFIRM_TIMEOUT`]. [`BrokerPublisher::late_confirmations`] returns the answers
    /// that come later.
    ///
    /// # Errors
    /// When the connection ends; any of the messages may have been published by then. A publisher
    /// that returned an error can't be used again.
    fn confirmations(
        &mut self,
        sent: SentBatch,
        messages: &[&Message],
    ) -> Result<Vec<Confirmation>, BrokerError>;

    /// Whether the last wait for confirmations ended because none came for [`CONFIRM_TIMEOUT`].
    fn is_silent(&self) -> bool {
        false
    }

    /// After an error of [`BrokerPublisher::confirmations`]: the answers that had come before it, one for
    /// each of the messages, or none if they are not known.
    fn partial_confirmations(&mut self) -> Vec<Confirmation> {
        Vec::new()
    }

    /// Returns the confirmations that have come since the publisher stopped waiting for them. Does not wait.
    fn late_confirmations(&mut self) -> LateConfirmations {
        LateConfirmations::default()
    }

    /// Whether no sent message awaits a confirmation.
    fn is_idle(&self) -> bool {
        true
    }

    /// Drops the sent batches whose confirmations nobody will collect.
    fn abandon_sent(&mut self) {}

    /// Sends messages and waits for their confirmations.
    ///
    /// # Errors
    /// As [`BrokerPublisher::send`] and [`BrokerPublisher::confirmations`] have them.
    fn publish(&mut self, messages: &[&Message]) -> Result<Vec<Confirmation>, BrokerError> {
        let sent = self.send(messages)?;
        self.confirmations(sent, messages)
    }

    /// Tells the publisher that the rows of these confirmed messages are marked as published.
    fn rows_marked(&mut self, _messages: &[&Message]) {}

    /// Declares a queue as its consumers declare it.
    ///
    /// # Errors
    /// When the connection ends, or the broker refuses the declaration.
    fn declare(&mut self, queue: &QueueConfig) -> Result<(), BrokerError>;

    /// Whether the connection is open, as far as is known. A connection that has ended publishes nothing.
    fn is_open(&mut self) -> bool;

    /// The broker's name and version, as the broker reports them.
    fn version(&self) -> String;
}

/// How long a publisher waits while the broker confirms nothing. It is below the publishing lease of the
/// store, so that a publisher has its answer before another takes its messages over.
pub const CONFIRM_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(4);
