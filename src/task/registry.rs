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
    /// The commands that have no runner until [`start_runners`](Self::start_runners).
    commands: HashMap<String, CommandConfig>,
    /// The states that tasks need, each with the task's name.
    needs: Vec<(String, Need)>,
    middleware: Vec<Arc<dyn Middleware>>,
    state_factories: StateFactories,
    states: Arc<States>,
}

/// Two tasks have the same name.
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

    /// Registers a function whose parameters are taken from the message.
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

    /// Registers a function that takes the context and all arguments.
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

    /// Starts the command runners. Call it once, before any message is run. It forks, so the process must
    /// not have other threads, or sockets that the child would inherit.
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

    /// Ends the runs that are still under way. Nothing may be run afterwards.
    pub(crate) fn shut_down(&self) {
        for runner in self.runners.values() {
            runner.shut_down();
        }
    }

    /// Wraps all tasks in `middleware`, inside the middleware that was added before.
    pub fn add_middleware(&mut self, middleware: impl Middleware) {
        self.middleware.push(Arc::new(middleware));
    }

    pub(crate) fn middleware(&self) -> &[Arc<dyn Middleware>] {
        &self.middleware
    }

    /// Adds a value that tasks share as [`State`](super::State).
    pub fn add_state<T: Send + Sync + 'static>(&mut self, state: Arc<T>) {
        self.state_factories.share(state);
    }

    /// Adds a shared value that is made when the service starts.
    pub fn add_state_with<T: Send + Sync + 'static, E: Into<Box<dyn Error + Send + Sync>>>(
        &mut self,
        make: impl Fn(&Arc<Config>) -> Result<T, E> + Send + Sync + 'static,
    ) {
        self.state_factories.add(make);
    }

    /// Checks that each state that a task needs exists, and that there is one of each type.
    ///
    /// # Errors
    /// When a state is missing, or two have the same type.
    pub fn check_states(&self) -> Result<(), StateError> {
        let needs = self.needs.iter();
        self.state_factories
            .check(needs.map(|(task, need)| (task, need)))
    }

    /// Makes the states that tasks share. Call it once, before any message is run.
    ///
    /// # Errors
    /// When [`check_states`](Self::check_states) fails, or a state can't be made.
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

    /// Returns the name if no task has it.
    fn unused(&self, name: String) -> Result<String, DuplicateTask> {
        if self.runners.contains_key(&name) || self.commands.contains_key(&name) {
            return Err(DuplicateTask(name));
        }
        Ok(name)
    }

    /// The runner of the task with this name.
    pub(crate) fn runner(&self, name: &str) -> Option<&Arc<dyn Runner>> {
        self.runners.get(name)
    }

    /// The names of all tasks that have a runner.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.runners.keys().map(String::as_str)
    }
}
