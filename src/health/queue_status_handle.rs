//! How a queue's subscription and consumers record the queue's state.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::outage::ServerHealth;
use super::queue_status::{QueueLink, QueueStatus};
use super::service_status::ServiceStatus;

/// Records the state of one queue in the service's status.
#[derive(Debug, Clone)]
pub(crate) struct QueueStatusHandle {
    service_status: Arc<ServiceStatus>,
    queue: Arc<QueueStatus>,
}

impl QueueStatusHandle {
    /// Adds a queue that the service is going to consume, from this broker.
    pub(crate) fn register(
        service_status: &Arc<ServiceStatus>,
        name: &str,
        consumers: usize,
        broker: &Arc<ServerHealth>,
    ) -> Self {
        let queue = Arc::new(QueueStatus::new(name, consumers, broker));
        service_status.add_queue(Arc::clone(&queue));
        Self {
            service_status: Arc::clone(service_status),
            queue,
        }
    }

    /// Records that the broker delivers from now on.
    pub(crate) fn set_consumed(&self) {
        self.set_link(QueueLink::Consumed);
    }

    /// Records that the connection is gone.
    pub(crate) fn set_disconnected(&self) {
        self.set_link(QueueLink::Disconnected);
    }

    /// Records that the broker refuses the subscription.
    pub(crate) fn set_refused(&self, reason: String) {
        self.set_link(QueueLink::Refused(reason));
    }

    /// Records how many messages are claimed whose end is not recorded.
    pub(crate) fn set_in_flight(&self, count: usize) {
        self.queue.set_in_flight(count);
    }

    /// Counts a running task, until the returned guard is dropped.
    pub(crate) fn count_running(&self) -> RunningTask<'_> {
        self.queue.running.fetch_add(1, Ordering::Relaxed);
        RunningTask(&self.queue.running)
    }

    fn set_link(&self, link: QueueLink) {
        self.service_status
            .update_queue(&self.queue, |queue| queue.set_link(link));
    }
}

/// Counts a task as running until it is dropped.
#[derive(Debug)]
pub(crate) struct RunningTask<'a>(&'a AtomicUsize);

impl Drop for RunningTask<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
