//! One queue's part of the service_status.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use super::service_status::{ServiceStatus, lock};
use super::status_report::QueueReport;
use crate::health::outage::ServerHealth;

/// What is known of one queue.
#[derive(Debug)]
pub(super) struct QueueStatus {
    name: String,
    consumers: usize,
    broker: Arc<ServerHealth>,
    link: Mutex<QueueLink>,
    running: AtomicUsize,
    in_hand: AtomicUsize,
}

/// How a queue stands with its broker.
#[derive(Debug, Default)]
enum QueueLink {
    /// Not consumed; if the broker is the reason, that is known of the broker.
    #[default]
    Open,
    Consumed,
    /// The broker is there, and does not let it be consumed.
    Shut(String),
}

impl QueueStatus {
    pub(super) fn new(name: &str, consumers: usize, broker: &Arc<ServerHealth>) -> Self {
        Self {
            name: name.to_owned(),
            consumers,
            broker: Arc::clone(broker),
            link: Mutex::default(),
            running: AtomicUsize::new(0),
            in_hand: AtomicUsize::new(0),
        }
    }

    pub(super) fn in_hand(&self) -> usize {
        self.in_hand.load(Ordering::Relaxed)
    }

    /// Whether it is consumed, or known why not.
    pub(super) fn is_decided(&self) -> bool {
        !matches!(*lock(&self.link), QueueLink::Open) || self.broker.trouble().is_some()
    }

    pub(super) fn trouble(&self) -> Option<String> {
        match &*lock(&self.link) {
            QueueLink::Shut(reason) => {
                Some(format!("queue {:?} is not consumed: {reason}", self.name))
            }
            QueueLink::Open | QueueLink::Consumed => None,
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

/// What a queue's subscription and consumers write down.
#[derive(Debug, Clone)]
pub(crate) struct QueueStatusHandle {
    service_status: Arc<ServiceStatus>,
    queue: Arc<QueueStatus>,
}

impl QueueStatusHandle {
    pub(super) const fn new(service_status: Arc<ServiceStatus>, queue: Arc<QueueStatus>) -> Self {
        Self {
            service_status,
            queue,
        }
    }

    /// The broker delivers from now on.
    pub(crate) fn consumed(&self) {
        self.link(QueueLink::Consumed);
    }

    /// The connection is gone.
    pub(crate) fn lost(&self) {
        self.link(QueueLink::Open);
    }

    /// The broker does not let it be consumed.
    pub(crate) fn shut(&self, reason: String) {
        self.link(QueueLink::Shut(reason));
    }

    /// So much is claimed and not recorded.
    pub(crate) fn in_hand(&self, count: usize) {
        self.queue.in_hand.store(count, Ordering::Relaxed);
    }

    /// A task runs until this is dropped.
    pub(crate) fn task(&self) -> RunningTask<'_> {
        self.queue.running.fetch_add(1, Ordering::Relaxed);
        RunningTask(&self.queue.running)
    }

    fn link(&self, link: QueueLink) {
        // Under the lock of all, so that who is woken sees it.
        self.service_status
            .change(|_| *lock(&self.queue.link) = link);
    }
}

/// A task that is running.
#[derive(Debug)]
pub(crate) struct RunningTask<'a>(&'a AtomicUsize);

impl Drop for RunningTask<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
