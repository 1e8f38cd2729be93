//! Publishing from a program: each message is recorded in the database, and sent to the broker.
//!
//! A [`Client`] has one thread with a connection to each server, for any number of threads that publish. The
//! messages that arrive while it is busy are recorded together, so that many share a commit.

mod draft;
mod error;
mod publisher;
mod ready_message;
mod receipt;

use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Instant;

use crossbeam_channel::{Sender, bounded, unbounded};
use tokio::sync::oneshot;

pub use self::draft::Draft;
pub use self::error::PublishError;
pub(crate) use self::publisher::ServiceResources;
use self::publisher::{ClientPublisher, PublishRequest};
use self::ready_message::ReadyMessage;
pub use self::receipt::{Delivery, Receipt};
use crate::config::Config;
use crate::health::worker_thread::{THREAD_STOP_TIMEOUT, WorkerThread};
use crate::message::Arguments;
use crate::store::transaction::{Connection, RecordError};
use crate::task::{FromMessage, Need, TaskContext, TaskError};

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
/// A task publishes with its service's client, which it takes as an argument:
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
pub struct Client(Arc<ClientState>);

/// The client that a service gives to its tasks.
pub(crate) struct ServiceClient(pub(crate) Client);

struct ClientState {
    config: Arc<Config>,
    /// What the client shares with its service, if it belongs to one.
    service: OnceLock<ServiceResources>,
    /// Whether the client records messages without publishing them.
    records_only: bool,
    /// The publisher's thread, started by the first request.
    publisher: Mutex<Option<PublisherThread>>,
}

struct PublisherThread {
    requests: Sender<PublishRequest>,
    thread: WorkerThread,
}

impl Client {
    /// Connects to the database. The client connects to the broker when there is something to publish. While the
    /// broker is away, messages are recorded, and a service publishes them later.
    ///
    /// # Errors
    /// When the database is away, or not migrated.
    pub fn connect(config: impl Into<Arc<Config>>) -> Result<Self, PublishError> {
        let client = Self::lazy(config.into());
        let (answer, answered) = bounded(1);
        client.send_request(Vec::new(), move |result| answer.send(result).is_ok())?;
        answered.recv().map_err(|_| PublishError::Ended)??;
        Ok(client)
    }

    /// A client that starts its thread and connects when there is something to publish.
    pub(crate) fn lazy(config: Arc<Config>) -> Self {
        Self(Arc::new(ClientState {
            config,
            service: OnceLock::new(),
            records_only: false,
            publisher: Mutex::default(),
        }))
    }

    /// A client for tests, which only records messages: the test publishes them.
    pub(crate) fn recording(config: Arc<Config>) -> Self {
        Self(Arc::new(ClientState {
            config,
            service: OnceLock::new(),
            records_only: true,
            publisher: Mutex::default(),
        }))
    }

    /// Makes the client use its service's store and health. Has no effect once the client has published.
    pub(crate) fn use_service(&self, resources: ServiceResources) {
        if self.0.service.set(resources).is_err() {
            log::debug!("the client already belongs to a service");
        }
    }

    /// Starts a message for the task `name`.
    pub fn task(&self, name: impl Into<String>) -> Draft {
        Draft::new(self.clone(), name.into())
    }

    /// Publishes many messages in batches: the database records one batch while the broker takes the one before.
    /// Returns a receipt for each message, in order.
    ///
    /// # Errors
    /// When one of the drafts is not a valid message: nothing is recorded then. When the database is away or
    /// refuses a message: [`PublishError::Database`] says how many are recorded.
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
    /// As [`Client::publish_many`].
    pub async fn publish_many_async(
        &self,
        messages: impl IntoIterator<Item = Draft>,
    ) -> Result<Vec<Receipt>, PublishError> {
        let messages = messages.into_iter().map(Draft::into_ready);
        let messages = messages.collect::<Result<_, _>>()?;
        self.clone().publish_async(messages).await
    }

    /// Records many messages in the caller's transaction, as [`Draft::record`] records one. Returns their uuids,
    /// in order.
    ///
    /// # Errors
    /// When one of the drafts is not a valid message, or the database refuses a message.
    pub fn record_many(
        &self,
        messages: impl IntoIterator<Item = Draft>,
        connection: &mut impl Connection,
    ) -> Result<Vec<String>, RecordError> {
        let ready = messages.into_iter().map(Draft::ready);
        let ready: Result<Vec<ReadyMessage>, _> = ready.collect();
        let ready = ready.map_err(|(task, reason)| RecordError::Unfit { task, reason })?;
        ready_message::record(connection, &ready)
    }

    fn publish(&self, messages: Vec<ReadyMessage>) -> Result<Vec<Receipt>, PublishError> {
        let (answer, answered) = bounded(1);
        self.send_request(messages, move |result| answer.send(result).is_ok())?;
        answered.recv().map_err(|_| PublishError::Ended)?
    }

    async fn publish_async(
        self,
        messages: Vec<ReadyMessage>,
    ) -> Result<Vec<Receipt>, PublishError> {
        let (answer, answered) = oneshot::channel();
        self.send_request(messages, move |result| answer.send(result).is_ok())?;
        answered.await.map_err(|_| PublishError::Ended)?
    }

    /// Sends messages to the publisher's thread. `answer` returns whether anybody still waited for the receipts.
    fn send_request(
        &self,
        messages: Vec<ReadyMessage>,
        answer: impl FnOnce(Result<Vec<Receipt>, PublishError>) -> bool + Send + 'static,
    ) -> Result<(), PublishError> {
        let request = PublishRequest {
            messages,
            answer: Box::new(answer),
        };
        let mut publisher = self
            .0
            .publisher
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let started = match publisher.take() {
            Some(started) => started,
            None => PublisherThread::start(&self.0)?,
        };
        match publisher.insert(started).requests.send(request) {
            Ok(()) => Ok(()),
            Err(_) => {
                *publisher = None;
                Err(PublishError::Ended)
            }
        }
    }

    /// The queue of messages that name none: the configuration's first.
    fn default_queue(&self) -> String {
        let first = self.0.config.queues.first();
        first.map(|queue| queue.name.clone()).unwrap_or_default()
    }
}

impl PublisherThread {
    fn start(of: &ClientState) -> Result<Self, PublishError> {
        let service = of.service.get().cloned();
        let mut publisher = ClientPublisher::new(Arc::clone(&of.config), service, of.records_only)?;
        let (requests, received) = unbounded();
        let thread = WorkerThread::start("client", move |_| publisher.run(&received));
        let thread = thread.map_err(PublishError::System)?;
        Ok(Self { requests, thread })
    }
}

/// A process must not exit while a thread is busy in a database library.
impl Drop for ClientState {
    fn drop(&mut self) {
        let publisher = self.publisher.get_mut();
        if let Some(publisher) = publisher.unwrap_or_else(PoisonError::into_inner).take() {
            drop(publisher.requests);
            publisher.thread.stop(Instant::now() + THREAD_STOP_TIMEOUT);
        }
    }
}

/// Gives a task the client of its service.
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
