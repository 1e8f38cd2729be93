//! Confirmed, mandatory, persistent publishing.

use std::collections::{BTreeMap, HashSet};
use std::time::Instant;

use amiquip::{
    AmqpProperties, AmqpValue, Confirm, ConnectionBlockedNotification, Error, FieldTable, Publish,
    Return,
};
use crossbeam_channel::{Receiver, TryRecvError, at, select};

use super::super::{
    BrokerError, BrokerPublisher, CONFIRM_TIMEOUT, Confirmation, LateConfirmations, SentBatch,
};
use super::connection::Link;
use super::topology;
use super::window::Window;
use crate::config::{BrokerUrl, QueueConfig};
use crate::message::{Message, wire};
use crate::names;

/// AMQP's `delivery_mode` for a message that survives the broker.
const PERSISTENT: u8 = 2;

/// What RabbitMQ says of a message to an exchange that is internal.
const INTERNAL: &str = "internal exchange";

/// Why a message is not known to be published.
const UNCONFIRMED: &str = "the broker has not confirmed it yet";

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
    /// What was sent and is not under way any more, without a word of the broker: the keys by their tags.
    late: BTreeMap<u64, String>,
    /// What the broker has said of such since that was asked for.
    said: Vec<(String, Confirmation)>,
    /// When the broker confirmed something for the last time.
    heard: Instant,
    /// Whether it said nothing for [`CONFIRM_TIMEOUT`] when it was last waited for.
    is_silent: bool,
    /// What had been said by the end of messages that were waited for then.
    known: Vec<Confirmation>,
    /// Why the connection is of no more use.
    ended: Option<BrokerError>,
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
                late: BTreeMap::new(),
                said: Vec::new(),
                heard: Instant::now(),
                is_silent: false,
                known: Vec::new(),
                ended: None,
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
                .map_err(|error| {
                    self.ended
                        .get_or_insert(refusal(&self.link, &error))
                        .clone()
                })?;
            self.next_tag += 1;
            window.sent.push(index);
        }
        Ok(window)
    }

    /// Waits until all of the window are confirmed, or the broker says that it does not read any more, or nothing
    /// for [`CONFIRM_TIMEOUT`]. Returns whether that was it.
    fn await_confirms(&mut self, window: &mut Window) -> Result<bool, BrokerError> {
        let blocked = self.link.blocked.clone();
        while !window.is_complete() && self.blocked.is_none() {
            let silent_since = self.heard.max(window.since);
            select! {
                recv(self.confirms) -> confirm => {
                    let confirm = confirm.map_err(|_| self.end())?;
                    window.take(&confirm);
                    self.hear(&confirm);
                }
                recv(blocked) -> note => {
                    let note = note.map_err(|_| self.end())?;
                    self.note(note);
                }
                recv(at(silent_since + CONFIRM_TIMEOUT)) -> _ => {
                    // What has come is read all the same, however long nobody was here to read it.
                    self.hear_all(Some(window));
                    if Instant::now() >= self.heard.max(window.since) + CONFIRM_TIMEOUT {
                        return Ok(!window.is_complete());
                    }
                }
            }
        }
        Ok(false)
    }

    /// Notes what a confirm says of all that is under way or late.
    fn hear(&mut self, confirm: &Confirm) {
        self.heard = Instant::now();
        self.under_way
            .values_mut()
            .for_each(|window| window.take(confirm));
        if self.late.is_empty() {
            return;
        }
        let (payload, outcome) = match *confirm {
            Confirm::Ack(payload) => (payload, Confirmation::Confirmed),
            Confirm::Nack(payload) => (payload, Confirmation::Busy),
        };
        let said: Vec<String> = if payload.multiple {
            let others = self.late.split_off(&(payload.delivery_tag + 1));
            std::mem::replace(&mut self.late, others)
                .into_values()
                .collect()
        } else {
            self.late
                .remove(&payload.delivery_tag)
                .into_iter()
                .collect()
        };
        self.said
            .extend(said.into_iter().map(|key| (key, outcome.clone())));
    }

    /// The same of all that have arrived, also for a window that is waited for.
    fn hear_all(&mut self, mut window: Option<&mut Window>) {
        while let Ok(confirm) = self.confirms.try_recv() {
            if let Some(window) = &mut window {
                window.take(&confirm);
            }
            self.hear(&confirm);
        }
    }

    /// Notes which messages came back: a return comes before the confirm of its message.
    fn note_returns(&mut self) {
        let returned = self.returns.try_iter();
        self.returned
            .extend(returned.filter_map(|returned| returned.properties.message_id().clone()));
    }

    /// What became of each message of a window whose confirms have been awaited.
    fn outcomes(&mut self, mut window: Window, messages: &[&Message]) -> Vec<Confirmation> {
        self.note_returns();
        if !self.returned.is_empty() {
            for index in &window.sent {
                let outcome = &mut window.outcomes[*index];
                if outcome.is_some() && self.returned.remove(&messages[*index].key) {
                    *outcome = Some(Confirmation::Unroutable);
                }
            }
        }
        let late: Vec<_> = window.unconfirmed().collect();
        let reason = self.blocked.as_deref().unwrap_or(UNCONFIRMED);
        for (tag, index) in late {
            window.outcomes[index] = Some(Confirmation::Unconfirmed(reason.to_owned()));
            if self.ended.is_none() {
                self.late.insert(tag, messages[index].key.clone());
            }
        }
        let reason = self.blocked.as_deref().unwrap_or_default();
        let outcomes = window.outcomes.into_iter();
        outcomes
            .map(|outcome| outcome.unwrap_or_else(|| Confirmation::Blocked(reason.to_owned())))
            .collect()
    }

    /// Why the channel ended: a call on it is told, once.
    fn end(&mut self) -> BrokerError {
        if let Some(error) = &self.ended {
            return error.clone();
        }
        let error = match self.link.channel.qos(0, 0, false) {
            Err(error) => refusal(&self.link, &error),
            Ok(()) => BrokerError::Away("the broker closed the channel".to_owned()),
        };
        self.ended.insert(error).clone()
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
        if self.ended.is_some() || self.blocked.is_some() || !self.is_idle() {
            self.link.hang_up();
        }
    }
}

