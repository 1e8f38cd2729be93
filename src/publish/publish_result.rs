//! The result of publishing one message.

use crate::broker::{BrokerError, BrokerPublisher, Confirmation, SentBatch};
use crate::config::{Config, QueueConfig};
use crate::message::Message;

/// The result of publishing one message.
pub(super) enum PublishResult {
    /// The broker has the message.
    Published,
    /// The message can't be published, for this reason.
    Failed(String),
    /// The message's queue takes no more for now, for this reason.
    QueueBusy(String),
    /// The broker does not permit messages for this queue for now, for this reason.
    Refused(String),
    /// The message was sent and is not confirmed yet. `is_queue_only` says whether only its queue is affected.
    Unconfirmed { reason: String, is_queue_only: bool },
    /// The broker takes no messages for now, for this reason.
    Waiting(String),
}

/// Why a batch was not published.
pub(super) enum PublishFailure {
    /// The broker or the connection failed.
    Broker(BrokerError),
    /// The broker refused one of the messages.
    Message(MessageRefusal),
}

/// Why the broker has closed the channel over a message.
pub(super) enum MessageRefusal {
    /// The broker will never take the message.
    ForGood(String),
    /// Somebody may grant the permission.
    ForNow(String),
}

/// On an open connection, a refusal is about a message that was sent on it.
impl From<BrokerError> for PublishFailure {
    fn from(error: BrokerError) -> Self {
        match error {
            BrokerError::Refused(reason) => Self::Message(MessageRefusal::ForGood(reason)),
            BrokerError::Forbidden(reason) => Self::Message(MessageRefusal::ForNow(reason)),
            other => Self::Broker(other),
        }
    }
}

/// The broker's answers for messages that were sent together.
pub(super) struct ConfirmationBatch {
    /// One answer for each message.
    pub(super) confirmations: Vec<Confirmation>,
    /// Whether the wait ended because no confirm came for long.
    pub(super) is_silent: bool,
    /// Why the connection has ended, if it has. Unconfirmed messages will not be confirmed then.
    pub(super) ended: Option<BrokerError>,
}

impl ConfirmationBatch {
    /// Waits for the answers.
    pub(super) fn of(
        publisher: &mut dyn BrokerPublisher,
        sent: SentBatch,
        messages: &[&Message],
    ) -> Self {
        match publisher.confirmations(sent, messages) {
            Ok(confirmations) => Self {
                confirmations,
                is_silent: publisher.is_silent(),
                ended: None,
            },
            Err(error) => {
                let unknown = Confirmation::Unconfirmed(error.to_string());
                let mut confirmations = publisher.partial_confirmations();
                confirmations.resize(messages.len(), unknown);
                Self {
                    confirmations,
                    is_silent: false,
                    ended: Some(error),
                }
            }
        }
    }
}

/// The reason why messages wait for a queue that takes no more.
pub(super) fn full_reason(queue: &str) -> String {
    format!("queue {queue:?} takes no more")
}

/// The reason why messages wait that the broker does not permit.
pub(super) fn refused_reason(message: &Message, reason: &str) -> String {
    format!(
        "the broker refuses messages for queue {:?}: {reason}",
        message.queue
    )
}

/// The reason why messages wait for a queue with unconfirmed messages.
pub(super) fn silent_reason(queue: &str) -> String {
    format!("queue {queue:?} does not confirm what it was sent")
}

/// The queue to declare if the message is unroutable: its own queue, if the configuration has it and the message
/// would reach it.
pub(super) fn declarable<'a>(config: &'a Config, message: &Message) -> Option<&'a QueueConfig> {
    let queue = config.queue(&message.queue)?;
    let reaches_it = message.routing_key == queue.name
        && (message.exchange.is_empty() || message.exchange == queue.name);
    reaches_it.then_some(queue)
}

/// The result that a broker's answer means for the message.
pub(super) fn result_of(
    message: &Message,
    confirmation: Confirmation,
    is_silent: bool,
) -> PublishResult {
    match confirmation {
        Confirmation::Confirmed => PublishResult::Published,
        Confirmation::Busy => PublishResult::QueueBusy(full_reason(&message.queue)),
        Confirmation::Blocked(reason) => PublishResult::Waiting(reason),
        Confirmation::Unfit(reason) => PublishResult::Failed(reason),
        Confirmation::Unconfirmed(reason) => PublishResult::Unconfirmed {
            reason,
            is_queue_only: is_silent,
        },
        Confirmation::Unroutable => PublishResult::Failed(format!(
            "the broker has no queue for exchange {:?} and routing key {:?}: add [[queues]] with name \
             = {:?} to the configuration, or publish to another queue",
            message.exchange, message.routing_key, message.queue
        )),
    }
}
