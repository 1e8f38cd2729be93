//! Confirmed, mandatory, persistent publishing.

use std::collections::{BTreeMap, HashSet};
use std::time::Instant;

use amiquip::{
    AmqpValue, Confirm, ConnectionBlockedNotification, Error, FieldTable, Publish, Return,
};
use crossbeam_channel::{Receiver, TryRecvError, at, select};

use super::super::{
    BrokerError, BrokerPublisher, CONFIRM_TIMEOUT, Confirmation, LateConfirmations, SentBatch,
};
use super::confirm_window::ConfirmWindow;
use super::connection::AmqpConnection;
use super::{message, topology};
use crate::config::{BrokerUrl, QueueConfig};
use crate::message::{Message, wire};

/// RabbitMQ's text for a message to an internal exchange contains this.
const INTERNAL: &str = "internal exchange";

/// The reason of [`Confirmation::Unconfirmed`].
const UNCONFIRMED: &str = "the broker has not confirmed it yet";

pub(super) struct AmqpPublisher {
    connection: AmqpConnection,
    confirms: Receiver<Confirm>,
    returns: Receiver<Return>,
    /// The tag that the broker will give the next message.
    next_tag: u64,
    /// The batches whose confirmations are still to be collected, by the number of the batch.
    under_way: BTreeMap<u64, ConfirmWindow>,
    batches_sent: u64,
    /// The ids of returned messages whose confirmations are not collected yet.
    returned_ids: HashSet<String>,
    version: String,
    /// Why the broker has blocked the connection, if it has.
    blocked: Option<String>,
    /// The keys, by tag, of collected messages that the broker has not confirmed yet.
    unconfirmed: BTreeMap<u64, String>,
    /// Confirmations of those that nobody has collected yet.
    late_confirmations: Vec<(String, Confirmation)>,
    /// When the last confirm came.
    last_confirm: Instant,
    /// Whether the last wait ended because no confirm came for [`CONFIRM_TIMEOUT`].
    is_silent: bool,
    /// The answers that had come when the connection ended during a wait.
    partial: Vec<Confirmation>,
    /// Why the connection can't be used any more.
    ended: Option<BrokerError>,
}

impl AmqpPublisher {
    pub(super) fn open(url: &BrokerUrl) -> Result<Self, BrokerError> {
        let connection = AmqpConnection::open(url)?;
        let listened = connection
            .channel
            .enable_publisher_confirms()
            .and_then(|()| {
                let confirms = connection.channel.listen_for_publisher_confirms()?;
                Ok((confirms, connection.channel.listen_for_returns()?))
            });
        match listened {
            Ok((confirms, returns)) => Ok(Self {
                version: version(connection.connection.server_properties()),
                connection,
                confirms,
                returns,
                next_tag: 1,
                under_way: BTreeMap::new(),
                batches_sent: 0,
                returned_ids: HashSet::new(),
                blocked: None,
                unconfirmed: BTreeMap::new(),
                late_confirmations: Vec::new(),
                last_confirm: Instant::now(),
                is_silent: false,
                partial: Vec::new(),
                ended: None,
            }),
            Err(error) => Err(connection.fail(error)),
        }
    }

    fn try_send(&mut self, messages: &[&Message]) -> Result<ConfirmWindow, BrokerError> {
        let mut window = ConfirmWindow::new(self.next_tag, messages.len());
        for (index, message) in messages.iter().enumerate() {
            if let Some(reason) = message::unfit_reason(message) {
                window.outcomes[index] = Some(Confirmation::Unfit(reason));
                continue;
            }
            // What is sent on a blocked connection stays in our memory.
            if self.poll_blocked()? {
                break;
            }
            let body = wire::encode(&message.arguments);
            let publish = Publish {
                mandatory: true,
                ..Publish::with_properties(
                    &body,
                    message.routing_key.as_str(),
                    message::properties(message),
                )
            };
            self.connection
                .channel
                .basic_publish(message.exchange.as_str(), publish)
                .map_err(|error| {
                    self.ended
                        .get_or_insert(classify_on_channel(&self.connection, &error))
                        .clone()
                })?;
            self.next_tag += 1;
            window.sent.push(index);
        }
        Ok(window)
    }

