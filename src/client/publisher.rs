//! The thread behind a client. It records and publishes together the messages of all requests that have gathered.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use crossbeam_channel::Receiver;

use super::error::PublishError;
use super::ready_message::ReadyMessage;
use super::receipt::{Delivery, Receipt};
use crate::config::Config;
use crate::health::outage::{self, Servers};
use crate::health::worker_thread::WorkerThread;
use crate::message::Message;
use crate::publish::{Flushed, NextWork, Outbox, TrackingOutbox};
use crate::store::{self, OutboxStore, Store, StoreError};

/// The most single-message requests that are published together.
const MAX_GATHERED: usize = 1000;

/// A connection that was idle for longer is tested before use: it may have ended.
const TRUSTED_IDLE_TIME: Duration = Duration::from_secs(1);

/// For this long after a broker took no messages, messages are only recorded, so that not every caller waits for
/// the broker.
const RECORD_ONLY_TIME: Duration = Duration::from_secs(5);

/// How long the end waits for the thread that logs the servers' health.
const WATCH_STOP_TIMEOUT: Duration = Duration::from_secs(1);

/// The most tries of a transaction that conflicts with another.
const MAX_TRIES: usize = 5;

/// What a service shares with the client that it gives to its tasks.
#[derive(Clone)]
pub(crate) struct ServiceResources {
    /// The database. On SQLite, writers that share a store take turns.
    pub(crate) store: Arc<dyn Store>,
    /// The servers' health, shared so that each outage is logged once.
    pub(crate) servers: Arc<Servers>,
}

/// Messages to publish, and where to send their receipts.
pub(super) struct PublishRequest {
    pub(super) messages: Vec<ReadyMessage>,
    pub(super) answer: ReceiptSender,
}

/// Sends the receipts. Returns whether anybody still waited for them.
type ReceiptSender = Box<dyn FnOnce(Result<Vec<Receipt>, PublishError>) -> bool + Send>;

/// Publishes the messages of a client, on its thread.
pub(super) struct ClientPublisher {
    store: Arc<dyn Store>,
    session: Option<(Box<dyn OutboxStore>, Instant)>,
    outbox: TrackingOutbox,
    records_only: bool,
    /// When a broker last took no messages, and why.
    broker_failure: Option<(Instant, String)>,
    /// The thread that logs the servers' health, unless a service has one.
    watch: Option<WorkerThread>,
}

/// How far publishing has come.
#[derive(Default)]
struct PublishProgress {
    /// How many messages, the first ones, are recorded.
    recorded: usize,
    /// The messages that can't be published, by key, and why.
    failed: HashMap<String, String>,
    /// Why some messages may not be published yet.
    waiting: Option<String>,
    /// Why the other messages are not recorded.
    error: Option<StoreError>,
}

impl ClientPublisher {
    pub(super) fn new(
        config: Arc<Config>,
        service: Option<ServiceResources>,
        records_only: bool,
    ) -> Result<Self, PublishError> {
        let (store, outbox, watch) = match service {
            Some(ServiceResources { store, servers }) => {
                (store, TrackingOutbox::beside_sweep(config, servers), None)
            }
            None => {
                let servers = Arc::default();
                let watch = outage::watch(Arc::clone(&servers)).map_err(PublishError::System)?;
                let store = store::open_for(&config)?.into();
                (store, TrackingOutbox::new(config, servers), Some(watch))
            }
        };
        Ok(Self {
            store,
            session: None,
            outbox,
            records_only,
            broker_failure: None,
            watch,
        })
    }

    /// Serves requests until all senders are dropped.
    pub(super) fn run(&mut self, requests: &Receiver<PublishRequest>) {
        let mut next = None;
        while let Some(first) = next.take().or_else(|| self.next(requests)) {
            let is_single = first.is_single();
            let mut gathered = vec![first];
            while is_single && gathered.len() < MAX_GATHERED {
                match requests.try_recv() {
                    Ok(request) if request.is_single() => gathered.push(request),
                    other => {
                        next = other.ok();
                        break;
                    }
                }
            }
            self.answer_requests(gathered);
            if self.outbox.has_unconfirmed() {
                self.follow_up_unconfirmed();
            }
        }
        if let Some(watch) = self.watch.take() {
            watch.stop(Instant::now() + WATCH_STOP_TIMEOUT);
        }
    }

    /// Waits for a request; `None` once all senders are dropped.
    fn next(&mut self, requests: &Receiver<PublishRequest>) -> Option<PublishRequest> {
        loop {
            match self.outbox.next(requests) {
                NextWork::Received(request) => return Some(request),
                NextWork::FollowUp => self.follow_up_unconfirmed(),
                NextWork::Idle => {}
                NextWork::Closed => return None,
            }
        }
    }

    /// Writes the results of late confirmations. If the database is away, the next call writes them.
    fn follow_up_unconfirmed(&mut self) {
        let looked = self.connected().and_then(|mut session| {
            self.outbox.follow_up_unconfirmed(session.as_mut())?;
            self.session = Some((session, Instant::now()));
            Ok(())
        });
        if let Err(error) = looked {
            log::debug!("late confirmations are not recorded yet: {error}");
        }
    }

