//! Publishing from a program: each message is recorded in the database, and sent to the broker.
//!
//! A [`Client`] is one thread with a connection to each server, for any number of threads that
//! publish. It records together what has gathered while it was at work, so that many share a commit.

mod draft;
mod error;
mod publisher;

use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Instant;

use crossbeam_channel::{Sender, bounded, unbounded};
use tokio::sync::oneshot;

pub use self::draft::Draft;
use self::draft::ReadyMessage;
pub use self::error::PublishError;
use self::publisher::{ClientPublisher, PublishRequest};
use crate::config::Config;
use crate::health::outage::Servers;
use crate::health::worker_thread::{THREAD_STOP_TIMEOUT, WorkerThread};
use crate::message::Arguments;
use crate::store::Store;
use crate::store::transaction::{Connection, RecordError};
use crate::task::{FromMessage, Need, TaskContext, TaskError};

/// A message that is recorded: from now on it will be published, whatever becomes of the publisher.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Receipt {
    /// The message's key: the `uuid` of its row, the message id on the broker.
    pub uuid: String,
    /// What became of it so far.
    pub state: Delivery,
}

/// What became of a recorded message so far.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Delivery {
    /// The broker has it.
    Published,
    /// It is not due yet.
    Delayed,
    /// For this reason the broker may not have it yet. A service will publish it.
    Waiting(String),
    /// It can't be published, for this reason; it is FAILED.
    Failed(String),
}

/// Publishes messages. Clones share one thread and its connections.
///
/// ```no_run
/// use carrot_actors::{Client, Config};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let client = Client::connect(Config::of_process()?)?;
/// let receipt = client
///     .task("images.resize")
///     .args(("holiday.png", 300))
///     .priority(5)
///     .publish()?;
/// println!("{}", receipt.uuid);
/// # Ok(())
/// # }
/// ```
///
/// Tasks publish by the client of their service, which they ask for as an argument:
///
/// ```
/// use carrot_actors::{Args, Client, PublishError};
///
/// fn split(Args((path,)): Args<(String,)>, client: Client) -> Result<(), PublishError> {
///     for page in 1..=3 {
///         client.task("pages.render").args((&path, page)).publish()?;
///     }
///     Ok(())
/// }
/// ```
#[derive(Clone)]
pub struct Client(Arc<Inner>);

/// The client that a service gives to its tasks.
pub(crate) struct ServiceClient(pub(crate) Client);

struct Inner {
    config: Arc<Config>,
    /// What it shares with the service that it belongs to, if it does.
    service: OnceLock<ServiceResources>,
    /// Whether it publishes to nobody.
    records_only: bool,
    /// The publisher, once there is something to publish.
    running: Mutex<Option<PublisherThread>>,
}

/// What a service shares with the client that it gives to its tasks.
#[derive(Clone)]
pub(crate) struct ServiceResources {
    /// The database; on SQLite its writers take turns.
    pub(crate) store: Arc<dyn Store>,
    /// How the servers are, to be said once.
    pub(crate) servers: Arc<Servers>,
}

struct PublisherThread {
    requests: Sender<PublishRequest>,
    thread: WorkerThread,
}

impl Client {
    /// Connects to the database. The broker is connected to when there is something to publish; while
    /// it is away messages are recorded, and a service publishes them later.
    ///
    /// # Errors
    /// When the database is away, or not migrated.
    pub fn connect(config: impl Into<Arc<Config>>) -> Result<Self, PublishError> {
        let client = Self::lazy(config.into());
        let (answer, answered) = bounded(1);
        client.ask(Vec::new(), move |result| answer.send(result).is_ok())?;
        answered.recv().map_err(|_| PublishError::Ended)??;
        Ok(client)
    }

    /// A client that connects, and starts its thread, when there is something to publish.
    pub(crate) fn lazy(config: Arc<Config>) -> Self {
        Self(Arc::new(Inner {
            config,
            service: OnceLock::new(),
            records_only: false,
            running: Mutex::default(),
        }))
    }

    /// A client for tests, which leaves all publishing to them.
    pub(crate) fn recording(config: Arc<Config>) -> Self {
        Self(Arc::new(Inner {
            config,
            service: OnceLock::new(),
            records_only: true,
            running: Mutex::default(),
        }))
    }

    /// Has it work with what its service has; too late once it has published.
    pub(crate) fn use_service(&self, shared: ServiceResources) {
        if self.0.service.set(shared).is_err() {
            log::debug!("the client is a service's already");
        }
    }

    /// A message for the task of that name, to be published when it is complete.
    pub fn task(&self, name: impl Into<String>) -> Draft {
        Draft::new(self.clone(), name.into())
    }

