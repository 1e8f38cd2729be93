//! What is done around tasks.

use serde_json::Value;

use super::{TaskContext, TaskError};
use crate::message::Arguments;

/// What is done around every task of an app, on the thread that runs the task. What it logs is kept in
/// the message's log. It is called in the [runtime](crate#async-tasks) of the service's tasks.
///
/// Several are entered in the order in which the app was given them, and left in the opposite one.
///
/// ```
/// use carrot_actors::message::Arguments;
/// use carrot_actors::{App, Middleware, TaskContext, TaskError};
/// use serde_json::Value;
///
/// /// Refuses what is too long, and says how each message went.
/// struct Gate;
///
/// impl Middleware for Gate {
///     fn before(&self, _: &TaskContext, arguments: &Arguments) -> Result<(), TaskError> {
///         match arguments.args.len() {
///             0..=3 => Ok(()),
///             many => Err(TaskError::new(format!("{many} arguments are too many"))),
///         }
///     }
///
///     fn after(&self, context: &TaskContext, _: &Arguments, outcome: &Result<Value, TaskError>) {
///         log::info!("{}: {}", context.task, outcome.is_ok());
///     }
/// }
///
/// let app = App::new().middleware(Gate);
/// ```
pub trait Middleware: Send + Sync + 'static {
    /// Before the task is called.
    ///
    /// # Errors
    /// When it is not to be called: the message is FAILED with that error, or handed back if it is
    /// [`Again`](crate::Again). Those that were entered before are left.
    fn before(&self, context: &TaskContext, arguments: &Arguments) -> Result<(), TaskError> {
        let _unused = (context, arguments);
        Ok(())
    }

    /// After the task has ended, whether well or not, and before that is recorded. Where the error says
    /// [`again`](TaskError::again), it has handed its message back, or could not begin. A task that is run
    /// again, since its service died before that, is seen again.
    fn after(
        &self,
        context: &TaskContext,
        arguments: &Arguments,
        outcome: &Result<Value, TaskError>,
    ) {
        let _unused = (context, arguments, outcome);
    }

    /// When a message is FAILED, before that is recorded; in the order in which the app was given them.
    /// Also when it could not be run: there is no such task, or its body can't be read (there are no
    /// arguments then), or it has made its workers vanish too often.
    fn on_failure(&self, context: &TaskContext, arguments: &Arguments, error: &TaskError) {
        let _unused = (context, arguments, error);
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
