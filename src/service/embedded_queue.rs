//! What the embedded broker needs of the store.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use crate::broker::{BrokerError, QueueSession, QueueStore};
use crate::message::Message;
use crate::store::liveness;
use crate::store::{self, EmbeddedQueueStore, Store, StoreError, UndecodableRow, WorkerId};

/// How often it is looked for workers of this host that are gone: RabbitMQ gives back at once what they had.
const BURY: Duration = Duration::from_secs(1);

/// So often a statement that met another transaction is tried again.
const TRIES: u32 = 10;

/// The queues of the embedded broker, for a worker that may be registered later.
pub struct EmbeddedQueue {
    store: Arc<dyn Store>,
    /// Where this process's pid means something.
    namespace: String,
    owner: OnceLock<WorkerId>,
}

impl EmbeddedQueue {
    /// Those in `store`, for a worker of that namespace.
    pub fn new(store: Arc<dyn Store>, namespace: String) -> Self {
        Self {
            store,
            namespace,
            owner: OnceLock::new(),
        }
    }

    /// Says who takes messages, before anybody does.
    pub fn are_for(&self, owner: WorkerId) {
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
        Ok(Box::new(Waiting {
            session: self.store.connect().map_err(classify)?,
            owner: *owner,
            namespace: self.namespace.clone(),
            buried: Instant::now(),
        }))
    }
}

struct Waiting {
    session: Box<dyn EmbeddedQueueStore>,
    owner: WorkerId,
    namespace: String,
    buried: Instant,
}

/// What the consumer can do about an error.
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

impl Waiting {
    /// RunStore `work`, again if it meets another transaction.
    fn run<T>(
        &mut self,
        mut work: impl FnMut(&mut dyn EmbeddedQueueStore) -> Result<T, StoreError>,
    ) -> Result<T, BrokerError> {
        let session = self.session.as_mut();
        store::apart_from_others(TRIES, || work(session)).map_err(classify)
    }

    /// Ends messages that nobody can run.
    fn fail(&mut self, rows: &[UndecodableRow]) -> Result<(), BrokerError> {
        for row in rows {
            log::error!("message {} can't be run: {}", row.key, row.reason);
        }
        let owner = self.owner;
        self.run(|session| session.fail_waiting(owner, rows))
    }

    /// What a worker of this host had, whose process is gone, need not wait for its heartbeat to grow old.
    fn remove_dead_workers(&mut self) -> Result<(), BrokerError> {
        if self.buried.elapsed() < BURY {
            return Ok(());
        }
        self.buried = Instant::now();
        liveness::remove_dead_workers(self.session.as_mut(), &self.namespace)
            .map(drop)
            .map_err(classify)
    }
}

impl QueueSession for Waiting {
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
                // They stay this worker's, and nobody takes them again; the others are run.
                Err(BrokerError::Refused(reason)) => {
                    log::error!("the database refuses to have that noted: {reason}");
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
