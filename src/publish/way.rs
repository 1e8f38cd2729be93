//! The way to one broker: a connection that publishes, opened again as often as it takes.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use crate::broker::{self, BrokerError, Confirmation, Publisher, Sent};
use crate::config::{BrokerHost, Config, QueueConfig};
use crate::message::Message;
use crate::outage::{Client, Servers};
use crate::store::PUBLISH_LEASE;

/// A broker that was away is due to be tried again by now, if anything still waits for it: by the sweep,
/// whoever recorded that.
pub(crate) const NOTHING_WAITS: Duration = PUBLISH_LEASE.saturating_mul(2);

/// What became of one message at the broker.
pub(super) enum Fate {
    Published,
    Failed(String),
    /// Its queue takes no more for now.
    Full,
    /// The broker takes nothing for now, for this reason.
    Waiting(String),
}

/// Whose fault it is that nothing was published.
enum Trouble {
    Broker(BrokerError),
    Message(String),
}

/// On a connection that is open, a refusal is about what was sent on it.
impl From<BrokerError> for Trouble {
    fn from(error: BrokerError) -> Self {
        match error {
            BrokerError::Refused(reason) => Self::Message(reason),
            other => Self::Broker(other),
        }
    }
}

/// Messages that were sent together, on which connection, or why they were not.
pub(super) struct Sending(Result<(u64, Sent), Trouble>);

fn waiting(messages: &[&Message], reason: &str) -> Vec<Fate> {
    let waits = |_| Fate::Waiting(reason.to_owned());
    messages.iter().map(waits).collect()
}

/// The way to one broker.
pub(super) struct Way {
    host: BrokerHost,
    publisher: Option<Box<dyn Publisher>>,
    /// How many connections there have been.
    connections: u64,
    health: Client,
    /// When the broker was away, as far as we know it still is.
    away: Option<Instant>,
    /// It let this way not in: another, that was opened before, may go on.
    shut_out: bool,
}

/// The broker itself, among those of its parts that may take no messages; the others are queues, whose
/// names hold no NUL.
const ALL: &str = "\0";

/// New connections to it.
const ENTRANCE: &str = "\0entrance";

impl Way {
    pub(super) fn new(host: BrokerHost, servers: &Servers) -> Self {
        Self {
            publisher: None,
            connections: 0,
            health: servers.broker(&host.to_string()).client("publishing"),
            away: None,
            shut_out: false,
            host,
        }
    }

    /// Sends messages, and waits for nothing but a connection.
    pub(super) fn send(&mut self, messages: &[&Message]) -> Sending {
        self.health.asks();
        let sent = self.open().map_err(Trouble::Broker).and_then(|publisher| {
            let sent = publisher.send(messages)?;
            Ok(sent)
        });
        Sending(sent.map(|sent| (self.connections, sent)))
    }

    /// Waits for what the broker says of messages that were sent; a fate for each.
    pub(super) fn settle(
        &mut self,
        config: &Config,
        messages: &[&Message],
        sending: Sending,
    ) -> Vec<Fate> {
        let settled = match sending.0 {
            Ok((connection, sent)) if connection == self.connections => {
                self.try_settle(config, messages, sent)
            }
            // Its connection ended with what was sent before.
            Ok(_) if self.away.is_none() => {
                let again = self.send(messages);
                return self.settle(config, messages, again);
            }
            Ok(_) => return waiting(messages, "the broker has gone away"),
            Err(trouble) => Err(trouble),
        };
        match settled {
            Ok(fates) => {
                self.is_there();
                self.say_who_waits(messages, &fates);
                fates
            }
            Err(Trouble::Broker(error)) => {
                self.fails(&error);
                waiting(messages, &error.to_string())
            }
            Err(Trouble::Message(reason)) => {
                self.publisher = None;
                // What else was sent on it is gone with it.
                self.connections += 1;
                self.is_there();
                match messages {
                    [message] => vec![self.refused(config, message, reason)],
                    // One of them made the broker close the channel: each by itself, to find out
                    // which.
                    _ => messages
                        .iter()
                        .flat_map(|message| {
                            let alone = self.send(&[*message]);
                            self.settle(config, &[*message], alone)
                        })
                        .collect(),
                }
            }
        }
    }

    /// What becomes of a message for which the broker has closed the channel. The exchange of its queue may
    /// be missing: it is not durable, and gone after a restart of the broker until somebody declares it.
    fn refused(&mut self, config: &Config, message: &Message, reason: String) -> Fate {
        let queue = declarable(config, message).filter(|_| !message.exchange.is_empty());
        let Some(queue) = queue else {
            return Fate::Failed(reason);
        };
        // Who is not let in now says nothing about the message.
        let publisher = match self.open() {
            Ok(publisher) => publisher,
            Err(error) => {
                self.fails(&error);
                return Fate::Waiting(error.to_string());
            }
        };
        let declared = publisher.declare(queue);
        let again = declared.and_then(|()| publisher.publish(&[message]));
        match again {
            Ok(said) => said
                .into_iter()
                .next()
                .map_or(Fate::Failed(reason), |said| fate(message, said)),
            Err(BrokerError::Refused(_)) => {
                self.publisher = None;
                Fate::Failed(reason)
            }
            Err(error) => {
                self.fails(&error);
                Fate::Waiting(error.to_string())
            }
        }
    }

    /// The rows of messages that were published say so now.
    pub(super) fn marked(&mut self, messages: &[&Message]) {
        if let Some(publisher) = &mut self.publisher {
            publisher.marked(messages);
        }
    }

    /// Gives up what was sent and not settled.
    pub(super) fn forget(&mut self) {
        self.publisher = None;
    }

