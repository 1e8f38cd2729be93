//! Middleware: code of the app that wraps every task.

use std::fmt;

use serde_json::Value;

use super::{TaskContext, TaskError, TaskResult};
use crate::message::Arguments;

/// Wraps every task of an app. It is called on the thread that runs the task, in the
/// [runtime](crate#async-tasks) of the service's tasks, and what it logs is kept in the message's log.
///
/// Several wrap each other: the first one that was added to the app is outermost, the last one is next to
/// the task.
///
/// ```
/// use std::time::Instant;
///
/// use carrot_actors::message::Arguments;
/// use carrot_actors::{App, Middleware, Next, TaskContext, TaskError};
/// use serde_json::Value;
///
/// /// Refuses messages with too many arguments, and logs how long each task took.
/// struct Gate;
///
/// impl Middleware for Gate {
///     fn around(
///         &self,
///         context: &TaskContext,
///         arguments: &Arguments,
///         next: Next<'_>,
///     ) -> Result<Value, TaskError> {
///         if arguments.args.len() > 3 {
///             return Err(TaskError::new("more than three arguments are too many"));
///         }
///         let began = Instant::now();
///         let outcome = next.run();
///         log::info!("{} took {:?}", context.task, began.elapsed());
///         outcome
///     }
/// }
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # use carrot_actors::Args;
/// let app = App::new().middleware(Gate);
/// # let mut app = app.task("count", |Args(all): Args<Vec<u32>>| Ok::<_, TaskError>(all.len())).test()?;
/// # let outcome = app.run(app.task("count").args([1, 2, 3]))?;
/// # assert_eq!(outcome.result.unwrap(), 3);
/// # assert!(outcome.log.contains("count took "));
/// # let outcome = app.run(app.task("count").args([1, 2, 3, 4]))?;
/// # assert!(outcome.result.unwrap_err().exception.contains("too many"));
/// # Ok(())
/// # }
/// ```
///
/// A guard or an entered span of `tracing` that is held while [`Next::run`] is called covers the whole run. This
/// includes async tasks, since their futures are polled on this thread.
pub trait Middleware: Send + Sync + 'static {
    /// Runs the task by [`next.run()`](Next::run), and returns the task's outcome or another one instead. If
    /// it does not call `next.run()`, the task is not run.
    ///
    /// It is called for each attempt. If the service dies before an outcome is recorded, the task runs again
    /// and this is called again.
    ///
    /// If it panics before the task is called, the message is FAILED. If it panics afterwards, the task's own
    /// outcome stands, and the panic is logged.
    ///
    /// # Errors
    /// An error makes the message FAILED. If it is [`Again`](crate::Again), or has
    /// [`again`](TaskError::again) set, the message is handed back instead.
    fn around(
        &self,
        context: &TaskContext,
        arguments: &Arguments,
        next: Next<'_>,
    ) -> Result<Value, TaskError> {
        let _unused = (context, arguments);
        next.run()
    }

    /// Is called when a message is FAILED, before the failure is recorded. Several are called in the order in
    /// which they were added to the app.
    ///
    /// It is also called when the message could not be run: because the task is unknown, because the body
    /// can't be decoded (`arguments` is empty then), or because its workers vanished too often.
    fn on_failure(&self, context: &TaskContext, arguments: &Arguments, error: &TaskError) {
        let _unused = (context, arguments, error);
    }
}

/// The rest of the chain, for a [`Middleware`] to call: the middleware further inside, and the task.
pub struct Next<'a>(Box<dyn FnOnce() -> TaskResult + 'a>);

impl<'a> Next<'a> {
    pub(crate) fn new(run: impl FnOnce() -> TaskResult + 'a) -> Self {
        Self(Box::new(run))
    }

    /// Runs the task on this thread and returns its outcome. It blocks until an async task is finished, so
    /// it must not be called in async code.
    ///
    /// # Errors
    /// When the task returns an error, or panics. If the error has [`again`](TaskError::again) set, the task
    /// has handed its message back, or could not be started.
    pub fn run(self) -> Result<Value, TaskError> {
        (self.0)()
    }
}

impl fmt::Debug for Next<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Next").finish_non_exhaustive()
    }
}

/// Middleware that only calls a function when a message is FAILED.
pub(crate) struct OnFailure<F>(pub(crate) F);

impl<F> Middleware for OnFailure<F>
where
    F: Fn(&TaskContext, &Arguments, &TaskError) + Send + Sync + 'static,
{
    fn on_failure(&self, context: &TaskContext, arguments: &Arguments, error: &TaskError) {
        (self.0)(context, arguments, error);
    }
}
