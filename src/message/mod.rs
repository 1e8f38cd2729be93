//! Messages: a task's name, its arguments and where they are sent; and the formats of arguments on the wire and
//! in rows.

pub(crate) mod json;
mod literal;
mod payload;
pub(crate) mod python;
pub(crate) mod wire;

use chrono::{DateTime, Utc};

pub use literal::{Literal, Number, Object};
pub use payload::{Arguments, Payload, TooLarge};

/// A message that is to be recorded and published.
#[derive(Debug, Clone, PartialEq)]
pub struct Message {
    /// The id of the message: the message id on the broker, and the `uuid` in the row.
    pub key: String,
    /// The task's registered name.
    pub task: String,
    /// The task's arguments.
    pub arguments: Payload,
    /// The queue that the message is for.
    pub queue: String,
    /// The exchange that the message is published to; `""` is RabbitMQ's default exchange.
    pub exchange: String,
    /// The routing key: the queue's name, with the default exchange.
    pub routing_key: String,
    /// The priority, from 0 (the default) to 255. Higher priorities are delivered first.
    pub priority: u8,
    /// The occurrence of a schedule that the message is published for, if any.
    pub occurrence: Option<Occurrence>,
}

/// A borrowed view of a message, wherever its parts are stored.
#[derive(Debug, Clone, Copy)]
#[doc(hidden)]
pub struct MessageRef<'a> {
    /// See [`Message::key`].
    pub key: &'a str,
    /// See [`Message::task`].
    pub task: &'a str,
    /// See [`Message::arguments`].
    pub arguments: &'a Payload,
    /// See [`Message::queue`].
    pub queue: &'a str,
    /// See [`Message::exchange`].
    pub exchange: &'a str,
    /// See [`Message::routing_key`].
    pub routing_key: &'a str,
    /// See [`Message::priority`].
    pub priority: u8,
    /// See [`Message::occurrence`].
    pub occurrence: Option<Occurrence>,
}

impl<'a> From<&'a Message> for MessageRef<'a> {
    fn from(message: &'a Message) -> Self {
        Self {
            key: &message.key,
            task: &message.task,
            arguments: &message.arguments,
            queue: &message.queue,
            exchange: &message.exchange,
            routing_key: &message.routing_key,
            priority: message.priority,
            occurrence: message.occurrence,
        }
    }
}

/// The occurrence of a schedule that a message is published for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Occurrence {
    /// `carrot_scheduledtask.id`.
    pub schedule: i64,
    /// The time that it was planned for; `None` if it was started by hand, outside of the timetable.
    pub planned: Option<DateTime<Utc>>,
}

impl Message {
    /// About how many bytes of memory the message takes.
    #[must_use]
    pub fn size(&self) -> usize {
        size_of::<Self>() + self.arguments.size()
    }

    /// A message with a new key, for `queue`, by the default exchange.
    #[must_use]
    pub fn new(
        task: impl Into<String>,
        arguments: impl Into<Payload>,
        queue: impl Into<String>,
    ) -> Self {
        let queue = queue.into();
        Self {
            key: crate::names::new_key(),
            task: task.into(),
            arguments: arguments.into(),
            exchange: String::new(),
            routing_key: queue.clone(),
            queue,
            priority: 0,
            occurrence: None,
        }
    }
}
