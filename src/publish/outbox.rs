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
use crate::store::{BATCH_BYTES, NewRow, OutboxStore, Recorded, StoreError};

/// At most so many messages are recorded and sent at once, and [`BATCH_BYTES`].
const MAX_BATCH_MESSAGES: usize = 1000;

/// So many times that is under link at once: RabbitMQ confirms persistent messages when it has written
/// them to its disk, and we write to ours meanwhile.
const MAX_BATCHES_UNDER_WAY: usize = 4;

/// Messages that the broker is late with are their publisher's for so long: longer than it is ever held up by
/// servers that are away.
pub(super) const UNCONFIRMED_LEASE: Duration = Duration::from_secs(30);

/// What became of messages that were flushed. Those it does not count wait, PENDING.
#[derive(Debug, Default)]
pub struct Flushed {
    /// How many the broker has.
    pub published: usize,
    /// Those that can't be published, with the reason; they are FAILED.
    pub failed: Vec<(String, String)>,
    /// Why the others wait, if any do.
    pub waiting: Option<String>,
    /// The queues of those, and the others of a broker that takes nothing.
    pub waiting_queues: BTreeSet<String>,
}

/// Publishes messages, on a connection to each broker that it needs, opened when it first does.
pub struct Outbox {
    config: Arc<Config>,
    servers: Arc<Servers>,
    pub(super) links: HashMap<BrokerHost, BrokerLink>,
    /// Whether it is [`TrackingOutbox`], and keeps what the broker is late with.
    tracks_unconfirmed: bool,
}

impl Outbox {
    /// A outbox without connections, of who does not stay: what the broker is late with is the sweep's.
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

    /// Records messages, all or none. From then on they will be published, by [`Outbox::flush`] or, if
    /// that does not come, by the sweep.
    ///
    /// # Errors
    /// When the database is away: nothing is recorded then.
    pub fn record<'a>(
        session: &mut dyn OutboxStore,
        messages: &'a [Message],
    ) -> Result<Recorded<'a>, StoreError> {
        failpoint::hit("publish.before-record");
        let recorded = Recorded::by(session, messages)?;
        failpoint::hit("publish.recorded");
        Ok(recorded)
    }

    /// Records messages, some at a time, that the sweep publishes, each once its time has come by the
    /// database's clock. Nobody waits with them.
    ///
    /// # Errors
    /// When the database is away. The first so many messages are recorded then.
    pub fn record_due(
        session: &mut dyn OutboxStore,
        messages: &[(&Message, DateTime<Utc>)],
    ) -> Result<(), (usize, StoreError)> {
        let mut recorded = 0;
        for part in parts_of(messages, |(message, _)| message) {
            let rows = part
                .iter()
                .map(|(message, due)| NewRow::delayed(message, *due));
            let rows: Vec<NewRow> = rows.collect();
            session.record(&rows).map_err(|error| (recorded, error))?;
            recorded += part.len();
        }
        Ok(())
    }

    /// Records messages and flushes them, some at a time, so that the database has the next while the
    /// broker has the last: for many messages that need not be recorded all or none.
    ///
    /// # Errors
    /// When the database is away. The first so many messages are recorded then, and will be published.
    pub fn publish(
        &mut self,
        session: &mut dyn OutboxStore,
        messages: &[Message],
    ) -> Result<Flushed, (usize, StoreError)> {
        let mut recorded = 0;
        let flushed = self.flush_in_parts(None, session, messages, |session, part| {
            Self::record(session, part).map(drop)?;
            recorded += part.len();
            Ok(())
        });
        flushed.map_err(|error| (recorded, error))
    }

    /// Records messages, some at a time, and leaves their publishing to the sweep.
    ///
    /// # Errors
    /// When the database is away. The first so many messages are recorded then.
    pub fn record_in_parts(
        session: &mut dyn OutboxStore,
        messages: &[Message],
    ) -> Result<(), (usize, StoreError)> {
        let mut recorded = 0;
        for part in parts(messages) {
            let part_recorded = Self::record(session, part).map(drop);
            part_recorded.map_err(|error| (recorded, error))?;
            recorded += part.len();
        }
        Ok(())
    }

    /// Publishes what is recorded, and marks it.
    ///
    /// # Errors
    /// When the database is away.
    pub fn flush(
        &mut self,
        session: &mut dyn OutboxStore,
        recorded: Recorded<'_>,
    ) -> Result<Flushed, StoreError> {
        self.flush_in_parts(None, session, &recorded, |_, _| Ok(()))
    }

    /// Publishes parts of messages, each after `prepare`, and marks each when it is confirmed.
    pub(super) fn flush_in_parts(
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
            for part in parts(messages) {
                prepare(session, part)?;
                // One that is away may take long to say so.
                let mut by_broker: Vec<_> = by_broker(&config, part).into_iter().collect();
                by_broker.sort_by_key(|(host, _)| outbox.was_away(host));
                for (host, messages) in by_broker {
                    let sending = outbox.link(host).send(&messages);
                    under_way.push_back((host, messages, sending));
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

    /// Waits for the broker's batch on messages that were sent, and records it.
    fn settle(
        &mut self,
        database: Option<&HealthProbe>,
        session: &mut dyn OutboxStore,
        (host, messages, sending): (&BrokerHost, Vec<&Message>, SendAttempt),
        flushed: &mut Flushed,
    ) -> Result<(), StoreError> {
        let config = Arc::clone(&self.config);
        let results = self.link(host).settle(&config, &messages, sending);
        let is_of_all = |result: &PublishResult| {
            matches!(
                result,
                PublishResult::Waiting(_)
                    | PublishResult::Unconfirmed {
                        is_queue_only: false,
                        ..
                    }
            )
        };
        if results.iter().any(is_of_all) {
            let of_it = config.queues.iter().filter(|queue| queue.host == *host);
            flushed
                .waiting_queues
                .extend(of_it.map(|queue| queue.name.clone()));
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

/// The messages in parts that are small enough.
fn parts(messages: &[Message]) -> impl Iterator<Item = &[Message]> {
    parts_of(messages, |message| message)
}

/// What has messages in parts that are small enough to be recorded together.
fn parts_of<T>(items: &[T], message: impl Fn(&T) -> &Message) -> impl Iterator<Item = &[T]> {
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
        let (part, others) = rest.split_at(count.max(1).min(rest.len()));
        rest = others;
        (!part.is_empty()).then_some(part)
    })
}

/// The messages for each broker.
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
    let (mut failed, mut refused, mut late) = (Vec::new(), Vec::new(), Vec::new());
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
                late.push(message.key.clone());
            }
            PublishResult::Waiting(reason) => flushed.waiting = Some(reason),
        }
        flushed.waiting_queues.insert(message.queue.clone());
    }
    // First, lest what the database refuses of the others has these published again.
    if !published.is_empty() {
        session.mark_published(&published)?;
        flushed.published += published.len();
    }
    if tracks_unconfirmed && !late.is_empty() {
        session.renew_leases(&late, UNCONFIRMED_LEASE)?;
    }
    if !failed.is_empty() {
        session.fail_pending(&failed)?;
        flushed.failed.extend(failed);
    }
    if !refused.is_empty() {
        let over: HashSet<String> = session.note_refused(&refused)?.into_iter().collect();
        let over = refused.into_iter().filter(|(key, _)| over.contains(key));
        flushed.failed.extend(over);
    }
    failpoint::hit("publish.marked");
    Ok(())
}
