//! What a task is: a function registered by name, or a command from the configuration.

pub(crate) mod command;
mod error;
mod guard;

pub use error::TaskError;
pub use guard::Guard;

use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::config::CommandConfig;
use crate::logging::TaskLog;
use crate::message::Arguments;

/// What a task returns: its output, or why it failed.
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

/// What a task knows of the message that it runs for.
#[derive(Debug, Clone)]
pub struct TaskContext {
    /// The message's key.
    pub uuid: String,
    /// The task's name.
    pub task: String,
    /// The queue that the message came by.
    pub queue: String,
    /// Which run of the message this is, from 1.
    pub attempt: u32,
    /// The message's log.
    pub(crate) log: TaskLog,
}

/// The tasks of a service, by name.
#[derive(Clone, Default)]
pub struct Registry {
    handlers: HashMap<String, Handler>,
}

/// A name that has a task already.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("task {0:?} is registered twice: give one of them another name")]
pub struct DuplicateTask(pub String);

impl Registry {
    /// No tasks.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Registers a function.
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

    /// Whether any task is a process of its own.
    pub(crate) fn has_commands(&self) -> bool {
        self.handlers
            .values()
            .any(|handler| matches!(handler, Handler::Command(_)))
    }
}

impl Arguments {
    /// The positional arguments as a tuple or another type that a JSON array deserialises to.
    ///
    /// # Errors
    /// When they do not fit; the message FAILs with a text that says which and why.
    pub fn positional<T: DeserializeOwned>(&self) -> Result<T, TaskError> {
        serde_json::from_value(Value::Array(self.args.clone()))
            .map_err(|error| TaskError::new(format!("wrong positional arguments: {error}")))
    }

    /// The named arguments as a struct or another type that a JSON object deserialises to.
    ///
    /// # Errors
    /// When they do not fit; the message FAILs with a text that names the field.
    pub fn named<T: DeserializeOwned>(&self) -> Result<T, TaskError> {
        serde_json::from_value(Value::Object(self.kwargs.clone()))
            .map_err(|error| TaskError::new(format!("wrong named arguments: {error}")))
    }
}
