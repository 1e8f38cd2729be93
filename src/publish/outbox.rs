//! The outbox: records messages, publishes them, and marks them as published.

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};

use super::broker_link::{BrokerLink, SendAttempt};
use super::publish_result::{self, PublishResult};
use crate::config::{BrokerHost, Config};
use crate::failpoint;
use crate::health::outage::{HealthProbe, Servers};
use crate::message::Message;
use crate::names;
use crate::store::{
    BATCH_BYTES, NewRow, OutboxStore, RecordedMessages, StoreError, record_messages,
};

/// The most messages that are recorded and sent together; they have at most [`BATCH_BYTES`], too.
const MAX_BATCH_MESSAGES: usize = 1000;

/// The most batches under way at once. RabbitMQ confirms a persistent message once it has written it to its disk;
/// meanwhile the database records the next batches.
const MAX_BATCHES_UNDER_WAY: usize = 4;

/// How long a publisher keeps the lease of unconfirmed messages: longer than servers that are away ever delay it.
pub(super) const UNCONFIRMED_LEASE: Duration = Duration::from_secs(30);

/// The results of a flush. Messages that are neither published nor failed wait, PENDING.
#[derive(Debug, Default)]
pub struct Flushed {
    /// How many messages the broker has.
    pub published: usize,
    /// The keys of messages that can't be published, with the reasons. They are FAILED.
    pub failed: Vec<(String, String)>,
    /// Why other messages wait, if any do.
    pub waiting: Option<String>,
    /// The queues of the waiting messages, and all other queues of a broker that takes none.
    pub waiting_queues: BTreeSet<String>,
}

/// Records and publishes messages. It connects to each broker when it first needs to.
pub struct Outbox {
    config: Arc<Config>,
    servers: Arc<Servers>,
    pub(super) links: HashMap<BrokerHost, BrokerLink>,
    /// Whether a [`TrackingOutbox`](super::TrackingOutbox) owns it, which keeps the lease of unconfirmed messages.
    tracks_unconfirmed: bool,
}

impl Outbox {
    /// An outbox without connections, for one-off publishing: unconfirmed messages are left to the sweep.
    #[must_use]
    pub fn new(config: Arc<Config>) -> Self {
        Self::with_servers(config, Arc::default(), false)
    }

    pub(super) fn with_servers(
        config: Arc<Config>,
        servers: Arc<Servers>,
        tracks_unconfirmed: bool,
    ) -> Self {
        Self {
            config,
            servers,
            links: HashMap::new(),
            tracks_unconfirmed,
        }
    }

