//! What a task is: a function registered by name, or a command from the configuration.

mod again;
pub(crate) mod command;
mod context;
mod error;
mod extract;
mod function;
mod guard;
mod middleware;
mod states;

pub use again::Again;
pub(crate) use command::CommandError;
pub(crate) use context::Stopping;
pub use context::{TaskContext, TaskLogger};
pub use error::TaskError;
pub use extract::{Args, FromMessage, Kwargs, State};
pub use function::{Task, TaskFunction};
#[doc(hidden)]
pub use guard::Guard;
pub use middleware::Middleware;
pub(crate) use middleware::OnFailure;
pub use states::Need;
#[doc(hidden)]
pub use states::StateError;
pub(crate) use states::States;

use std::collections::HashMap;
use std::error::Error;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use serde_json::Value;

use self::states::Makers;
use crate::config::{CommandConfig, Config};
use crate::message::Arguments;

/// What a task returns: its output, or why it failed.
#[doc(hidden)]
pub type TaskResult = Result<Value, TaskError>;

type SyncFn = dyn Fn(&TaskContext, Arguments) -> TaskResult + Send + Sync;
type TaskFuture = Pin<Box<dyn Future<Output = TaskResult>>>;
type AsyncFn = dyn Fn(TaskContext, Arguments) -> TaskFuture + Send + Sync;

/// How a task is run.
#[derive(Clone)]
pub(crate) enum Handler {
    /// A function, on the consumer's thread.
    Sync(Arc<SyncFn>),
    /// A function that returns a future, which the consumer's thread drives.
    Async(Arc<AsyncFn>),
    /// A process.
    Command(Arc<CommandConfig>),
}

/// The tasks of a service, by name.
#[doc(hidden)]
#[derive(Clone, Default)]
pub struct Registry {
    handlers: HashMap<String, Handler>,
    /// What tasks need, by their names.
    needs: Vec<(String, Need)>,
    around: Vec<Arc<dyn Middleware>>,
    makers: Makers,
    states: Arc<States>,
}

/// A name that has a task already.
#[doc(hidden)]
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("task {0:?} is registered twice: give one of them another name")]
pub struct DuplicateTask(pub String);

impl Registry {
    /// No tasks.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Registers a function that names what it asks for in its arguments.
    ///
    /// # Errors
    /// When the name has a task already.
    pub fn register_function<Kind>(
        &mut self,
        name: impl Into<String>,
        task: impl Task<Kind>,
    ) -> Result<(), DuplicateTask> {
        let name = name.into();
        let TaskFunction { handler, needs } = task.into_function();
        self.add(name.clone(), handler)?;
        let needs = needs.into_iter().map(|need| (name.clone(), need));
        self.needs.extend(needs);
        Ok(())
    }

    /// Registers a function of the message as it came.
    ///
    /// # Errors
    /// When the name has a task already.
    pub fn register(
        &mut self,
        name: impl Into<String>,
        task: impl Fn(&TaskContext, Arguments) -> TaskResult + Send + Sync + 'static,
    ) -> Result<(), DuplicateTask> {
        self.add(name.into(), Handler::Sync(Arc::new(task)))
    }

    /// Registers an async function. Its future runs on the consumer's thread and need not be `Send`.
    ///
    /// # Errors
    /// When the name has a task already.
    pub fn register_async<F>(
        &mut self,
        name: impl Into<String>,
        task: impl Fn(TaskContext, Arguments) -> F + Send + Sync + 'static,
    ) -> Result<(), DuplicateTask>
    where
        F: Future<Output = TaskResult> + 'static,
    {
        let boxed = move |context, arguments| Box::pin(task(context, arguments)) as TaskFuture;
        self.add(name.into(), Handler::Async(Arc::new(boxed)))
    }

    /// Registers an external command.
    ///
    /// # Errors
    /// When the name has a task already.
    pub fn register_command(
        &mut self,
        name: impl Into<String>,
        command: CommandConfig,
    ) -> Result<(), DuplicateTask> {
        self.add(name.into(), Handler::Command(Arc::new(command)))
    }

    /// Has something done around all tasks, inside of what is done around them already.
    pub fn surround(&mut self, middleware: impl Middleware) {
        self.around.push(Arc::new(middleware));
    }

    pub(crate) fn around(&self) -> &[Arc<dyn Middleware>] {
        &self.around
    }

    /// Has tasks share a value, as [`State`].
    pub fn share<T: Send + Sync + 'static>(&mut self, state: Arc<T>) {
        self.makers.share(state);
    }

    /// Has tasks share a value that is made when the service starts.
    pub fn share_made<T: Send + Sync + 'static, E: Into<Box<dyn Error + Send + Sync>>>(
        &mut self,
        make: impl Fn(&Arc<Config>) -> Result<T, E> + Send + Sync + 'static,
    ) {
        self.makers.add(make);
    }

    /// Whether the tasks have what they share.
    ///
    /// # Errors
    /// When a task asks for what is not there, or there are two of a type.
    pub fn check(&self) -> Result<(), StateError> {
        let needs = self.needs.iter();
        self.makers.check(needs.map(|(task, need)| (task, need)))
    }

    /// Makes what the tasks share: to be called once, before any is run.
    ///
    /// # Errors
    /// When a task asks for what is not there, or something can't be made.
    pub fn make_states(&mut self, config: &Arc<Config>) -> Result<(), StateError> {
        self.check()?;
        self.states = Arc::new(self.makers.make(config)?);
        Ok(())
    }

    pub(crate) const fn states(&self) -> &Arc<States> {
        &self.states
    }

    fn add(&mut self, name: String, handler: Handler) -> Result<(), DuplicateTask> {
        if self.handlers.contains_key(&name) {
            return Err(DuplicateTask(name));
        }
        self.handlers.insert(name, handler);
        Ok(())
    }

    pub(crate) fn get(&self, name: &str) -> Option<&Handler> {
        self.handlers.get(name)
    }

    /// The names of all tasks.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.handlers.keys().map(String::as_str)
    }

    /// Whether any task is a process of its own.
    pub(crate) fn has_commands(&self) -> bool {
        self.handlers
            .values()
            .any(|handler| matches!(handler, Handler::Command(_)))
    }
}
