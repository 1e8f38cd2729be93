//! The seam between the service and its tasks.

use super::{RunId, TaskContext, TaskError, TaskResult};
use crate::message::Payload;

/// Runs the messages of a task, by calling a function or starting a process for each message. Several runs may
/// be under way at once, each on its own thread.
pub(crate) trait Runner: Send + Sync {
    /// Checks a message before its run begins. A message that is refused does not count as run.
    ///
    /// # Errors
    /// When the task can't take these arguments.
    fn check(&self, payload: &Payload) -> Result<(), TaskError>;

    /// Runs a message to its end on this thread, which has entered the [runtime](crate#async-tasks) of the
    /// tasks. It may panic.
    ///
    /// # Errors
    /// When the task fails, or the run could not begin, or the message is handed back.
    fn run(&self, context: &TaskContext, payload: &Payload) -> TaskResult;

    /// Ends a run at once, if that is possible from outside; [`run`](Self::run) then returns soon. Does nothing
    /// if the run is over. A function can't be ended, and goes on.
    fn cancel(&self, _: RunId) {}

    /// Ends all runs that are still under way. Nothing may be run afterwards.
    fn shut_down(&self) {}
}