    /// Records messages, all or none. Recorded messages will be published: by [`Outbox::flush`] or, if it is not
    /// called, by the sweep.
    ///
    /// # Errors
    /// When the database is away: nothing is recorded then.
    pub fn record<'a>(
        session: &mut dyn OutboxStore,
        messages: &'a [Message],
    ) -> Result<RecordedMessages<'a>, StoreError> {
        failpoint::hit("publish.before-record");
        let recorded = record_messages(session, messages)?;
        failpoint::hit("publish.recorded");
        Ok(recorded)
    }

    /// Records delayed messages in batches. The sweep publishes each when it is due by the database's clock.
    ///
    /// # Errors
    /// When the database is away. The number says how many messages, the first ones, are recorded.
    pub fn record_due(
        session: &mut dyn OutboxStore,
        messages: &[(&Message, DateTime<Utc>)],
    ) -> Result<(), (usize, StoreError)> {
        let mut recorded = 0;
        for batch in batches_of(messages, |(message, _)| message) {
            let rows = batch
                .iter()
                .map(|(message, due)| NewRow::delayed(message, *due));
            let rows: Vec<NewRow> = rows.collect();
            session.record(&rows).map_err(|error| (recorded, error))?;
            recorded += batch.len();
        }
        Ok(())
    }

    /// Records and flushes messages in batches, so that the database writes one batch while the broker takes the
    /// one before: for many messages that need not be recorded all or none.
    ///
    /// # Errors
    /// When the database is away. The number says how many messages, the first ones, are recorded; they will be
    /// published.
    pub fn publish(
        &mut self,
        session: &mut dyn OutboxStore,
        messages: &[Message],
    ) -> Result<Flushed, (usize, StoreError)> {
        let mut recorded = 0;
        let flushed = self.flush_in_batches(None, session, messages, |session, batch| {
            Self::record(session, batch).map(drop)?;
            recorded += batch.len();
            Ok(())
        });
        flushed.map_err(|error| (recorded, error))
    }

    /// Records messages in batches, and leaves their publishing to the sweep.
    ///
    /// # Errors
    /// When the database is away. The number says how many messages, the first ones, are recorded.
    pub fn record_in_batches(
        session: &mut dyn OutboxStore,
        messages: &[Message],
    ) -> Result<(), (usize, StoreError)> {
        let mut recorded = 0;
        for batch in batches(messages) {
            let batch_recorded = Self::record(session, batch).map(drop);
            batch_recorded.map_err(|error| (recorded, error))?;
            recorded += batch.len();
        }
        Ok(())
    }

    /// Publishes recorded messages, and marks them as published.
    ///
    /// # Errors
    /// When the database is away.
    pub fn flush(
        &mut self,
        session: &mut dyn OutboxStore,
        recorded: RecordedMessages<'_>,
    ) -> Result<Flushed, StoreError> {
        self.flush_in_batches(None, session, &recorded, |_, _| Ok(()))
    }

    /// Publishes messages in batches. Calls `prepare` before each batch, and marks a batch when it is confirmed.
    pub(super) fn flush_in_batches(
        &mut self,
        database: Option<&HealthProbe>,
        session: &mut dyn OutboxStore,
        messages: &[Message],
        mut prepare: impl FnMut(&mut dyn OutboxStore, &[Message]) -> Result<(), StoreError>,
    ) -> Result<Flushed, StoreError> {
        let config = Arc::clone(&self.config);
        let mut flushed = Flushed::default();
        let mut under_way = VecDeque::new();
        let mut step = |outbox: &mut Self| {
            for batch in batches(messages) {
                prepare(session, batch)?;
                // Brokers that were away come last: connecting to them may take long.
                let mut by_broker: Vec<_> = by_broker(&config, batch).into_iter().collect();
                by_broker.sort_by_key(|(host, _)| outbox.was_away(host));
                for (host, messages) in by_broker {
                    let attempt = outbox.link(host).send(&messages);
                    under_way.push_back((host, messages, attempt));
                }
                while under_way.len() > MAX_BATCHES_UNDER_WAY
                    && let Some(first) = under_way.pop_front()
                {
                    outbox.settle(database, session, first, &mut flushed)?;
                }
            }
            while let Some(first) = under_way.pop_front() {
                outbox.settle(database, session, first, &mut flushed)?;
            }
            Ok(())
        };
        match step(self) {
            Ok(()) => Ok(flushed),
            Err(error) => {
                self.links.values_mut().for_each(BrokerLink::abandon_sent);
                Err(error)
            }
        }
    }

    fn link(&mut self, host: &BrokerHost) -> &mut BrokerLink {
        let servers = &self.servers;
        self.links
            .entry(host.clone())
            .or_insert_with(|| BrokerLink::new(host.clone(), servers))
    }

    fn was_away(&self, host: &BrokerHost) -> bool {
        let link = self.links.get(host);
        link.is_some_and(|link| link.away_for().is_some())
    }

    /// Waits for the confirmations of messages that were sent, and records the results.
    fn settle(
        &mut self,
        database: Option<&HealthProbe>,
        session: &mut dyn OutboxStore,
        (host, messages, attempt): (&BrokerHost, Vec<&Message>, SendAttempt),
        flushed: &mut Flushed,
    ) -> Result<(), StoreError> {
        let config = Arc::clone(&self.config);
        let results = self.link(host).settle(&config, &messages, attempt);
        let affects_whole_broker = |result: &PublishResult| {
            matches!(
                result,
                PublishResult::Waiting(_)
                    | PublishResult::Unconfirmed {
                        is_queue_only: false,
                        ..
                    }
            )
        };
        if results.iter().any(affects_whole_broker) {
            let queues = config.queues.iter().filter(|queue| queue.host == *host);
            flushed
                .waiting_queues
                .extend(queues.map(|queue| queue.name.clone()));
        }
        failpoint::hit("publish.published");
        database.inspect(|database| database.started());
        record_results(
            session,
            &messages,
            results,
            self.tracks_unconfirmed,
            flushed,
        )?;
        self.link(host).rows_marked(&messages);
        database.inspect(|database| database.answered());
        Ok(())
    }
}

