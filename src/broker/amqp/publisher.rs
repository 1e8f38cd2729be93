//! Confirmed, mandatory, persistent publishing.

use std::collections::{BTreeMap, HashSet};

use amiquip::{
    AmqpProperties, AmqpValue, Confirm, ConfirmPayload, ConnectionBlockedNotification, FieldTable,
    Publish, Return,
};
use crossbeam_channel::{Receiver, TryRecvError, after, select};

use super::super::{BrokerError, CONFIRM_TIMEOUT, Confirmation, Publisher, Sent};
use super::connection::Link;
use super::topology;
use crate::config::{BrokerUrl, QueueConfig};
use crate::message::{Message, wire};
use crate::names;

/// AMQP's `delivery_mode` for a message that survives the broker.
const PERSISTENT: u8 = 2;

pub(super) struct AmqpPublisher {
    link: Link,
    confirms: Receiver<Confirm>,
    returns: Receiver<Return>,
    /// The tag that the broker will give the next message.
    next_tag: u64,
    /// What was sent together, by how many times that was done before.
    under_way: BTreeMap<u64, Window>,
    times: u64,
    /// The ids of messages that came back and were not asked after yet.
    returned: HashSet<String>,
    version: String,
    /// Why the broker does not read from us now, if it does not.
    blocked: Option<String>,
    /// Something went wrong: the connection is of no more use.
    broken: bool,
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
                under_way: BTreeMap::new(),
                times: 0,
                returned: HashSet::new(),
                blocked: None,
                broken: false,
            }),
            Err(error) => Err(link.fail(error)),
        }
    }

    fn try_send(&mut self, messages: &[&Message]) -> Result<Window, BrokerError> {
        let mut window = Window::new(self.next_tag, messages.len());
        for (index, message) in messages.iter().enumerate() {
            if let Some(reason) = unfit(message) {
                window.outcomes[index] = Some(Confirmation::Unfit(reason));
                continue;
            }
            // What a blocked connection is sent waits in our memory.
            if self.learn_if_blocked()? {
                break;
            }
            let body = wire::encode(&message.arguments);
            let publish = Publish {
                mandatory: true,
                ..Publish::with_properties(&body, message.routing_key.as_str(), properties(message))
            };
            self.link
                .channel
                .basic_publish(message.exchange.as_str(), publish)
                .map_err(|error| self.link.sorted(&error))?;
            self.next_tag += 1;
            window.sent.push(index);
        }
        Ok(window)
    }

    /// Waits until all of the window are confirmed, or the broker says that it does not read any more.
    fn await_confirms(&mut self, window: &mut Window) -> Result<(), BrokerError> {
        let blocked = self.link.blocked.clone();
        let mut silence = after(CONFIRM_TIMEOUT);
        while window.confirmed < window.sent.len() && self.blocked.is_none() {
            select! {
                recv(self.confirms) -> confirm => {
                    let confirm = confirm.map_err(|_| self.end())?;
                    window.take(&confirm);
                    self.under_way.values_mut().for_each(|other| other.take(&confirm));
                    silence = after(CONFIRM_TIMEOUT);
                }
                recv(blocked) -> note => self.note(note.map_err(|_| self.end())?),
                recv(silence) -> _ => {
                    return Err(BrokerError::Away(
                        "the broker has not confirmed what it was sent".to_owned(),
                    ));
                }
            }
        }
        Ok(())
    }

    /// What became of each message of a window whose confirms have been awaited.
    fn outcomes(&mut self, mut window: Window, messages: &[&Message]) -> Vec<Confirmation> {
        // A return comes before the confirm of its message, so all are here.
        let returned = self.returns.try_iter();
        self.returned
            .extend(returned.filter_map(|returned| returned.properties.message_id().clone()));
        if !self.returned.is_empty() {
            for index in &window.sent {
                let outcome = &mut window.outcomes[*index];
                if outcome.is_some() && self.returned.remove(&messages[*index].key) {
                    *outcome = Some(Confirmation::Unroutable);
                }
            }
            // The rest is of messages that were given up when the broker stopped reading.
            if self.under_way.is_empty() {
                self.returned.clear();
            }
        }
        let reason = self.blocked.as_deref().unwrap_or_default();
        let outcomes = window.outcomes.into_iter();
        outcomes
            .map(|outcome| outcome.unwrap_or_else(|| Confirmation::Blocked(reason.to_owned())))
            .collect()
    }

    /// Why the confirms ended: a call on the channel is told, once.
    fn end(&self) -> BrokerError {
        match self.link.channel.qos(0, 0, false) {
            Err(error) => self.link.sorted(&error),
            Ok(()) => BrokerError::Away("the broker closed the channel".to_owned()),
        }
    }

    fn note(&mut self, note: ConnectionBlockedNotification) {
        self.blocked = match note {
            ConnectionBlockedNotification::Blocked(reason) => {
                Some(format!("the broker accepts no messages for now: {reason}"))
            }
            ConnectionBlockedNotification::Unblocked => None,
        };
    }

    /// Whether the broker does not read from us, as far as it has said by now.
    fn learn_if_blocked(&mut self) -> Result<bool, BrokerError> {
        loop {
            match self.link.blocked.try_recv() {
                Ok(note) => self.note(note),
                Err(TryRecvError::Empty) => return Ok(self.blocked.is_some()),
                Err(TryRecvError::Disconnected) => return Err(self.end()),
            }
        }
    }
}

