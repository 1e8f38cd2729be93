//! The state of one queue.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::status_report::QueueReport;
use crate::health::outage::ServerHealth;

/// The state of one queue.
#[derive(Debug)]
pub(super) struct QueueStatus {
    name: String,
    consumers: usize,
    broker: Arc<ServerHealth>,
    link: Mutex<QueueLink>,
    pub(super) running: AtomicUsize,
    in_flight: AtomicUsize,
}

/// The state of a queue's subscription.
#[derive(Debug, Default)]
pub(super) enum QueueLink {
    /// Not consumed. If the broker is away, its [`ServerHealth`] says so.
    #[default]
    Disconnected,
    Consumed,
    /// The broker is there, and refuses the subscription for this reason.
    Refused(String),
}

impl QueueStatus {
    pub(super) fn new(name: &str, consumers: usize, broker: &Arc<ServerHealth>) -> Self {
        Self {
            name: name.to_owned(),
            consumers,
            broker: Arc::clone(broker),
            link: Mutex::default(),
            running: AtomicUsize::new(0),
            in_flight: AtomicUsize::new(0),
        }
    }

    pub(super) fn set_link(&self, link: QueueLink) {
        *lock(&self.link) = link;
    }

    pub(super) fn set_in_flight(&self, count: usize) {
        self.in_flight.store(count, Ordering::Relaxed);
    }

    pub(super) fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// Whether the queue is consumed, or the reason why it is not is known.
    pub(super) fn is_explained(&self) -> bool {
        !matches!(*lock(&self.link), QueueLink::Disconnected) || self.broker.problem().is_some()
    }

    /// Why the broker refuses the subscription, if it does.
    pub(super) fn problem(&self) -> Option<String> {
        match &*lock(&self.link) {
            QueueLink::Refused(reason) => {
                Some(format!("queue {:?} is not consumed: {reason}", self.name))
            }
            QueueLink::Disconnected | QueueLink::Consumed => None,
        }
    }

    pub(super) fn report(&self) -> QueueReport {
        QueueReport {
            name: self.name.clone(),
            consumers: self.consumers,
            running_tasks: self.running.load(Ordering::Relaxed),
            consumed: matches!(*lock(&self.link), QueueLink::Consumed),
        }
    }
}

/// Ignores poisoning: no thread panics while it holds one of these locks.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