    /// Sees whether a broker that was away is back, though nothing waits for it any more: another
    /// service may have published that.
    pub(super) fn look_after(&mut self) {
        if self.away.is_some_and(|away| away.elapsed() > NOTHING_WAITS) {
            self.health.asks();
            match self.open() {
                Ok(_) => self.is_there(),
                Err(error) => self.fails(&error),
            }
        }
    }

    /// How long ago the broker was asked last, if it was away then.
    pub(super) fn away_for(&self) -> Option<Duration> {
        self.away.map(|away| away.elapsed())
    }

    fn is_there(&mut self) {
        self.away = None;
        self.health.is_served();
    }

    fn fails(&mut self, error: &BrokerError) {
        self.publisher = None;
        if let BrokerError::Away(_) = error {
            self.away = Some(Instant::now());
            self.health.fails(error);
        } else {
            self.is_there();
            self.shut_out = true;
            self.waits(ENTRANCE, &error.to_string());
        }
    }

    fn say_who_waits(&mut self, messages: &[&Message], fates: &[Fate]) {
        if std::mem::take(&mut self.shut_out) {
            self.goes_on(ENTRANCE);
        }
        let waits = fates.iter().find_map(|fate| match fate {
            Fate::Waiting(reason) => Some(reason.as_str()),
            _ => None,
        });
        match waits {
            Some(reason) => self.waits(ALL, reason),
            None => self.goes_on(ALL),
        }
        let of = |wanted: fn(&Fate) -> bool| -> BTreeSet<&String> {
            let fates = messages.iter().zip(fates);
            fates
                .filter(|(_, fate)| wanted(fate))
                .map(|(message, _)| &message.queue)
                .collect()
        };
        let full_now = of(|fate| matches!(fate, Fate::Full));
        for queue in &full_now {
            self.waits(queue, &full(queue));
        }
        for queue in of(|fate| matches!(fate, Fate::Published)).difference(&full_now) {
            self.goes_on(queue);
        }
    }

    /// Says once why messages wait, whoever of the service publishes them.
    fn waits(&self, part: &str, reason: &str) {
        let host = &self.host;
        if self.health.is_news(part, reason) {
            log::error!(
                "publishing to {host} waits: {reason}; trying again until that has changed"
            );
        }
    }

    /// Says once that they don't any more.
    fn goes_on(&self, part: &str) {
        if let Some(time) = self.health.opens(part) {
            let (host, time) = (&self.host, time.as_secs_f64());
            log::warn!("publishing to {host} goes on after {time:.1} s");
        }
    }

    fn try_settle(
        &mut self,
        config: &Config,
        messages: &[&Message],
        sent: Sent,
    ) -> Result<Vec<Fate>, Trouble> {
        let Some(publisher) = self.publisher.as_deref_mut() else {
            let gone = BrokerError::Away("the connection is gone".to_owned());
            return Err(Trouble::Broker(gone));
        };
        let mut confirmations = publisher.confirmations(sent, messages)?;
        let lost: Vec<usize> = (0..messages.len())
            .filter(|nth| confirmations[*nth] == Confirmation::Unroutable)
            .filter(|nth| declarable(config, messages[*nth]).is_some())
            .collect();
        if !lost.is_empty() {
            let again: Vec<&Message> = lost.iter().map(|nth| messages[*nth]).collect();
            declare_queues(publisher, config, &again)?;
            for (nth, confirmation) in lost.into_iter().zip(publisher.publish(&again)?) {
                confirmations[nth] = confirmation;
            }
        }
        let fates = messages.iter().zip(confirmations);
        Ok(fates.map(|(message, said)| fate(message, said)).collect())
    }

    fn open(&mut self) -> Result<&mut dyn Publisher, BrokerError> {
        let left = self.publisher.take();
        let publisher = match left.and_then(|mut left| left.is_open().then_some(left)) {
            Some(open) => open,
            None => {
                self.connections += 1;
                broker::publisher(&self.host)?
            }
        };
        Ok(self.publisher.insert(publisher).as_mut())
    }
}

/// Why messages for that queue wait.
pub(super) fn full(queue: &str) -> String {
    format!("queue {queue:?} takes no more")
}

/// The queue that is to be declared when the message fits none: the one that it is meant for, if the
/// configuration knows it.
fn declarable<'a>(config: &'a Config, message: &Message) -> Option<&'a QueueConfig> {
    let queue = config.queue(&message.queue)?;
    let reaches_it = message.routing_key == queue.name
        && (message.exchange.is_empty() || message.exchange == queue.name);
    reaches_it.then_some(queue)
}

fn declare_queues(
    publisher: &mut dyn Publisher,
    config: &Config,
    messages: &[&Message],
) -> Result<(), BrokerError> {
    let mut declared: Vec<&str> = Vec::new();
    for queue in messages
        .iter()
        .filter_map(|message| declarable(config, message))
    {
        if !declared.contains(&queue.name.as_str()) {
            publisher.declare(queue)?;
            declared.push(&queue.name);
        }
    }
    Ok(())
}

fn fate(message: &Message, confirmation: Confirmation) -> Fate {
    match confirmation {
        Confirmation::Confirmed => Fate::Published,
        Confirmation::Busy => Fate::Full,
        Confirmation::Blocked(reason) => Fate::Waiting(reason),
        Confirmation::Unfit(reason) => Fate::Failed(reason),
        Confirmation::Unroutable => Fate::Failed(format!(
            "the broker has no queue for exchange {:?} and routing key {:?}: add [[queues]] with name \
             = {:?} to the configuration, or publish to another queue",
            message.exchange, message.routing_key, message.queue
        )),
    }
}
