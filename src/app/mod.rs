//! The app: tasks and what they share, as a binary that is the service.

use std::convert::Infallible;
use std::error::Error;
use std::process::ExitCode;
use std::sync::Arc;

use crate::cli;
use crate::client::{Client, OfService};
use crate::config::Config;
use crate::message::Arguments;
use crate::service::ServiceError;
use crate::task::{DuplicateTask, Middleware, OnFailure, Registry, Task, TaskContext, TaskError};
use crate::testing::{TestApp, TestError};

/// Tasks and what they share; [`App::run`] makes the binary a service with the whole command line.
///
/// ```no_run
/// use std::process::ExitCode;
/// use carrot_actors::{App, Args, Kwargs, TaskContext, TaskError};
///
/// #[derive(serde::Deserialize)]
/// struct Size {
///     width: u32,
/// }
///
/// fn resize(
///     Args((path,)): Args<(String,)>,
///     Kwargs(size): Kwargs<Size>,
///     context: TaskContext,
/// ) -> Result<String, TaskError> {
///     log::info!("attempt {}", context.attempt);
///     Ok(format!("{path} at {}", size.width))
/// }
///
/// async fn fetch(Args((url,)): Args<(String,)>) -> Result<usize, std::io::Error> {
///     Ok(url.len())
/// }
///
/// fn main() -> ExitCode {
///     App::new()
///         .task("images.resize", resize)
///         .task("pages.fetch", fetch)
///         .run()
/// }
/// ```
#[derive(Default)]
#[must_use = "an app does nothing until it is run"]
pub struct App {
    registry: Registry,
    fault: Option<DuplicateTask>,
}

impl App {
    /// An app without tasks, which still runs the commands of its configuration.
    pub fn new() -> Self {
        Self::default()
    }

    /// With a function as a task: sync, or async. Its arguments are taken from the message; a panic in
    /// it is a FAILED message, as is an error that it returns.
    ///
    /// An app that has the name already says so when it is run, and does not start.
    pub fn task<Kind>(mut self, name: impl Into<String>, task: impl Task<Kind>) -> Self {
        let registered = self.registry.register_function(name, task);
        self.fault = self.fault.or(registered.err());
        self
    }

    /// With a value that tasks share: those that ask for [`State<T>`](crate::State) get it.
    ///
    /// `daemon start` forks, and no thread of before is left then: what has threads, as most pools of
    /// connections do, is to be made [when the service starts](Self::state_with).
    pub fn state<T: Send + Sync + 'static>(mut self, state: T) -> Self {
        self.registry.share(Arc::new(state));
        self
    }

    /// With a value that tasks share, and that is made when the service starts. A service whose state
    /// can't be made says why, and ends.
    ///
    /// ```
    /// # use carrot_actors::App;
    /// # struct Pool; impl Pool { fn open(_: &str) -> Result<Self, std::io::Error> { Ok(Self) } }
    /// let app = App::new().state_with(|_config| Pool::open("…"));
    /// ```
    pub fn state_with<T: Send + Sync + 'static, E: Into<Box<dyn Error + Send + Sync>>>(
        mut self,
        make: impl Fn(&Arc<Config>) -> Result<T, E> + Send + Sync + 'static,
    ) -> Self {
        self.registry.share_made(make);
        self
    }

    /// With something that is done around every task, inside of those that the app was given before.
    pub fn middleware(mut self, middleware: impl Middleware) -> Self {
        self.registry.surround(middleware);
        self
    }

    /// With a function that is called when a message is FAILED, as [`Middleware::on_failure`] is.
    ///
    /// ```
    /// # use carrot_actors::App;
    /// let app = App::new().on_failure(|context, _arguments, error| {
    ///     log::error!("page somebody: {} {}: {}", context.task, context.uuid, error.exception);
    /// });
    /// ```
    pub fn on_failure(
        self,
        told: impl Fn(&TaskContext, &Arguments, &TaskError) + Send + Sync + 'static,
    ) -> Self {
        self.middleware(OnFailure(told))
    }

    /// Runs the command line: the service, its daemon, and all else that `--help` names. The whole of
    /// a `main`.
    ///
    /// `daemon start` forks: call this before any thread is started.
    #[must_use]
    pub fn run(self) -> ExitCode {
        cli::main_with(self.into_registry())
    }

    /// The tasks and what they share, for a service without the command line.
    ///
    /// # Errors
    /// When a name is taken twice, or a task asks for what it is not given.
    pub fn into_registry(self) -> Result<Registry, ServiceError> {
        self.with_client(|config| Client::lazy(Arc::clone(config)))
    }

    /// The app as a test runs it: in its own process, without a broker. See [`testing`](crate::testing).
    ///
    /// # Errors
    /// When the app is at fault, or there is no place for its database.
    pub fn test(self) -> Result<TestApp, TestError> {
        TestApp::of(|client| self.with_client(move |_| client.clone()))
    }

    /// The same on the database that `config` names, which must be migrated and this test's own: for
    /// transactions on PostgreSQL and MySQL.
    ///
    /// # Errors
    /// When the app is at fault, or the database.
    pub fn test_with(self, config: Config) -> Result<TestApp, TestError> {
        let tasks = |client: Client| self.with_client(move |_| client.clone());
        TestApp::with(tasks, config, None)
    }

    fn with_client(
        mut self,
        client: impl Fn(&Arc<Config>) -> Client + Send + Sync + 'static,
    ) -> Result<Registry, ServiceError> {
        if let Some(fault) = self.fault {
            return Err(fault.into());
        }
        self.registry
            .share_made(move |config| Ok::<_, Infallible>(OfService(client(config))));
        self.registry.check()?;
        Ok(self.registry)
    }
}