impl BrokerPublisher for AmqpPublisher {
    fn send(&mut self, messages: &[&Message]) -> Result<SentBatch, BrokerError> {
        let window = self.try_send(messages)?;
        let sent = self.times;
        self.times += 1;
        self.under_way.insert(sent, window);
        Ok(SentBatch(sent))
    }

    fn confirmations(
        &mut self,
        sent: SentBatch,
        messages: &[&Message],
    ) -> Result<Vec<Confirmation>, BrokerError> {
        let Some(mut window) = self.under_way.remove(&sent.0) else {
            let reason = "the connection that this was sent on is gone";
            return Err(BrokerError::Away(reason.to_owned()));
        };
        match self.await_confirms(&mut window) {
            Ok(is_silent) => {
                self.is_silent = is_silent;
                Ok(self.outcomes(window, messages))
            }
            Err(error) => {
                self.hear_all(Some(&mut window));
                self.known = self.outcomes(window, messages);
                Err(error)
            }
        }
    }

    fn is_silent(&self) -> bool {
        self.is_silent
    }

    fn partial_confirmations(&mut self) -> Vec<Confirmation> {
        std::mem::take(&mut self.known)
    }

    fn late_confirmations(&mut self) -> LateConfirmations {
        self.hear_all(None);
        // Also notices the end of the connection.
        let ended = self.ended.is_some() || self.learn_if_blocked().is_err();
        if ended {
            self.hear_all(None);
            self.late.clear();
        }
        let mut said = std::mem::take(&mut self.said);
        if !said.is_empty() {
            self.note_returns();
        }
        for (key, confirmation) in &mut said {
            if self.returned.remove(key) {
                *confirmation = Confirmation::Unroutable;
            }
        }
        if self.is_idle() {
            self.returned.clear();
        }
        LateConfirmations { said, ended }
    }

    fn is_idle(&self) -> bool {
        self.under_way.is_empty() && self.late.is_empty() && self.said.is_empty()
    }

    fn abandon_sent(&mut self) {
        self.under_way.clear();
    }

    fn declare(&mut self, queue: &QueueConfig) -> Result<(), BrokerError> {
        let declared = topology::declare(&self.link.channel, queue);
        declared.map(drop).map_err(|error| {
            let reason = topology::refusal(queue, &error);
            let error = match (refusal(&self.link, &error), reason) {
                (BrokerError::Forbidden(_), Some(reason)) => BrokerError::Forbidden(reason),
                (_, Some(reason)) => BrokerError::Refused(reason),
                (error, None) => error,
            };
            self.ended.get_or_insert(error).clone()
        })
    }

    fn is_open(&mut self) -> bool {
        self.ended.is_none() && self.learn_if_blocked().is_ok()
    }

    fn version(&self) -> String {
        self.version.clone()
    }
}

/// Why the channel was closed, or else the connection ended. What is told as 403 somebody may grant, but for an
/// exchange that takes no messages whoever sends them; 405 is about a queue that is another's for now.
fn refusal(link: &Link, error: &Error) -> BrokerError {
    match error {
        Error::ServerClosedChannel {
            code: 403 | 405,
            message,
            ..
        } if !message.contains(INTERNAL) => match link.sorted(error) {
            BrokerError::Refused(reason) => BrokerError::Forbidden(reason),
            other => other,
        },
        // That is about whom the connection is of, and no message.
        Error::ServerClosedConnection { .. } => match link.sorted(error) {
            BrokerError::Refused(reason) => BrokerError::Ended(reason),
            other => other,
        },
        other => link.sorted(other),
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
