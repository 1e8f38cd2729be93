//! The only door to the broker for messages: record, then flush.
//!
//! *Record* writes PENDING rows; *flush* publishes them, confirmed, and marks them PUBLISHED. Whoever
//! dies in between leaves PENDING rows, which the sweep flushes. A message that is published twice for
//! that finds its row owned or finished the second time.

mod way;

use std::collections::HashMap;
use std::sync::Arc;

use self::way::{Fate, Way};
use crate::config::{BrokerUrl, Config};
use crate::failpoint;
use crate::message::Message;
use crate::names;
use crate::outage::{Client, Servers};
use crate::store::{NewRow, Session, StoreError};

/// What became of messages that were flushed. Those it does not count wait, PENDING.
#[derive(Debug, Default)]
pub struct Flushed {
    /// How many the broker has.
    pub published: usize,
    /// Those that can't be published, with the reason; they are FAILED.
    pub failed: Vec<(String, String)>,
    /// Why the others wait, if any do.
    pub waiting: Option<String>,
}

/// Publishes messages, on a connection to each broker that it needs, opened when it first does.
pub struct Door {
    config: Arc<Config>,
    servers: Arc<Servers>,
    ways: HashMap<BrokerUrl, Way>,
}

impl Door {
    /// A door without connections.
    #[must_use]
    pub fn new(config: Arc<Config>) -> Self {
        Self::of(config, Arc::default())
    }

    /// A door of a service, which knows its servers.
    pub(crate) fn of(config: Arc<Config>, servers: Arc<Servers>) -> Self {
        Self {
            config,
            servers,
            ways: HashMap::new(),
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
        self.flush_for(None, session, messages)
    }

    /// The same for one who tells when the database is asked.
    pub(crate) fn flush_for(
        &mut self,
        database: Option<&Client>,
        session: &mut dyn Session,
        messages: &[Message],
    ) -> Result<Flushed, StoreError> {
        let mut by_broker: HashMap<&BrokerUrl, Vec<&Message>> = HashMap::new();
        for message in messages {
            let url = self
                .config
                .queue(&message.queue)
                .map_or(&self.config.default_broker, |queue| &queue.host);
            by_broker.entry(url).or_default().push(message);
        }
        let mut flushed = Flushed::default();
        for (url, messages) in by_broker {
            let way = self
                .ways
                .entry(url.clone())
                .or_insert_with(|| Way::new(url.clone(), &self.servers));
            let fates = way.publish(&self.config, &messages);
            failpoint::hit("publish.published");
            database.inspect(|database| database.asks());
            record_fates(session, &messages, fates, &mut flushed)?;
            database.inspect(|database| database.is_answered());
        }
        Ok(flushed)
    }

    /// To be called when nothing is due: sees whether brokers that were away are back.
    pub(crate) fn look_after_brokers(&mut self) {
        self.ways.values_mut().for_each(Way::look_after);
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
            Fate::Full => {
                flushed
                    .waiting
                    .get_or_insert_with(|| way::full(&message.queue));
            }
            Fate::Waiting(reason) => flushed.waiting = Some(reason),
        }
    }
    // First, lest what the database refuses of the others has these published again.
    if !published.is_empty() {
        session.mark_published(&published)?;
        flushed.published += published.len();
    }
    if !failed.is_empty() {
        session.fail_pending(&failed)?;
        flushed.failed.extend(failed);
    }
    failpoint::hit("publish.marked");
    Ok(())
}
