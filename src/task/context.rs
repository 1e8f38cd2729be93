//! What a task can see of its message and of the service that runs it.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;

use log::{Log, Metadata, Record};
use tokio::sync::watch;

use super::RunId;
use super::states::States;
use crate::logging::TaskLog;

/// The message that a task runs for, and whether its service is stopping.
#[derive(Debug, Clone)]
pub struct TaskContext {
    /// The message's id.
    pub uuid: String,
    /// The task's name.
    pub task: String,
    /// The queue that delivered the message.
    pub queue: String,
    /// Which attempt this is, from 1. A number above 1 means that an earlier attempt may have begun: its
    /// worker vanished. A worker that vanished after it claimed the message and before it ran it counts
    /// as well.
    pub attempt: u32,
    /// The id of this run, for its runner.
    pub(crate) run: RunId,
    /// The message's log.
    pub(crate) log: TaskLog,
    /// The states that tasks share.
    pub(crate) states: Arc<States>,
    /// Whether the service is stopping.
    pub(crate) stopping: Stopping,
}

impl TaskContext {
    /// A logger that adds to the message's log, for use on other threads. What the task logs on its own
    /// thread is kept anyway.
    ///
    /// ```
    /// # fn task(context: carrot_actors::TaskContext) {
    /// let logger = context.logger();
    /// std::thread::spawn(move || {
    ///     log::info!(logger: logger, "half done");
    ///     // or everything that a closure logs:
    ///     logger.capture(|| log::info!("done"));
    /// });
    /// # }
    /// ```
    #[must_use]
    pub fn logger(&self) -> TaskLogger {
        TaskLogger(self.log.clone())
    }

    /// Whether the service has been told to stop. It still waits for the task, for at most
    /// `shutdown_grace`. A long task should call this now and then, and finish early.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        *self.stopping.0.borrow()
    }

    /// Waits until the service is told to stop.
    pub async fn cancelled(&self) {
        let mut stopping = self.stopping.0.clone();
        if stopping.wait_for(|stopping| *stopping).await.is_err() {
            // The sender is gone: nothing can stop the service any more.
            std::future::pending::<()>().await;
        }
    }
}

/// Whether the service is stopping.
#[derive(Debug, Clone)]
pub(crate) struct Stopping(pub(crate) watch::Receiver<bool>);

/// A logger that adds to a message's log, in addition to the service's log.
#[derive(Debug, Clone)]
pub struct TaskLogger(TaskLog);

impl TaskLogger {
    /// Runs `work`, and keeps what it logs on this thread.
    pub fn capture<R>(&self, work: impl FnOnce() -> R) -> R {
        self.0.capture(work)
    }

    /// Runs `work`, on whichever threads poll it, and keeps what it logs. Without this, what a spawned
    /// future logs is not part of the message's log.
    ///
    /// ```
    /// # async fn task(context: carrot_actors::TaskContext) {
    /// let work = async { log::info!("half done") };
    /// tokio::spawn(context.logger().capture_async(work));
    /// # }
    /// ```
    pub async fn capture_async<F: Future>(self, work: F) -> F::Output {
        let mut work = pin!(work);
        poll_fn(|context| self.capture(|| work.as_mut().poll(context))).await
    }
}

impl Log for TaskLogger {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        log::logger().enabled(metadata)
    }

    fn log(&self, record: &Record<'_>) {
        self.0.capture(|| log::logger().log(record));
    }

    fn flush(&self) {
        log::logger().flush();
    }
}
