//! What a task knows of its message and of the service that runs it.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;

use log::{Log, Metadata, Record};
use tokio::sync::watch;

use super::RunId;
use super::states::States;
use crate::logging::TaskLog;

/// What a task knows of the message that it runs for.
#[derive(Debug, Clone)]
pub struct TaskContext {
    /// The message's key.
    pub uuid: String,
    /// The task's name.
    pub task: String,
    /// The queue that the message came by.
    pub queue: String,
    /// Which run of the message this is, from 1. More than 1 means that one may have begun before: its worker
    /// has vanished, and where it had the message and not begun it yet, that counts too.
    pub attempt: u32,
    /// What its runner knows this run by.
    pub(crate) run: RunId,
    /// The message's log.
    pub(crate) log: TaskLog,
    /// What the tasks share.
    pub(crate) states: Arc<States>,
    /// Whether the service is stopping.
    pub(crate) stopping: Stopping,
}

impl TaskContext {
    /// A logger that adds to the message's log, for other threads than the task's own, whose log lines
    /// are kept anyway.
    ///
    /// ```
    /// # fn task(context: carrot_actors::TaskContext) {
    /// let logger = context.logger();
    /// std::thread::spawn(move || {
    ///     log::info!(logger: logger, "half done");
    ///     // or all that is logged meanwhile:
    ///     logger.capture(|| log::info!("done"));
    /// });
    /// # }
    /// ```
    #[must_use]
    pub fn logger(&self) -> TaskLogger {
        TaskLogger(self.log.clone())
    }

    /// Whether the service has been told to stop. It waits for the task all the same, as long as
    /// `shutdown_grace` allows: what takes long had better look, and come to an end.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        *self.stopping.0.borrow()
    }

    /// Waits until the service is told to stop.
    pub async fn cancelled(&self) {
        let mut stopping = self.stopping.0.clone();
        if stopping.wait_for(|stopping| *stopping).await.is_err() {
            // Nobody is left who could stop it.
            std::future::pending::<()>().await;
        }
    }
}

/// Whether the service is stopping.
#[derive(Debug, Clone)]
pub(crate) struct Stopping(pub(crate) watch::Receiver<bool>);

/// A logger that adds to a message's log, beside where everything is logged.
#[derive(Debug, Clone)]
pub struct TaskLogger(TaskLog);

impl TaskLogger {
    /// Runs `work`, and keeps what it logs on this thread.
    pub fn capture<R>(&self, work: impl FnOnce() -> R) -> R {
        self.0.capture(work)
    }

    /// A future that does as `work` does, on whatever thread, and keeps what it logs: for what a task
    /// spawns, whose log lines are no part of the message's log otherwise.
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
