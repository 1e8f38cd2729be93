//! The app: tasks and what they share, as a binary that is the service.

use std::convert::Infallible;
use std::error::Error;
use std::process::ExitCode;
use std::sync::Arc;

use crate::cli::{self, AppError, Program};
use crate::client::{Client, ServiceClient};
use crate::config::{Config, ConfigError, Defaults};
use crate::logging::LogLevel;
use crate::message::Arguments;
use crate::schedule::Schedule;
use crate::service::ServiceError;
use crate::task::{Middleware, OnFailure, Registry, Task, TaskContext, TaskError};
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
    program: Program,
    /// The first thing that was wrong.
    fault: Option<AppError>,
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
        let registered = self.program.registry.register_function(name, task);
        self.notes(registered.map_err(ServiceError::from))
    }

    /// With a value that tasks share: those that ask for [`State<T>`](crate::State) get it.
    ///
    /// `daemon start` forks, and no thread of before is left then: what has threads, as most pools of
    /// connections do, is to be made [when the service starts](Self::state_with).
    pub fn state<T: Send + Sync + 'static>(mut self, state: T) -> Self {
        self.program.registry.add_state(Arc::new(state));
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
    ///
    /// It is made in the [runtime](crate#async-tasks) of the service's tasks, as what async code shares must be:
    ///
    /// ```
    /// # use carrot_actors::App;
    /// # struct Pool;
    /// # impl Pool { async fn connect(_: &str) -> Result<Self, std::io::Error> { Ok(Self) } }
    /// use tokio::runtime::Handle;
    ///
    /// let app = App::new().state_with(|_config| Handle::current().block_on(Pool::connect("…")));
    /// ```
    pub fn state_with<T: Send + Sync + 'static, E: Into<Box<dyn Error + Send + Sync>>>(
        mut self,
        make: impl Fn(&Arc<Config>) -> Result<T, E> + Send + Sync + 'static,
    ) -> Self {
        self.program.registry.add_state_with(make);
        self
    }

    /// With something that wraps every task, inside of those that the app was given before.
    pub fn middleware(mut self, middleware: impl Middleware) -> Self {
        self.program.registry.add_middleware(middleware);
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

    /// With a schedule, which a service adds when it starts, unless there is one of that name. From then on
    /// it is a row as any other: `schedule edit` changes it for good, and `schedule disable` ends it. One that
    /// is removed or renamed comes back with the next start; one that is changed here alone stays as it
    /// is there, and the log says so.
    ///
    /// ```
    /// use carrot_actors::{App, Schedule, TaskError};
    ///
    /// let app = App::new()
    ///     .task("mail.poll", || Ok::<_, TaskError>(()))
    ///     .schedule(Schedule::new("poll", "mail.poll").every("5m"));
    /// ```
    pub fn schedule(mut self, schedule: Schedule) -> Self {
        let mut others = self.program.schedules.iter();
        let checked = if others.any(|other| other.name() == schedule.name()) {
            Err(schedule.is_there_already())
        } else {
            // Its queue may be known later.
            schedule.spec(&Config::default()).map(drop)
        };
        self.program.schedules.push(schedule);
        self.notes(checked.map_err(ServiceError::from))
    }

    /// With a configuration of its own below its user's: the text of a `carrot.toml`, whose keys count
    /// where the user's file has none of that name, and the environment none. Relative paths are taken
    /// from the user's file, or the current directory.
    ///
    /// ```
    /// # use carrot_actors::App;
    /// let app = App::new().defaults(
    ///     r#"
    ///     default_broker = "embedded"
    ///     database_url = "sqlite://thumbnails.db"
    ///
    ///     [[queues]]
    ///     name = "images"
    ///     concurrency = 4
    ///     "#,
    /// );
    /// ```
    pub fn defaults(mut self, toml: &str) -> Self {
        match Defaults::read(toml) {
            Ok(defaults) => {
                self.program.defaults = defaults;
                self
            }
            Err(fault) => self.notes(Err(fault)),
        }
    }

    /// With a service that logs to the terminal alone while it runs in the foreground, and so much, unless
    /// `--logfile` and `--loglevel` say otherwise. A daemon has its log file all the same.
    pub const fn log_to_terminal(mut self, level: LogLevel) -> Self {
        self.program.terminal = Some(level);
        self
    }

    /// The configuration that the app runs with where no `--config` names another: for a
    /// [`Client`](crate::Client) of the same program.
    ///
    /// # Errors
    /// As [`Config::load`] has them.
    pub fn config(&self) -> Result<Config, ConfigError> {
        Config::of_process_over(&self.program.defaults)
    }

    /// RunStore the command line: the service, its daemon, and all else that `--help` names. The whole of
    /// a `main`.
    ///
    /// `daemon start` and `restart` fork, and are refused if there is a thread already, as under `#[tokio::main]`. All else
    /// works there, too: what would be in the way of that runtime has a thread of its own, while this one
    /// waits. A program that has [set a logger](crate#logging) is no service.
    #[must_use]
    pub fn run(self) -> ExitCode {
        cli::main_with(self.with_client(|config| Client::lazy(Arc::clone(config))))
    }

    /// The tasks and what they share, for a service without the command line.
    ///
    /// # Errors
    /// When a name is taken twice, or a task asks for what it is not given.
    #[doc(hidden)]
    pub fn into_registry(self) -> Result<Registry, AppError> {
        let program = self.with_client(|config| Client::lazy(Arc::clone(config)))?;
        Ok(program.registry)
    }

    /// The app as a test runs it: in its own process, without a broker, in a `#[tokio::test]` or not. See
    /// [`testing`](crate::testing).
    ///
    /// # Errors
    /// When the app is at fault, or there is no place for its database.
    pub fn test(self) -> Result<TestApp, TestError> {
        let defaults = self.program.defaults.clone();
        TestApp::of(|client| self.tried_with(client), &defaults)
    }

    /// The same on the database that `config` names, which must be migrated and this test's own: for
    /// transactions on PostgreSQL and MySQL.
    ///
    /// # Errors
    /// When the app is at fault, or the database.
    pub fn test_with(self, config: Config) -> Result<TestApp, TestError> {
        TestApp::with(|client| self.tried_with(client), config, None)
    }

    fn tried_with(self, client: Client) -> Result<Registry, TestError> {
        let program = self.with_client(move |_| client.clone());
        match program {
            Ok(program) => Ok(program.registry),
            Err(AppError::Service(error)) => Err(error.into()),
            Err(AppError::Defaults(error)) => Err(error.into()),
        }
    }

    fn with_client(
        mut self,
        client: impl Fn(&Arc<Config>) -> Client + Send + Sync + 'static,
    ) -> Result<Program, AppError> {
        if let Some(fault) = self.fault {
            return Err(fault);
        }
        self.program
            .registry
            .add_state_with(move |config| Ok::<_, Infallible>(ServiceClient(client(config))));
        self.program
            .registry
            .check_states()
            .map_err(ServiceError::from)?;
        Ok(self.program)
    }

    /// Keeps the first fault, until the app is run.
    fn notes(mut self, told: Result<(), impl Into<AppError>>) -> Self {
        self.fault = self.fault.or(told.map_err(Into::into).err());
        self
    }
}
