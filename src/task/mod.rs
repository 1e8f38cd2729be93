//! Tasks: functions registered by name and commands from the configuration, and the runners that run them.

mod again;
mod command;
mod context;
mod error;
mod extract;
mod function;
mod guard;
mod middleware;
mod registry;
mod run_id;
mod runner;
mod states;

pub use again::Again;
pub(crate) use context::Stopping;
pub use context::{TaskContext, TaskLogger};
pub use error::TaskError;
#[doc(hidden)]
pub use error::TaskResult;
pub use extract::{Args, FromMessage, Kwargs, State};
pub use function::{Task, TaskFunction};
pub(crate) use middleware::OnFailure;
pub use middleware::{Middleware, Next};
#[doc(hidden)]
pub use registry::{DuplicateTask, Registry};
pub(crate) use run_id::RunId;
pub(crate) use runner::Runner;
pub use states::Need;
#[doc(hidden)]
pub use states::StateError;
pub(crate) use states::States;