    /// Waits until all messages of the window are confirmed, the broker blocks the connection, or no confirm
    /// comes for [`CONFIRM_TIMEOUT`]. Returns whether it was the timeout.
    fn await_confirms(&mut self, window: &mut ConfirmWindow) -> Result<bool, BrokerError> {
        let blocked = self.connection.blocked.clone();
        while !window.is_complete() && self.blocked.is_none() {
            let silent_since = self.last_confirm.max(window.since);
            select! {
                recv(self.confirms) -> confirm => {
                    let confirm = confirm.map_err(|_| self.end_reason())?;
                    window.take(&confirm);
                    self.record_confirm(&confirm);
                }
                recv(blocked) -> note => {
                    let note = note.map_err(|_| self.end_reason())?;
                    self.set_blocked(note);
                }
                recv(at(silent_since + CONFIRM_TIMEOUT)) -> _ => {
                    // Confirms may have arrived while this thread was busy elsewhere.
                    self.record_arrived_confirms(Some(window));
                    if Instant::now() >= self.last_confirm.max(window.since) + CONFIRM_TIMEOUT {
                        return Ok(!window.is_complete());
                    }
                }
            }
        }
        Ok(false)
    }

    /// Records a confirm for the batches under way and the unconfirmed messages.
    fn record_confirm(&mut self, confirm: &Confirm) {
        self.last_confirm = Instant::now();
        self.under_way
            .values_mut()
            .for_each(|window| window.take(confirm));
        if self.unconfirmed.is_empty() {
            return;
        }
        let (payload, outcome) = match *confirm {
            Confirm::Ack(payload) => (payload, Confirmation::Confirmed),
            Confirm::Nack(payload) => (payload, Confirmation::Busy),
        };
        let said: Vec<String> = if payload.multiple {
            let others = self.unconfirmed.split_off(&(payload.delivery_tag + 1));
            std::mem::replace(&mut self.unconfirmed, others)
                .into_values()
                .collect()
        } else {
            self.unconfirmed
                .remove(&payload.delivery_tag)
                .into_iter()
                .collect()
        };
        self.late_confirmations
            .extend(said.into_iter().map(|key| (key, outcome.clone())));
    }

    /// Records all confirms that have arrived, also for `window`, whose confirmations are being collected.
    fn record_arrived_confirms(&mut self, mut window: Option<&mut ConfirmWindow>) {
        while let Ok(confirm) = self.confirms.try_recv() {
            if let Some(window) = &mut window {
                window.take(&confirm);
            }
            self.record_confirm(&confirm);
        }
    }

    /// Records which messages were returned. A return comes before the confirm of its message.
    fn record_returns(&mut self) {
        let returned = self.returns.try_iter();
        self.returned_ids
            .extend(returned.filter_map(|returned| returned.properties.message_id().clone()));
    }

    /// The answer for each message of a window whose confirms have been awaited.
    fn outcomes(&mut self, mut window: ConfirmWindow, messages: &[&Message]) -> Vec<Confirmation> {
        self.record_returns();
        if !self.returned_ids.is_empty() {
            for index in &window.sent {
                let outcome = &mut window.outcomes[*index];
                if outcome.is_some() && self.returned_ids.remove(&messages[*index].key) {
                    *outcome = Some(Confirmation::Unroutable);
                }
            }
        }
        let late: Vec<_> = window.unconfirmed().collect();
        let reason = self.blocked.as_deref().unwrap_or(UNCONFIRMED);
        for (tag, index) in late {
            window.outcomes[index] = Some(Confirmation::Unconfirmed(reason.to_owned()));
            if self.ended.is_none() {
                self.unconfirmed.insert(tag, messages[index].key.clone());
            }
        }
        let reason = self.blocked.as_deref().unwrap_or_default();
        let outcomes = window.outcomes.into_iter();
        outcomes
            .map(|outcome| outcome.unwrap_or_else(|| Confirmation::Blocked(reason.to_owned())))
            .collect()
    }

    /// Why the channel ended. Only one call on the channel returns the reason, so it is kept.
    fn end_reason(&mut self) -> BrokerError {
        if let Some(error) = &self.ended {
            return error.clone();
        }
        let error = match self.connection.channel.qos(0, 0, false) {
            Err(error) => classify_on_channel(&self.connection, &error),
            Ok(()) => BrokerError::Away("the broker closed the channel".to_owned()),
        };
        self.ended.insert(error).clone()
    }

    fn set_blocked(&mut self, note: ConnectionBlockedNotification) {
        self.blocked = match note {
            ConnectionBlockedNotification::Blocked(reason) => {
                Some(format!("the broker accepts no messages for now: {reason}"))
            }
            ConnectionBlockedNotification::Unblocked => None,
        };
    }

    /// Whether the broker has blocked the connection, by the notices that have arrived.
    fn poll_blocked(&mut self) -> Result<bool, BrokerError> {
        loop {
            match self.connection.blocked.try_recv() {
                Ok(note) => self.set_blocked(note),
                Err(TryRecvError::Empty) => return Ok(self.blocked.is_some()),
                Err(TryRecvError::Disconnected) => return Err(self.end_reason()),
            }
        }
    }
}

