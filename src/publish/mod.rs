//! The only door to the broker for messages: record, then flush.
//!
//! *Record* writes PENDING rows; *flush* publishes them, confirmed, and marks them PUBLISHED. Whoever
//! dies in between leaves PENDING rows, which the sweep flushes. A message that is published twice for
//! that finds its row owned or finished the second time.

use std::collections::HashMap;
use std::sync::Arc;

use crate::broker::{self, BrokerError, Confirmation, Publisher};
use crate::config::{BrokerUrl, Config, QueueConfig};
use crate::failpoint;
use crate::message::Message;
use crate::names;
use crate::store::{NewRow, Session, StoreError};

/// What became of messages that were flushed. Those it does not count wait, PENDING.
#[derive(Debug, Default)]
pub struct Flushed {
    /// How many the broker has.
    pub published: usize,
    /// Those that can't be published, with the reason; they are FAILED.
    pub failed: Vec<(String, String)>,
    /// Why the others wait, if any do.
    pub waiting: Option<BrokerError>,
}

/// Publishes messages, on a connection to each broker that it needs, opened when it first does.
pub struct Door {
    config: Arc<Config>,
    publishers: HashMap<BrokerUrl, Box<dyn Publisher>>,
}

/// What became of one message at the broker.
enum Fate {
    Published,
    Failed(String),
    Waiting(Option<String>),
}

impl Door {
    /// A door without connections.
    #[must_use]
    pub fn new(config: Arc<Config>) -> Self {
        Self {
            config,
            publishers: HashMap::new(),
        }
    }

    /// Records messages, all or none. From then on they will be published, by [`Door::flush`] or, if
    /// that does not come, by the sweep.
    ///
    /// # Errors
    /// When the database is away: nothing is recorded then.
    pub fn record(session: &mut dyn Session, messages: &[Message]) -> Result<(), StoreError> {
        failpoint::hit("publish.before-record");
        let rows: Vec<NewRow> = messages.iter().map(NewRow::pending).collect();
        session.record(&rows)?;
        failpoint::hit("publish.recorded");
        Ok(())
    }

    /// Publishes recorded messages and marks them.
    ///
    /// # Errors
    /// When the database is away.
    pub fn flush(
        &mut self,
        session: &mut dyn Session,
        messages: &[Message],
    ) -> Result<Flushed, StoreError> {
        let mut by_broker: HashMap<BrokerUrl, Vec<&Message>> = HashMap::new();
        for message in messages {
            let url = self
                .config
                .queue(&message.queue)
                .map_or(&self.config.default_broker, |queue| &queue.host);
            by_broker.entry(url.clone()).or_default().push(message);
        }
        let mut flushed = Flushed::default();
        for (url, messages) in by_broker {
            let (fates, error) = self.publish_to(&url, &messages);
            failpoint::hit("publish.published");
            record_fates(session, &messages, fates, &mut flushed)?;
            flushed.waiting = error.or(flushed.waiting);
        }
        Ok(flushed)
    }

    /// Publishes to one broker: a fate for each message, and why those that wait do.
    fn publish_to(
        &mut self,
        url: &BrokerUrl,
        messages: &[&Message],
    ) -> (Vec<Fate>, Option<BrokerError>) {
        match self.try_publish(url, messages) {
            Ok(fates) => (fates, None),
            Err(Trouble::Broker(error)) => {
                self.publishers.remove(url);
                (
                    messages.iter().map(|_| Fate::Waiting(None)).collect(),
                    Some(error),
                )
            }
            Err(Trouble::Message(reason)) => {
                self.publishers.remove(url);
                match messages {
                    [_] => (vec![Fate::Failed(reason)], None),
                    _ => self.publish_singly(url, messages),
                }
            }
        }
    }

    /// One of these messages made the broker close the channel: each by itself, to find out which.
    fn publish_singly(
        &mut self,
        url: &BrokerUrl,
        messages: &[&Message],
    ) -> (Vec<Fate>, Option<BrokerError>) {
        let mut fates = Vec::with_capacity(messages.len());
        let mut error = None;
        for message in messages {
            let (fate, trouble) = self.publish_to(url, &[*message]);
            fates.extend(fate);
            error = trouble.or(error);
        }
        (fates, error)
    }

    fn try_publish(
        &mut self,
        url: &BrokerUrl,
        messages: &[&Message],
    ) -> Result<Vec<Fate>, Trouble> {
        let config = Arc::clone(&self.config);
        let publisher = self.publisher(url)?;
        let mut confirmations = publisher.publish(messages)?;
        let lost: Vec<usize> = (0..messages.len())
            .filter(|nth| confirmations[*nth] == Confirmation::Unroutable)
            .filter(|nth| declarable(&config, messages[*nth]).is_some())
            .collect();
        if !lost.is_empty() {
            let again: Vec<&Message> = lost.iter().map(|nth| messages[*nth]).collect();
            declare_queues(publisher.as_mut(), &config, &again)?;
            for (nth, confirmation) in lost.into_iter().zip(publisher.publish(&again)?) {
                confirmations[nth] = confirmation;
            }
        }
        let fates = messages.iter().zip(confirmations);
        Ok(fates.map(|(message, said)| fate(message, said)).collect())
    }

    fn publisher(&mut self, url: &BrokerUrl) -> Result<&mut Box<dyn Publisher>, Trouble> {
        if !self.publishers.get_mut(url).is_some_and(|it| it.is_open()) {
            let opened = broker::open(url).and_then(|broker| broker.publisher());
            self.publishers
                .insert(url.clone(), opened.map_err(Trouble::Broker)?);
        }
        self.publishers
            .get_mut(url)
            .ok_or_else(|| Trouble::Broker(BrokerError::Away("not connected".to_owned())))
    }
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
        Confirmation::Busy => Fate::Waiting(None),
        Confirmation::Blocked(reason) => Fate::Waiting(Some(reason)),
        Confirmation::Unfit(reason) => Fate::Failed(reason),
        Confirmation::Unroutable => Fate::Failed(format!(
            "the broker has no queue for exchange {:?} and routing key {:?}: add [[queues]] with name \
             = {:?} to the configuration, or publish to another queue",
            message.exchange, message.routing_key, message.queue
        )),
    }
}

fn record_fates(
    session: &mut dyn Session,
    messages: &[&Message],
    fates: Vec<Fate>,
    flushed: &mut Flushed,
) -> Result<(), StoreError> {
    let mut published = Vec::with_capacity(messages.len());
    let mut failed = Vec::new();
    for (message, fate) in messages.iter().zip(fates) {
        match fate {
            Fate::Published => published.push(message.key.clone()),
            Fate::Failed(reason) => failed.push((message.key.clone(), names::storable(reason))),
            Fate::Waiting(reason) => {
                let busy = || format!("queue {:?} takes no more", message.queue);
                let reason = BrokerError::Away(reason.unwrap_or_else(busy));
                flushed.waiting.get_or_insert(reason);
            }
        }
    }
    if !failed.is_empty() {
        session.fail_pending(&failed)?;
        flushed.failed.extend(failed);
    }
    if !published.is_empty() {
        session.mark_published(&published)?;
        flushed.published += published.len();
    }
    failpoint::hit("publish.marked");
    Ok(())
}
