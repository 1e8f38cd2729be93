//! What is done around tasks.

use std::fmt;

use serde_json::Value;

use super::{TaskContext, TaskError, TaskResult};
use crate::message::Arguments;

/// What is done around every task of an app, on the thread that runs the task. What it logs is kept in
/// the message's log. It is called in the [runtime](crate#async-tasks) of the service's tasks.
///
/// Several wrap each other: the first that the app was given is outermost, the last is next to the task.
///
/// ```
/// use std::time::Instant;
///
/// use carrot_actors::message::Arguments;
/// use carrot_actors::{App, Middleware, Next, TaskContext, TaskError};
/// use serde_json::Value;
///
/// /// Refuses what is too long, and says how long each task took.
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
/// What is held while [`Next::run`] is called, such as a guard or an entered span of `tracing`, is held
/// around the whole run, an async task's too: that is driven on this thread.
pub trait Middleware: Send + Sync + 'static {
    /// Runs the task by [`next.run()`](Next::run), with something before and after it, and returns the outcome:
    /// that of the task, or another in its place. Where it does not call `next.run()`, the task is not run.
    ///
    /// A task that is run again, since its service died before the outcome was recorded, is seen again.
    ///
    /// If this panics before the task is called, the message is FAILED. If it does so afterwards, the
    /// task's own outcome stands, and the log says so.
    ///
    /// # Errors
    /// When the message is FAILED, or handed back, if the error is [`Again`](crate::Again) or says so as
    /// [`again`](TaskError::again).
    fn around(
        &self,
        context: &TaskContext,
        arguments: &Arguments,
        next: Next<'_>,
    ) -> Result<Value, TaskError> {
        let _unused = (context, arguments);
        next.run()
    }

    /// When a message is FAILED, before that is recorded; in the order in which the app was given them.
    /// Also when it could not be run: there is no such task, or its body can't be read (there are no
    /// arguments then), or it has made its workers vanish too often.
    fn on_failure(&self, context: &TaskContext, arguments: &Arguments, error: &TaskError) {
        let _unused = (context, arguments, error);
    }
}

/// The task, as a [`Middleware`] calls it, with what is around it further inside.
pub struct Next<'a>(Box<dyn FnOnce() -> TaskResult + 'a>);

impl<'a> Next<'a> {
    pub(crate) fn new(run: impl FnOnce() -> TaskResult + 'a) -> Self {
        Self(Box::new(run))
    }

    /// Runs the task, on this thread, and returns when it is over. An async task is driven to its end, so this
    /// must not be called in async code.
    ///
    /// # Errors
    /// When the task returns an error, or panics. Where the error says [`again`](TaskError::again), it has
    /// handed its message back, or could not begin.
    pub fn run(self) -> Result<Value, TaskError> {
        (self.0)()
    }
}

impl fmt::Debug for Next<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Next").finish_non_exhaustive()
    }
}

/// A function that is called when a message is FAILED.
pub(crate) struct OnFailure<F>(pub(crate) F);

impl<F> Middleware for OnFailure<F>
where
    F: Fn(&TaskContext, &Arguments, &TaskError) + Send + Sync + 'static,
{
    fn on_failure(&self, context: &TaskContext, arguments: &Arguments, error: &TaskError) {
        (self.0)(context, arguments, error);
    }
}