/// The messages in batches that can be recorded together.
fn batches(messages: &[Message]) -> impl Iterator<Item = &[Message]> {
    batches_of(messages, |message| message)
}

/// Items in batches whose messages can be recorded together.
fn batches_of<T>(items: &[T], message: impl Fn(&T) -> &Message) -> impl Iterator<Item = &[T]> {
    let mut rest = items;
    std::iter::from_fn(move || {
        let mut bytes = 0;
        let fits = |item: &&T| {
            bytes += message(item).arguments.size();
            bytes <= BATCH_BYTES
        };
        let count = rest
            .iter()
            .take(MAX_BATCH_MESSAGES)
            .take_while(fits)
            .count();
        let (batch, others) = rest.split_at(count.max(1).min(rest.len()));
        rest = others;
        (!batch.is_empty()).then_some(batch)
    })
}

/// The messages by broker.
fn by_broker<'a>(
    config: &'a Config,
    messages: &'a [Message],
) -> HashMap<&'a BrokerHost, Vec<&'a Message>> {
    let mut by_broker: HashMap<&BrokerHost, Vec<&Message>> = HashMap::new();
    for message in messages {
        let host = config
            .queue(&message.queue)
            .map_or(&config.default_broker, |queue| &queue.host);
        by_broker.entry(host).or_default().push(message);
    }
    by_broker
}

fn record_results(
    session: &mut dyn OutboxStore,
    messages: &[&Message],
    results: Vec<PublishResult>,
    tracks_unconfirmed: bool,
    flushed: &mut Flushed,
) -> Result<(), StoreError> {
    let mut published = Vec::with_capacity(messages.len());
    let (mut failed, mut refused, mut unconfirmed) = (Vec::new(), Vec::new(), Vec::new());
    for (message, result) in messages.iter().zip(results) {
        match result {
            PublishResult::Published => {
                published.push(message.key.clone());
                continue;
            }
            PublishResult::Failed(reason) => {
                failed.push((message.key.clone(), names::storable(reason)));
                continue;
            }
            PublishResult::QueueBusy(reason) => {
                flushed.waiting.get_or_insert(reason);
            }
            PublishResult::Refused(reason) => {
                let waiting = &mut flushed.waiting;
                waiting.get_or_insert_with(|| publish_result::refused_reason(message, &reason));
                refused.push((message.key.clone(), names::storable(reason)));
            }
            PublishResult::Unconfirmed { reason, .. } => {
                flushed.waiting = Some(reason);
                unconfirmed.push(message.key.clone());
            }
            PublishResult::Waiting(reason) => flushed.waiting = Some(reason),
        }
        flushed.waiting_queues.insert(message.queue.clone());
    }
    // The published ones are marked first: if the database refuses a later statement, they are not published again.
    if !published.is_empty() {
        session.mark_published(&published)?;
        flushed.published += published.len();
    }
    if tracks_unconfirmed && !unconfirmed.is_empty() {
        session.renew_leases(&unconfirmed, UNCONFIRMED_LEASE)?;
    }
    if !failed.is_empty() {
        session.fail_pending(&failed)?;
        flushed.failed.extend(failed);
    }
    if !refused.is_empty() {
        let exhausted: HashSet<String> = session.note_refused(&refused)?.into_iter().collect();
        let exhausted = refused
            .into_iter()
            .filter(|(key, _)| exhausted.contains(key));
        flushed.failed.extend(exhausted);
    }
    failpoint::hit("publish.marked");
    Ok(())
}
