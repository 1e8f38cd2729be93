//! Confirmed, mandatory, persistent publishing.

use std::collections::HashSet;
use std::time::Instant;

use amiquip::{
    AmqpProperties, AmqpValue, Confirm, ConfirmPayload, ConnectionBlockedNotification, FieldTable,
    Publish, Return,
};
use crossbeam_channel::{Receiver, RecvTimeoutError};

use super::super::{BrokerError, CONFIRM_TIMEOUT, Confirmation, Publisher};
use super::connection::{Link, sorted};
use super::topology;
use crate::config::{BrokerUrl, QueueConfig};
use crate::message::{Message, wire};
use crate::names;

/// At most so many messages are sent ahead of their confirms: amiquip's write buffer has no bound.
const WINDOW: usize = 1000;

/// AMQP's `delivery_mode` for a message that survives the broker.
const PERSISTENT: u8 = 2;

pub(super) struct AmqpPublisher {
    link: Link,
    confirms: Receiver<Confirm>,
    returns: Receiver<Return>,
    /// The tag that the broker will give the next message.
    next_tag: u64,
    version: String,
}

impl AmqpPublisher {
    pub(super) fn open(url: &BrokerUrl) -> Result<Self, BrokerError> {
        let link = Link::open(url)?;
        let listened = link.channel.enable_publisher_confirms().and_then(|()| {
            let confirms = link.channel.listen_for_publisher_confirms()?;
            Ok((confirms, link.channel.listen_for_returns()?))
        });
        match listened {
            Ok((confirms, returns)) => Ok(Self {
                version: version(link.connection.server_properties()),
                link,
                confirms,
                returns,
                next_tag: 1,
            }),
            Err(error) => Err(link.fail(error)),
        }
    }

    /// Publishes one window's worth and waits for it.
    fn publish_window(&mut self, messages: &[&Message]) -> Result<Vec<Confirmation>, BrokerError> {
        self.refuse_while_blocked()?;
        let mut window = Window::new(self.next_tag, messages.len());
        for (index, message) in messages.iter().enumerate() {
            if let Some(reason) = unfit(message) {
                window.outcomes[index] = Some(Confirmation::Unfit(reason));
                continue;
            }
            let body = wire::encode(&message.arguments);
            let publish = Publish {
                mandatory: true,
                ..Publish::with_properties(&body, message.routing_key.as_str(), properties(message))
            };
            self.link
                .channel
                .basic_publish(message.exchange.as_str(), publish)
                .map_err(|error| sorted(&error))?;
            self.next_tag += 1;
            window.sent.push(index);
        }
        self.await_confirms(messages, &mut window)?;
        Ok(window.outcomes.into_iter().flatten().collect())
    }

    fn await_confirms(
        &self,
        messages: &[&Message],
        window: &mut Window,
    ) -> Result<(), BrokerError> {
        let mut deadline = Instant::now() + CONFIRM_TIMEOUT;
        while window.confirmed < window.sent.len() {
            match self.confirms.recv_deadline(deadline) {
                Ok(confirm) => {
                    window.take(confirm);
                    deadline = Instant::now() + CONFIRM_TIMEOUT;
                }
                Err(RecvTimeoutError::Timeout) => {
                    self.refuse_while_blocked()?;
                    return Err(BrokerError::Away(
                        "the broker has not confirmed what it was sent".to_owned(),
                    ));
                }
                Err(RecvTimeoutError::Disconnected) => return Err(self.end()),
            }
        }
        // A return comes before the confirm of its message, so all are here.
        let returned: HashSet<String> = self
            .returns
            .try_iter()
            .filter_map(|returned| returned.properties.message_id().clone())
            .collect();
        for index in &window.sent {
            if returned.contains(&messages[*index].key) {
                window.outcomes[*index] = Some(Confirmation::Unroutable);
            }
        }
        Ok(())
    }

    /// Why the confirms ended: a call on the channel is told, once.
    fn end(&self) -> BrokerError {
        match self.link.channel.qos(0, 0, false) {
            Err(error) => sorted(&error),
            Ok(()) => BrokerError::Away("the broker closed the channel".to_owned()),
        }
    }

    fn refuse_while_blocked(&self) -> Result<(), BrokerError> {
        match self.link.blocked.try_iter().last() {
            Some(ConnectionBlockedNotification::Blocked(reason)) => Err(BrokerError::Away(
                format!("the broker accepts no messages for now: {reason}"),
            )),
            _ => Ok(()),
        }
    }
}