/// Closing in order waits for the broker's word, which it does not give while it does not read.
impl Drop for AmqpPublisher {
    fn drop(&mut self) {
        if self.broken || self.blocked.is_some() {
            self.link.hang_up();
        }
    }
}

impl Publisher for AmqpPublisher {
    fn send(&mut self, messages: &[&Message]) -> Result<Sent, BrokerError> {
        let window = self.try_send(messages);
        self.broken |= window.is_err();
        let sent = self.times;
        self.times += 1;
        self.under_way.insert(sent, window?);
        Ok(Sent(sent))
    }

    fn confirmations(
        &mut self,
        sent: Sent,
        messages: &[&Message],
    ) -> Result<Vec<Confirmation>, BrokerError> {
        let Some(mut window) = self.under_way.remove(&sent.0) else {
            let reason = "the connection that this was sent on is gone";
            return Err(BrokerError::Away(reason.to_owned()));
        };
        let confirmed = self.await_confirms(&mut window);
        self.broken |= confirmed.is_err();
        confirmed?;
        Ok(self.outcomes(window, messages))
    }

    fn declare(&mut self, queue: &QueueConfig) -> Result<(), BrokerError> {
        topology::declare(&self.link.channel, queue)
            .map(drop)
            .map_err(|error| {
                topology::refusal(queue, &error)
                    .map_or_else(|| self.link.sorted(&error), BrokerError::Refused)
            })
    }

    fn is_open(&mut self) -> bool {
        !self.broken && self.learn_if_blocked().is_ok()
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

    /// Notes what the confirm says of these messages, if anything.
    fn take(&mut self, confirm: &Confirm) {
        let (payload, outcome) = match *confirm {
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
        let end = self.first_tag + self.sent.len() as u64;
        for tag in from..end.min(delivery_tag + 1) {
            self.settle(tag, &outcome);
        }
        if multiple {
            self.unconfirmed_from = self.unconfirmed_from.max(delivery_tag + 1);
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
        window.take(&ack(12, false));
        window.take(&ack(13, true));
        assert_eq!(window.confirmed, 3);
        window.take(&Confirm::Nack(ConfirmPayload {
            delivery_tag: 14,
            multiple: true,
        }));
        assert_eq!(window.confirmed, 4);
        assert_eq!(window.outcomes[2], Some(Confirmation::Confirmed));
        assert_eq!(window.outcomes[3], Some(Confirmation::Busy));
    }

    #[test]
    fn a_confirm_of_more_settles_of_each_window_what_is_its_own() {
        let mut windows = [Window::new(1, 2), Window::new(3, 2), Window::new(5, 1)];
        for window in &mut windows {
            window.sent.extend(0..window.outcomes.len());
        }
        windows
            .iter_mut()
            .for_each(|window| window.take(&ack(3, true)));
        let confirmed = windows.each_ref().map(|window| window.confirmed);
        assert_eq!(confirmed, [2, 1, 0]);
        windows
            .iter_mut()
            .for_each(|window| window.take(&ack(5, true)));
        let confirmed = windows.each_ref().map(|window| window.confirmed);
        assert_eq!(confirmed, [2, 2, 1]);
    }
}