/// An orderly close waits for the broker's answer, which does not come while the connection is blocked.
impl Drop for AmqpPublisher {
    fn drop(&mut self) {
        if self.ended.is_some() || self.blocked.is_some() || !self.is_idle() {
            self.connection.hang_up();
        }
    }
}

impl BrokerPublisher for AmqpPublisher {
    fn send(&mut self, messages: &[&Message]) -> Result<SentBatch, BrokerError> {
        let window = self.try_send(messages)?;
        let sent = self.batches_sent;
        self.batches_sent += 1;
        self.under_way.insert(sent, window);
        Ok(SentBatch(sent))
    }

    fn confirmations(
        &mut self,
        sent: SentBatch,
        messages: &[&Message],
    ) -> Result<Vec<Confirmation>, BrokerError> {
        let Some(mut window) = self.under_way.remove(&sent.0) else {
            let reason = "the connection that the batch was sent on is gone";
            return Err(BrokerError::Away(reason.to_owned()));
        };
        match self.await_confirms(&mut window) {
            Ok(is_silent) => {
                self.is_silent = is_silent;
                Ok(self.outcomes(window, messages))
            }
            Err(error) => {
                self.record_arrived_confirms(Some(&mut window));
                self.partial = self.outcomes(window, messages);
                Err(error)
            }
        }
    }

    fn is_silent(&self) -> bool {
        self.is_silent
    }

    fn partial_confirmations(&mut self) -> Vec<Confirmation> {
        std::mem::take(&mut self.partial)
    }

    fn late_confirmations(&mut self) -> LateConfirmations {
        self.record_arrived_confirms(None);
        // Polling also notices the end of the connection.
        let ended = self.ended.is_some() || self.poll_blocked().is_err();
        if ended {
            self.record_arrived_confirms(None);
            self.unconfirmed.clear();
        }
        let mut said = std::mem::take(&mut self.late_confirmations);
        if !said.is_empty() {
            self.record_returns();
        }
        for (key, confirmation) in &mut said {
            if self.returned_ids.remove(key) {
                *confirmation = Confirmation::Unroutable;
            }
        }
        if self.is_idle() {
            self.returned_ids.clear();
        }
        LateConfirmations {
            confirmations: said,
            has_ended: ended,
        }
    }

    fn is_idle(&self) -> bool {
        self.under_way.is_empty()
            && self.unconfirmed.is_empty()
            && self.late_confirmations.is_empty()
    }

    fn abandon_sent(&mut self) {
        self.under_way.clear();
    }

    fn declare(&mut self, queue: &QueueConfig) -> Result<(), BrokerError> {
        let declared = topology::declare(&self.connection.channel, queue);
        declared.map(drop).map_err(|error| {
            let reason = topology::refusal(queue, &error);
            let error = match (classify_on_channel(&self.connection, &error), reason) {
                (BrokerError::Forbidden(_), Some(reason)) => BrokerError::Forbidden(reason),
                (_, Some(reason)) => BrokerError::Refused(reason),
                (error, None) => error,
            };
            self.ended.get_or_insert(error).clone()
        })
    }

    fn is_open(&mut self) -> bool {
        self.ended.is_none() && self.poll_blocked().is_ok()
    }

    fn version(&self) -> String {
        self.version.clone()
    }
}

/// Classifies the error that closed the channel or the connection. Somebody may grant what a 403 refuses, except
/// for an internal exchange, which takes messages from nobody. A 405 is about a queue that another connection
/// holds for now.
fn classify_on_channel(connection: &AmqpConnection, error: &Error) -> BrokerError {
    match error {
        Error::ServerClosedChannel {
            code: 403 | 405,
            message,
            ..
        } if !message.contains(INTERNAL) => match connection.classify(error) {
            BrokerError::Refused(reason) => BrokerError::Forbidden(reason),
            other => other,
        },
        // This is about the connection's user, not about a message.
        Error::ServerClosedConnection { .. } => match connection.classify(error) {
            BrokerError::Refused(reason) => BrokerError::Ended(reason),
            other => other,
        },
        other => connection.classify(other),
    }
}

/// The product and version that the server reports, as in `RabbitMQ 3.10.8`.
fn version(properties: &FieldTable) -> String {
    let text = |key: &str| match properties.get(key) {
        Some(AmqpValue::LongString(text)) => text.as_str(),
        _ => "?",
    };
    format!("{} {}", text("product"), text("version"))
}
