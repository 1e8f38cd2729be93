//! What runs the messages of a task.

use super::{RunId, TaskContext, TaskError, TaskResult};
use crate::message::Payload;

/// What runs the messages of a task: a function, or a process for each message. Several runs may be under way
/// at once, each on a thread of its own.
pub(crate) trait Runner: Send + Sync {
    /// Asked before a run begins: what is refused counts as no run.
    ///
    /// # Errors
    /// When the task can't be given this message.
    fn check(&self, payload: &Payload) -> Result<(), TaskError>;

    /// Runs a message to its end on this thread, which has entered the [runtime](crate#async-tasks) of the
    /// tasks. It may panic.
    ///
    /// # Errors
    /// When the task fails, or the run could not begin, or the message is handed back.
    fn run(&self, context: &TaskContext, payload: &Payload) -> TaskResult;

    /// Ends a run at once, where that can be done from outside; [`run`](Self::run) returns soon then. Nothing
    /// happens if that run is over. A function can't be ended, and goes on.
    fn cancel(&self, _: RunId) {}

    /// Ends whatever it still has under way: nothing is run any more.
    fn shut_down(&self) {}
}
