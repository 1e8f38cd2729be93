//! What becomes of one message at the broker.

use crate::broker::{BrokerError, BrokerPublisher, Confirmation, SentBatch};
use crate::config::{Config, QueueConfig};
use crate::message::Message;

/// What became of one message at the broker.
pub(super) enum PublishResult {
    Published,
    Failed(String),
    /// Its queue takes no more for now, for this reason.
    Held(String),
    /// The broker does not permit it for now, for this reason; of its queue alone.
    Refused(String),
    /// The broker was sent it, and has not said a word of it yet: of its queue alone, or of nothing.
    Unconfirmed {
        reason: String,
        queue_alone: bool,
    },
    /// The broker takes nothing for now, for this reason.
    Waiting(String),
}

/// Whose fault it is that nothing was published.
pub(super) enum Trouble {
    /// Of the broker, or the way there.
    Broker(BrokerError),
    /// Of one of the messages.
    Message(Refusal),
}

/// Why the broker has closed the channel over a message.
pub(super) enum Refusal {
    /// It never takes it.
    ForGood(String),
    /// Somebody may permit it.
    ForNow(String),
}

/// On a connection that is open, a refusal is about what was sent on it.
impl From<BrokerError> for Trouble {
    fn from(error: BrokerError) -> Self {
        match error {
            BrokerError::Refused(reason) => Self::Message(Refusal::ForGood(reason)),
            BrokerError::Forbidden(reason) => Self::Message(Refusal::ForNow(reason)),
            other => Self::Broker(other),
        }
    }
}

/// What a broker has said of messages that were sent together.
pub(super) struct Word {
    /// Of each of them.
    pub(super) confirmations: Vec<Confirmation>,
    /// It has said nothing for long.
    pub(super) is_silent: bool,
    /// Why the connection has ended, if it has: of what it is late with it will say nothing any more.
    pub(super) ended: Option<BrokerError>,
}

impl Word {
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
pub(super) fn full(queue: &str) -> String {
    format!("queue {queue:?} takes no more")
}

/// Why messages wait that the broker does not permit.
pub(super) fn refused(message: &Message, reason: &str) -> String {
    format!(
        "the broker refuses messages for queue {:?}: {reason}",
        message.queue
    )
}

/// Why messages wait for a queue that has some without a word.
pub(super) fn silent(queue: &str) -> String {
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
pub(super) fn fate(
    message: &Message,
    confirmation: Confirmation,
    is_silent: bool,
) -> PublishResult {
    match confirmation {
        Confirmation::Confirmed => PublishResult::Published,
        Confirmation::Busy => PublishResult::Held(full(&message.queue)),
        Confirmation::Blocked(reason) => PublishResult::Waiting(reason),
        Confirmation::Unfit(reason) => PublishResult::Failed(reason),
        Confirmation::Unconfirmed(reason) => PublishResult::Unconfirmed {
            reason,
            queue_alone: is_silent,
        },
        Confirmation::Unroutable => PublishResult::Failed(format!(
            "the broker has no queue for exchange {:?} and routing key {:?}: add [[queues]] with name \
             = {:?} to the configuration, or publish to another queue",
            message.exchange, message.routing_key, message.queue
        )),
    }
}