impl Publisher for AmqpPublisher {
    fn publish(&mut self, messages: &[&Message]) -> Result<Vec<Confirmation>, BrokerError> {
        let mut outcomes = Vec::with_capacity(messages.len());
        for window in messages.chunks(WINDOW) {
            outcomes.extend(self.publish_window(window)?);
        }
        Ok(outcomes)
    }

    fn declare(&mut self, queue: &QueueConfig) -> Result<(), BrokerError> {
        topology::declare(&self.link.channel, queue)
            .map(drop)
            .map_err(|error| {
                topology::refusal(queue, &error)
                    .map_or_else(|| sorted(&error), BrokerError::Refused)
            })
    }

    fn version(&self) -> String {
        self.version.clone()
    }
}

/// Messages under way, and what is known of them.
struct Window {
    first_tag: u64,
    /// Of each message that was sent, in the order of the tags, its place among the messages.
    sent: Vec<usize>,
    confirmed: usize,
    outcomes: Vec<Option<Confirmation>>,
    /// Tags below are confirmed; a multiple confirm covers all from here.
    unconfirmed_from: u64,
}

impl Window {
    fn new(first_tag: u64, messages: usize) -> Self {
        Self {
            first_tag,
            sent: Vec::with_capacity(messages),
            confirmed: 0,
            outcomes: vec![None; messages],
            unconfirmed_from: first_tag,
        }
    }

    fn take(&mut self, confirm: Confirm) {
        let (payload, outcome) = match confirm {
            Confirm::Ack(payload) => (payload, Confirmation::Confirmed),
            Confirm::Nack(payload) => (payload, Confirmation::Busy),
        };
        let ConfirmPayload {
            delivery_tag,
            multiple,
        } = payload;
        let from = if multiple {
            self.unconfirmed_from
        } else {
            delivery_tag
        };
        for tag in from..=delivery_tag {
            self.settle(tag, &outcome);
        }
        if multiple {
            self.unconfirmed_from = delivery_tag + 1;
        }
    }

    fn settle(&mut self, tag: u64, outcome: &Confirmation) {
        let place = tag
            .checked_sub(self.first_tag)
            .and_then(|nth| self.sent.get(usize::try_from(nth).ok()?));
        if let Some(slot) = place.and_then(|index| self.outcomes.get_mut(*index))
            && slot.is_none()
        {
            *slot = Some(outcome.clone());
            self.confirmed += 1;
        }
    }
}

/// Why AMQP can't carry the message: a short string over 255 bytes breaks the frame, and with it the
/// connection.
fn unfit(message: &Message) -> Option<String> {
    let parts = [
        ("routing key", &message.routing_key),
        ("exchange", &message.exchange),
        ("message id", &message.key),
    ];
    parts
        .into_iter()
        .find(|(_, text)| text.len() > names::SHORT_STRING_BYTES)
        .map(|(what, _)| {
            format!(
                "its {what} is longer than {} bytes",
                names::SHORT_STRING_BYTES
            )
        })
}

fn properties(message: &Message) -> AmqpProperties {
    let headers: FieldTable = [(
        names::TASK_HEADER.to_owned(),
        AmqpValue::LongString(message.task.clone()),
    )]
    .into_iter()
    .collect();
    AmqpProperties::default()
        .with_content_type("application/json".to_owned())
        .with_headers(headers)
        .with_delivery_mode(PERSISTENT)
        .with_priority(message.priority)
        .with_message_id(message.key.clone())
        .with_type_(names::MESSAGE_TYPE.to_owned())
}

/// `RabbitMQ 3.10.8`, from what the server says of itself.
fn version(properties: &FieldTable) -> String {
    let text = |key: &str| match properties.get(key) {
        Some(AmqpValue::LongString(text)) => text.as_str(),
        _ => "?",
    };
    format!("{} {}", text("product"), text("version"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ack(delivery_tag: u64, multiple: bool) -> Confirm {
        Confirm::Ack(ConfirmPayload {
            delivery_tag,
            multiple,
        })
    }

    #[test]
    fn single_and_multiple_confirms_in_any_order_settle_each_message_once() {
        let mut window = Window::new(11, 4);
        window.sent.extend(0..4);
        window.take(ack(12, false));
        window.take(ack(13, true));
        assert_eq!(window.confirmed, 3);
        window.take(Confirm::Nack(ConfirmPayload {
            delivery_tag: 14,
            multiple: true,
        }));
        assert_eq!(window.confirmed, 4);
        assert_eq!(window.outcomes[2], Some(Confirmation::Confirmed));
        assert_eq!(window.outcomes[3], Some(Confirmation::Busy));
    }
}
