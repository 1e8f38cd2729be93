//! What becomes of one message at the broker.

use crate::broker::{BrokerError, BrokerPublisher, Confirmation, SentBatch};
use crate::config::{Config, QueueConfig};
use crate::message::Message;

/// What became of one message at the broker.
pub(super) enum PublishResult {
    Published,
    Failed(String),
    /// Its queue takes no more for now, for this reason.
    QueueBusy(String),
    /// The broker does not permit it for now, for this reason; of its queue alone.
    Refused(String),
    /// The broker was sent it, and has not said a batch of it yet: of its queue alone, or of nothing.
    Unconfirmed {
        reason: String,
        is_queue_only: bool,
    },
    /// The broker takes nothing for now, for this reason.
    Waiting(String),
}

/// Whose fault it is that nothing was published.
pub(super) enum PublishFailure {
    /// Of the broker, or the link there.
    Broker(BrokerError),
    /// Of one of the messages.
    Message(MessageRefusal),
}

/// Why the broker has closed the channel over a message.
pub(super) enum MessageRefusal {
    /// It never takes it.
    ForGood(String),
    /// Somebody may permit it.
    ForNow(String),
}

/// On a connection that is open, a refusal is about what was sent on it.
impl From<BrokerError> for PublishFailure {
    fn from(error: BrokerError) -> Self {
        match error {
            BrokerError::Refused(reason) => Self::Message(MessageRefusal::ForGood(reason)),
            BrokerError::Forbidden(reason) => Self::Message(MessageRefusal::ForNow(reason)),
            other => Self::Broker(other),
        }
    }
}

/// What a broker has said of messages that were sent together.
pub(super) struct ConfirmationBatch {
    /// Of each of them.
    pub(super) confirmations: Vec<Confirmation>,
    /// It has said nothing for long.
    pub(super) is_silent: bool,
    /// Why the connection has ended, if it has: of what it is late with it will say nothing any more.
    pub(super) ended: Option<BrokerError>,
}

impl ConfirmationBatch {
    /// Waits for it.
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

/// Why messages for that queue wait.
pub(super) fn full_reason(queue: &str) -> String {
    format!("queue {queue:?} takes no more")
}

/// Why messages wait that the broker does not permit.
pub(super) fn refused_reason(message: &Message, reason: &str) -> String {
    format!(
        "the broker refuses messages for queue {:?}: {reason}",
        message.queue
    )
}

/// Why messages wait for a queue that has some without a batch.
pub(super) fn silent_reason(queue: &str) -> String {
    format!("queue {queue:?} does not confirm what it was sent")
}

/// The queue that is to be declared when the message fits none: the one that it is meant for, if the
/// configuration knows it.
pub(super) fn declarable<'a>(config: &'a Config, message: &Message) -> Option<&'a QueueConfig> {
    let queue = config.queue(&message.queue)?;
    let reaches_it = message.routing_key == queue.name
        && (message.exchange.is_empty() || message.exchange == queue.name);
    reaches_it.then_some(queue)
}

/// What it is for a message that the broker said this of it.
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