    /// Publishes and answers requests: one of any size, or several with one message each.
    fn answer_requests(&mut self, requests: Vec<PublishRequest>) {
        let messages = requests.iter().flat_map(|request| &request.messages);
        let progress = if self.records_only || requests.iter().any(PublishRequest::is_delayed) {
            self.record(&messages.collect::<Vec<_>>())
        } else {
            let messages = messages.map(|ready| ready.message.clone());
            self.publish(&messages.collect::<Vec<_>>())
        };
        let several = requests.len() > 1;
        for (nth, request) in requests.into_iter().enumerate() {
            match &progress.error {
                Some(error) if !several => request.answer(Err(PublishError::Database {
                    recorded: progress.recorded,
                    source: error.clone(),
                })),
                Some(error) if nth >= progress.recorded => match error {
                    // The database fails for every request.
                    StoreError::Unavailable(_)
                    | StoreError::Unsupported(_)
                    | StoreError::NotMigrated(_) => {
                        request.answer(Err(error.clone().into()));
                    }
                    // One of the requests may be at fault: each is tried by itself.
                    _ => self.answer_requests(vec![request]),
                },
                _ => {
                    let receipts = request.messages.iter();
                    let receipts = receipts.map(|message| progress.receipt(message));
                    let receipts = receipts.collect();
                    request.answer(Ok(receipts));
                }
            }
        }
    }

    /// Records and publishes messages; retries conflicts. Returns how far it has come.
    fn publish(&mut self, messages: &[Message]) -> PublishProgress {
        let mut progress = PublishProgress::default();
        let mut tries = 0..MAX_TRIES;
        loop {
            tries.next();
            match self.try_publish(&messages[progress.recorded..]) {
                Ok(flushed) => {
                    progress.recorded = messages.len();
                    progress.failed.extend(flushed.failed);
                    progress.waiting = flushed.waiting.or(progress.waiting);
                    return progress;
                }
                Err((recorded, error)) => {
                    progress.recorded += recorded;
                    progress.waiting = Some(error.to_string());
                    let is_over = tries.is_empty() || progress.recorded == messages.len();
                    if !matches!(error, StoreError::Conflict(_)) || is_over {
                        progress.error = (progress.recorded < messages.len()
                            || messages.is_empty())
                        .then_some(error);
                        return progress;
                    }
                }
            }
        }
    }

    /// Records messages, of which some may be delayed, for the sweep to publish.
    fn record(&mut self, messages: &[&ReadyMessage]) -> PublishProgress {
        let mut progress = PublishProgress {
            waiting: (!self.records_only)
                .then(|| "it is recorded together with delayed messages".to_owned()),
            ..PublishProgress::default()
        };
        match self.try_record(messages) {
            Ok(()) => progress.recorded = messages.len(),
            Err((recorded, error)) => {
                progress.recorded = recorded;
                progress.error = Some(error);
            }
        }
        progress
    }

    fn try_record(&mut self, messages: &[&ReadyMessage]) -> Result<(), (usize, StoreError)> {
        let none = |error| (0, error);
        let mut session = self.connected().map_err(none)?;
        let now = session.now().map_err(none)?;
        let due = messages
            .iter()
            .map(|ready| (&ready.message, ready.due(now)));
        let due: Vec<(&Message, DateTime<Utc>)> = due.collect();
        Outbox::record_due(session.as_mut(), &due)?;
        self.session = Some((session, Instant::now()));
        Ok(())
    }

    fn try_publish(&mut self, messages: &[Message]) -> Result<Flushed, (usize, StoreError)> {
        let mut session = self.connected().map_err(|error| (0, error))?;
        let failure = self.broker_failure.take();
        let failure = failure.filter(|(since, _)| since.elapsed() < RECORD_ONLY_TIME);
        let published = match &failure {
            Some((_, reason)) => {
                Outbox::record_in_batches(session.as_mut(), messages).map(|()| Flushed {
                    waiting: Some(reason.clone()),
                    ..Flushed::default()
                })
            }
            None => self.outbox.publish(session.as_mut(), messages),
        };
        let waiting = published.as_ref().ok();
        let waiting = waiting.and_then(|flushed| flushed.waiting.clone());
        self.broker_failure = failure.or_else(|| waiting.map(|reason| (Instant::now(), reason)));
        if !matches!(published, Err((_, StoreError::Unavailable(_)))) {
            self.session = Some((session, Instant::now()));
        }
        published
    }

    /// A database connection that works: the open one, or a new one.
    fn connected(&mut self) -> Result<Box<dyn OutboxStore>, StoreError> {
        if let Some((mut session, used)) = self.session.take()
            && (used.elapsed() < TRUSTED_IDLE_TIME || session.version().is_ok())
        {
            return Ok(session);
        }
        Ok(store::session(self.store.as_ref())?)
    }
}

impl PublishRequest {
    /// Whether the request can be published together with others.
    fn is_single(&self) -> bool {
        self.messages.len() == 1 && !self.is_delayed()
    }

    fn is_delayed(&self) -> bool {
        self.messages.iter().any(|ready| ready.delay.is_some())
    }

    fn answer(self, result: Result<Vec<Receipt>, PublishError>) {
        if !(self.answer)(result) {
            log::debug!("nobody waits for the receipts any more");
        }
    }
}

impl PublishProgress {
    fn receipt(&self, ready: &ReadyMessage) -> Receipt {
        let uuid = ready.message.key.clone();
        let state = match (self.failed.get(&uuid), &self.waiting) {
            _ if ready.delay.is_some() => Delivery::Delayed,
            (Some(reason), _) => Delivery::Failed(reason.clone()),
            (None, Some(reason)) => Delivery::Waiting(reason.clone()),
            (None, None) => Delivery::Published,
        };
        Receipt { uuid, state }
    }
}
