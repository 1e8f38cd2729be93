//! The only door to the broker for messages: record, then flush.
//!
//! *Record* writes PENDING rows; *flush* publishes them, confirmed, and marks them PUBLISHED. Whoever
//! dies in between leaves PENDING rows, which the sweep flushes. A message that is published twice for
//! that finds its row owned or finished the second time.

mod broker_link;
mod forbidden;
mod publish_result;
mod tracking_outbox;
mod unconfirmed;

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};

use self::broker_link::{BrokerLink, Sending};
use self::publish_result::PublishResult;
pub(crate) use self::tracking_outbox::{Next, TrackingOutbox};
use crate::config::{BrokerHost, Config};
use crate::failpoint;
use crate::health::outage::{HealthProbe, Servers};
use crate::message::Message;
use crate::names;
use crate::store::{
    BATCH_BYTES, NewRow, OutboxStore, RecordedMessages, StoreError, record_messages,
};

/// At most so many messages are recorded and sent at once, and [`BATCH_BYTES`].
const MOST_MESSAGES: usize = 1000;

/// So many times that is under way at once: RabbitMQ confirms persistent messages when it has written
/// them to its disk, and we write to ours meanwhile.
const AHEAD: usize = 4;

/// Messages that the broker is late with are their publisher's for so long: longer than it is ever held up by
/// servers that are away.
const LATE_LEASE: Duration = Duration::from_secs(30);

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
    pub held: BTreeSet<String>,
}

/// Publishes messages, on a connection to each broker that it needs, opened when it first does.
pub struct Outbox {
    config: Arc<Config>,
    servers: Arc<Servers>,
    ways: HashMap<BrokerHost, BrokerLink>,
    /// Whether it is [`TrackingOutbox`], and keeps what the broker is late with.
    stays: bool,
}

impl Outbox {
    /// A door without connections, of who does not stay: what the broker is late with is the sweep's.
    #[must_use]
    pub fn new(config: Arc<Config>) -> Self {
        Self::of(config, Arc::default(), false)
    }

    fn of(config: Arc<Config>, servers: Arc<Servers>, stays: bool) -> Self {
        Self {
            config,
            servers,
            ways: HashMap::new(),
            stays,
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
    ) -> Result<RecordedMessages<'a>, StoreError> {
        failpoint::hit("publish.before-record");
        let recorded = record_messages(session, messages)?;
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
        let flushed = self.in_parts(None, session, messages, |session, part| {
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
        recorded: RecordedMessages<'_>,
    ) -> Result<Flushed, StoreError> {
        self.in_parts(None, session, &recorded, |_, _| Ok(()))
    }

    /// Publishes parts of messages, each after `prepare`, and marks each when it is confirmed.
    fn in_parts(
        &mut self,
        database: Option<&HealthProbe>,
        session: &mut dyn OutboxStore,
        messages: &[Message],
        mut prepare: impl FnMut(&mut dyn OutboxStore, &[Message]) -> Result<(), StoreError>,
    ) -> Result<Flushed, StoreError> {
        let config = Arc::clone(&self.config);
        let mut flushed = Flushed::default();
        let mut under_way = VecDeque::new();
        let mut step = |door: &mut Self| {
            for part in parts(messages) {
                prepare(session, part)?;
                // One that is away may take long to say so.
                let mut by_broker: Vec<_> = by_broker(&config, part).into_iter().collect();
                by_broker.sort_by_key(|(host, _)| door.was_away(host));
                for (host, messages) in by_broker {
                    let sending = door.way(host).send(&messages);
                    under_way.push_back((host, messages, sending));
                }
                while under_way.len() > AHEAD
                    && let Some(first) = under_way.pop_front()
                {
                    door.settle(database, session, first, &mut flushed)?;
                }
            }
            while let Some(first) = under_way.pop_front() {
                door.settle(database, session, first, &mut flushed)?;
            }
            Ok(())
        };
        match step(self) {
            Ok(()) => Ok(flushed),
            Err(error) => {
                self.ways.values_mut().for_each(BrokerLink::forget);
                Err(error)
            }
        }
    }

    fn way(&mut self, host: &BrokerHost) -> &mut BrokerLink {
        let servers = &self.servers;
        self.ways
            .entry(host.clone())
            .or_insert_with(|| BrokerLink::new(host.clone(), servers))
    }

    fn was_away(&self, host: &BrokerHost) -> bool {
        let way = self.ways.get(host);
        way.is_some_and(|way| way.away_for().is_some())
    }

    /// Waits for the broker's word on messages that were sent, and records it.
    fn settle(
        &mut self,
        database: Option<&HealthProbe>,
        session: &mut dyn OutboxStore,
        (host, messages, sending): (&BrokerHost, Vec<&Message>, Sending),
        flushed: &mut Flushed,
    ) -> Result<(), StoreError> {
        let config = Arc::clone(&self.config);
        let fates = self.way(host).settle(&config, &messages, sending);
        let is_of_all = |fate: &PublishResult| {
            matches!(
                fate,
                PublishResult::Waiting(_)
                    | PublishResult::Late {
                        queue_alone: false,
                        ..
                    }
            )
        };
        if fates.iter().any(is_of_all) {
            let of_it = config.queues.iter().filter(|queue| queue.host == *host);
            flushed.held.extend(of_it.map(|queue| queue.name.clone()));
        }
        failpoint::hit("publish.published");
        database.inspect(|database| database.started());
        record_fates(session, &messages, fates, self.stays, flushed)?;
        self.way(host).marked(&messages);
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
        let count = rest.iter().take(MOST_MESSAGES).take_while(fits).count();
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

fn record_fates(
    session: &mut dyn OutboxStore,
    messages: &[&Message],
    fates: Vec<PublishResult>,
    stays: bool,
    flushed: &mut Flushed,
) -> Result<(), StoreError> {
    let mut published = Vec::with_capacity(messages.len());
    let (mut failed, mut refused, mut late) = (Vec::new(), Vec::new(), Vec::new());
    for (message, fate) in messages.iter().zip(fates) {
        match fate {
            PublishResult::Published => {
                published.push(message.key.clone());
                continue;
            }
            PublishResult::Failed(reason) => {
                failed.push((message.key.clone(), names::storable(reason)));
                continue;
            }
            PublishResult::Held(reason) => {
                flushed.waiting.get_or_insert(reason);
            }
            PublishResult::Refused(reason) => {
                let waiting = &mut flushed.waiting;
                waiting.get_or_insert_with(|| publish_result::refused(message, &reason));
                refused.push((message.key.clone(), names::storable(reason)));
            }
            PublishResult::Late { reason, .. } => {
                flushed.waiting = Some(reason);
                late.push(message.key.clone());
            }
            PublishResult::Waiting(reason) => flushed.waiting = Some(reason),
        }
        flushed.held.insert(message.queue.clone());
    }
    // First, lest what the database refuses of the others has these published again.
    if !published.is_empty() {
        session.mark_published(&published)?;
        flushed.published += published.len();
    }
    if stays && !late.is_empty() {
        session.renew_leases(&late, LATE_LEASE)?;
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
