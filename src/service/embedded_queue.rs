//! The database as the embedded broker's queues.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use crate::broker::{BrokerError, QueueSession, QueueStore};
use crate::message::Message;
use crate::store::liveness;
use crate::store::{self, EmbeddedQueueStore, Store, StoreError, UndecodableRow, WorkerId};

/// How often an idle queue looks for dead workers of this host, so that their messages are delivered again soon:
/// RabbitMQ redelivers at once.
const DEAD_WORKER_INTERVAL: Duration = Duration::from_secs(1);

/// How often a statement is tried that conflicts with another transaction.
const MOST_TRIES: u32 = 10;

/// The queues of the embedded broker. The worker that takes messages from them may be registered later.
pub struct EmbeddedQueue {
    store: Arc<dyn Store>,
    /// The boot and process namespace in which this process's pid is valid.
    namespace: String,
    owner: OnceLock<WorkerId>,
}

impl EmbeddedQueue {
    /// The queues in `store`, for a worker of that namespace.
    pub fn new(store: Arc<dyn Store>, namespace: String) -> Self {
        Self {
            store,
            namespace,
            owner: OnceLock::new(),
        }
    }

    /// Sets the worker that takes messages. To be called before a message is taken.
    pub fn set_owner(&self, owner: WorkerId) {
        self.owner.get_or_init(|| owner);
    }
}

impl QueueStore for EmbeddedQueue {
    fn connect(&self) -> Result<Box<dyn QueueSession>, BrokerError> {
        let Some(owner) = self.owner.get() else {
            return Err(BrokerError::Away(
                "this worker is not registered".to_owned(),
            ));
        };
        Ok(Box::new(EmbeddedQueueSession {
            session: self.store.connect().map_err(classify)?,
            owner: *owner,
            namespace: self.namespace.clone(),
            last_removal: Instant::now(),
        }))
    }
}

struct EmbeddedQueueSession {
    session: Box<dyn EmbeddedQueueStore>,
    owner: WorkerId,
    namespace: String,
    last_removal: Instant,
}

/// Classifies an error by what the consumer can do about it.
fn classify(error: StoreError) -> BrokerError {
    match error {
        StoreError::Unavailable(reason) | StoreError::Conflict(reason) => BrokerError::Away(reason),
        StoreError::Refused(reason)
        | StoreError::Unclear(reason)
        | StoreError::Unreadable(reason) => BrokerError::Refused(reason),
        StoreError::Unsupported(reason) => BrokerError::Unsupported(reason),
        StoreError::NotMigrated(_) => BrokerError::Unsupported(error.to_string()),
    }
}

impl EmbeddedQueueSession {
    /// Runs `work`, and repeats it if it conflicts with another transaction.
    fn run<T>(
        &mut self,
        mut work: impl FnMut(&mut dyn EmbeddedQueueStore) -> Result<T, StoreError>,
    ) -> Result<T, BrokerError> {
        let session = self.session.as_mut();
        store::retry_conflicts(MOST_TRIES, || work(session)).map_err(classify)
    }

    /// Fails messages that can't be decoded.
    fn fail(&mut self, rows: &[UndecodableRow]) -> Result<(), BrokerError> {
        for row in rows {
            log::error!("message {} can't be run: {}", row.key, row.reason);
        }
        let owner = self.owner;
        self.run(|session| session.fail_waiting(owner, rows))
    }

    /// Removes workers of this host whose process is gone, so that their messages need not wait for the heartbeat's
    /// timeout.
    fn remove_dead_workers(&mut self) -> Result<(), BrokerError> {
        if self.last_removal.elapsed() < DEAD_WORKER_INTERVAL {
            return Ok(());
        }
        self.last_removal = Instant::now();
        liveness::remove_dead_workers(self.session.as_mut(), &self.namespace)
            .map(drop)
            .map_err(classify)
    }
}

impl QueueSession for EmbeddedQueueSession {
    fn take(&mut self, queue: &str, limit: usize) -> Result<Vec<Message>, BrokerError> {
        let owner = self.owner;
        if !self.run(|session| session.is_any_waiting(queue))? {
            self.remove_dead_workers()?;
            return Ok(Vec::new());
        }
        let (messages, undecodable) =
            self.run(|session| session.take_waiting(owner, queue, limit))?;
        if !undecodable.is_empty() {
            match self.fail(&undecodable) {
                // The undecodable ones stay this worker's and are not taken again; the others are run.
                Err(BrokerError::Refused(reason)) => {
                    log::error!("the database refuses to record that: {reason}");
                }
                other => other?,
            }
        }
        Ok(messages)
    }

    fn put_back(&mut self, keys: &[String]) -> Result<(), BrokerError> {
        let owner = self.owner;
        self.run(|session| session.put_back(owner, keys))
    }

    fn put_back_all(&mut self, queue: &str) -> Result<(), BrokerError> {
        let owner = self.owner;
        self.run(|session| session.put_back_all(owner, queue))
    }

    fn depth(&mut self, queue: &str) -> Result<u32, BrokerError> {
        let count = self.run(|session| session.count_waiting(queue))?;
        Ok(u32::try_from(count).unwrap_or(u32::MAX))
    }
}