    /// Publishes many messages, some at a time: each part is recorded while the broker has the last.
    /// Returns a receipt for each, in their order.
    ///
    /// # Errors
    /// When one of them can't be a message: nothing is recorded then. When the database is away or
    /// refuses them: [`PublishError::Database`] says how many are recorded.
    pub fn publish_many(
        &self,
        messages: impl IntoIterator<Item = Draft>,
    ) -> Result<Vec<Receipt>, PublishError> {
        let messages = messages.into_iter().map(Draft::into_ready);
        self.publish(messages.collect::<Result<_, _>>()?)
    }

    /// [`Client::publish_many`] for async code.
    ///
    /// # Errors
    /// The same.
    pub async fn publish_many_async(
        &self,
        messages: impl IntoIterator<Item = Draft>,
    ) -> Result<Vec<Receipt>, PublishError> {
        let messages = messages.into_iter().map(Draft::into_ready);
        let messages = messages.collect::<Result<_, _>>()?;
        self.clone().publish_async(messages).await
    }

    /// Records many messages in a transaction of the caller's, as [`Draft::record`] does with one.
    /// Returns their uuids, in their order.
    ///
    /// # Errors
    /// When one can't be a message, or the database refuses one.
    pub fn record_many(
        &self,
        messages: impl IntoIterator<Item = Draft>,
        connection: &mut impl Connection,
    ) -> Result<Vec<String>, RecordError> {
        let ready = messages.into_iter().map(Draft::ready);
        let ready: Result<Vec<ReadyMessage>, _> = ready.collect();
        let ready = ready.map_err(|(task, reason)| RecordError::Unfit { task, reason })?;
        draft::record(connection, &ready)
    }

    fn publish(&self, messages: Vec<ReadyMessage>) -> Result<Vec<Receipt>, PublishError> {
        let (answer, answered) = bounded(1);
        self.ask(messages, move |result| answer.send(result).is_ok())?;
        answered.recv().map_err(|_| PublishError::Ended)?
    }

    async fn publish_async(
        self,
        messages: Vec<ReadyMessage>,
    ) -> Result<Vec<Receipt>, PublishError> {
        let (answer, answered) = oneshot::channel();
        self.ask(messages, move |result| answer.send(result).is_ok())?;
        answered.await.map_err(|_| PublishError::Ended)?
    }

    /// Hands messages to the publisher. `answer` says whether anybody waited for it.
    fn ask(
        &self,
        messages: Vec<ReadyMessage>,
        answer: impl FnOnce(Result<Vec<Receipt>, PublishError>) -> bool + Send + 'static,
    ) -> Result<(), PublishError> {
        let request = PublishRequest {
            messages,
            answer: Box::new(answer),
        };
        let mut running = self
            .0
            .running
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let started = match running.take() {
            Some(started) => started,
            None => PublisherThread::start(&self.0)?,
        };
        match running.insert(started).requests.send(request) {
            Ok(()) => Ok(()),
            Err(_) => {
                *running = None;
                Err(PublishError::Ended)
            }
        }
    }

    /// The queue of messages that do not name one: the configuration's first.
    fn default_queue(&self) -> String {
        let first = self.0.config.queues.first();
        first.map(|queue| queue.name.clone()).unwrap_or_default()
    }
}

impl PublisherThread {
    fn start(of: &Inner) -> Result<Self, PublishError> {
        let service = of.service.get().cloned();
        let mut publisher = ClientPublisher::new(Arc::clone(&of.config), service, of.records_only)?;
        let (requests, received) = unbounded();
        let thread = WorkerThread::start("client", move |_| publisher.run(&received));
        let thread = thread.map_err(PublishError::System)?;
        Ok(Self { requests, thread })
    }
}

/// A process must not end under a thread that is at work in a client library.
impl Drop for Inner {
    fn drop(&mut self) {
        let running = self.running.get_mut();
        if let Some(running) = running.unwrap_or_else(PoisonError::into_inner).take() {
            drop(running.requests);
            running.thread.stop(Instant::now() + THREAD_STOP_TIMEOUT);
        }
    }
}

/// The client of the service that runs the task.
impl FromMessage for Client {
    fn from_message(context: &TaskContext, _: &Arguments) -> Result<Self, TaskError> {
        let client = context.states.get::<ServiceClient>();
        let client = client.ok_or_else(|| TaskError::new("the service has no client"))?;
        Ok(client.0.clone())
    }

    fn need() -> Option<Need> {
        Some(Need::of::<ServiceClient>())
    }
}
