//! The tasks of a service, by name, and the states and middleware that they share.

use std::collections::HashMap;
use std::error::Error;
use std::future::Future;
use std::io;
use std::sync::Arc;

use super::command::CommandRunner;
use super::function::{FunctionRunner, block_on_local};
use super::guard::Guard;
use super::states::StateFactories;
use super::{
    Middleware, Need, Runner, StateError, States, Task, TaskContext, TaskFunction, TaskResult,
};

use crate::config::{CommandConfig, Config};
use crate::message::Arguments;

/// The tasks of a service, by name.
#[doc(hidden)]
#[derive(Clone, Default)]
pub struct Registry {
    runners: HashMap<String, Arc<dyn Runner>>,
    /// Those that have no runner before [`start_runners`](Self::start_runners).
    commands: HashMap<String, CommandConfig>,
    /// What tasks need, by their names.
    needs: Vec<(String, Need)>,
    middleware: Vec<Arc<dyn Middleware>>,
    state_factories: StateFactories,
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
        let TaskFunction { runner, needs } = task.into_function();
        self.add(name.clone(), runner)?;
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
        self.add(name.into(), FunctionRunner::runner(task))
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
        let call = move |context: &TaskContext, arguments| {
            block_on_local(|| task(context.clone(), arguments))
        };
        self.add(name.into(), FunctionRunner::runner(call))
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
        let name = self.unused(name.into())?;
        self.commands.insert(name, command);
        Ok(())
    }

    /// Starts what runs the commands: to be called once, before any message is run. It forks, so that there
    /// must be neither a thread nor a socket that the fork could inherit.
    ///
    /// # Errors
    /// When the system has no pipe or no process left.
    pub fn start_runners(&mut self) -> io::Result<()> {
        if self.commands.is_empty() {
            return Ok(());
        }
        let guard = Arc::new(Guard::start()?);
        for (name, config) in self.commands.drain() {
            let runner = CommandRunner::new(config, Arc::clone(&guard));
            self.runners.insert(name, Arc::new(runner));
        }
        Ok(())
    }

    /// Ends what the runners still have under way: nothing is run any more.
    pub(crate) fn shut_down(&self) {
        for runner in self.runners.values() {
            runner.shut_down();
        }
    }

    /// Has something done around all tasks, inside of what is done around them already.
    pub fn add_middleware(&mut self, middleware: impl Middleware) {
        self.middleware.push(Arc::new(middleware));
    }

    pub(crate) fn middleware(&self) -> &[Arc<dyn Middleware>] {
        &self.middleware
    }

    /// Has tasks share a value, as [`State`].
    pub fn add_state<T: Send + Sync + 'static>(&mut self, state: Arc<T>) {
        self.state_factories.share(state);
    }

    /// Has tasks share a value that is made when the service starts.
    pub fn add_state_with<T: Send + Sync + 'static, E: Into<Box<dyn Error + Send + Sync>>>(
        &mut self,
        make: impl Fn(&Arc<Config>) -> Result<T, E> + Send + Sync + 'static,
    ) {
        self.state_factories.add(make);
    }

    /// Whether the tasks have what they share.
    ///
    /// # Errors
    /// When a task asks for what is not there, or there are two of a type.
    pub fn check_states(&self) -> Result<(), StateError> {
        let needs = self.needs.iter();
        self.state_factories
            .check(needs.map(|(task, need)| (task, need)))
    }

    /// Makes what the tasks share: to be called once, before any is run.
    ///
    /// # Errors
    /// When a task asks for what is not there, or something can't be made.
    pub fn make_states(&mut self, config: &Arc<Config>) -> Result<(), StateError> {
        self.check_states()?;
        self.states = Arc::new(self.state_factories.make(config)?);
        Ok(())
    }

    pub(crate) const fn states(&self) -> &Arc<States> {
        &self.states
    }

    fn add(&mut self, name: String, runner: Arc<dyn Runner>) -> Result<(), DuplicateTask> {
        let name = self.unused(name)?;
        self.runners.insert(name, runner);
        Ok(())
    }

    /// The name, if no task has it.
    fn unused(&self, name: String) -> Result<String, DuplicateTask> {
        if self.runners.contains_key(&name) || self.commands.contains_key(&name) {
            return Err(DuplicateTask(name));
        }
        Ok(name)
    }

    /// What runs the task of that name.
    pub(crate) fn runner(&self, name: &str) -> Option<&Arc<dyn Runner>> {
        self.runners.get(name)
    }

    /// The names of all tasks that have a runner.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.runners.keys().map(String::as_str)
    }
}
