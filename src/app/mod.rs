//! The app: tasks, their shared state and schedules, as a binary that is the service.

use std::convert::Infallible;
use std::error::Error;
use std::process::ExitCode;
use std::sync::Arc;

pub use crate::cli::AppError;
use crate::cli::{self, Program};
use crate::client::{Client, ServiceClient};
use crate::config::{Config, ConfigError, Defaults};
use crate::logging::LogLevel;
use crate::message::Arguments;
use crate::schedule::Schedule;
use crate::service::ServiceError;
use crate::task::{Middleware, OnFailure, Registry, Task, TaskContext, TaskError};
use crate::testing::{TestApp, TestError};

/// Tasks, their shared state and schedules. [`App::run`] makes the binary a service with the whole command line.
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
    /// The first error of its builder methods.
    fault: Option<AppError>,
}

impl App {
    /// An app without tasks. It still runs tasks that the configuration defines as commands.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a task: a sync or async function. Its arguments are taken from the message. A panic, or an error that it
    /// returns, makes the message FAILED.
    ///
    /// An app with two tasks of the same name reports that when it is run, and does not start.
    pub fn task<Kind>(mut self, name: impl Into<String>, task: impl Task<Kind>) -> Self {
        let registered = self.program.registry.register_function(name, task);
        self.keep_fault(registered.map_err(ServiceError::from))
    }

    /// Adds a value that tasks share: a task with an argument [`State<T>`](crate::State) gets it.
    ///
    /// `daemon start` forks, and the child has none of the earlier threads. So make a value that has threads, as most
    /// connection pools do, [when the service starts](Self::state_with).
    pub fn state<T: Send + Sync + 'static>(mut self, state: T) -> Self {
        self.program.registry.add_state(Arc::new(state));
        self
    }

    /// Adds a value that tasks share and that is made when the service starts. If `make` fails, the service reports
    /// why, and ends.
    ///
    /// ```
    /// # use carrot_actors::App;
    /// # struct Pool; impl Pool { fn open(_: &str) -> Result<Self, std::io::Error> { Ok(Self) } }
    /// let app = App::new().state_with(|_config| Pool::open("…"));
    /// ```
    ///
    /// `make` is called in the [runtime](crate#async-tasks) of the service's tasks, so that async tasks can share the
    /// value:
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

    /// Adds a middleware that wraps every task. It is inside the middlewares that were added before.
    pub fn middleware(mut self, middleware: impl Middleware) -> Self {
        self.program.registry.add_middleware(middleware);
        self
    }

    /// Adds a function that is called when a message becomes FAILED, as [`Middleware::on_failure`] is.
    ///
    /// ```
    /// # use carrot_actors::App;
    /// let app = App::new().on_failure(|context, _arguments, error| {
    ///     log::error!("page somebody: {} {}: {}", context.task, context.uuid, error.exception);
    /// });
    /// ```
    pub fn on_failure(
        self,
        handler: impl Fn(&TaskContext, &Arguments, &TaskError) + Send + Sync + 'static,
    ) -> Self {
        self.middleware(OnFailure(handler))
    }

    /// Adds a schedule, which a service saves when it starts, unless there is one of that name. From then on it is an
    /// ordinary row: `schedule edit` changes it for good, and `schedule disable` ends it. A schedule that is removed
    /// or renamed comes back with the next start. If the app's schedule changes, the saved one stays as it is, and
    /// the log says so.
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
            Err(schedule.declared_twice())
        } else {
            // The default queue is not known yet.
            schedule.spec(&Config::default()).map(drop)
        };
        self.program.schedules.push(schedule);
        self.keep_fault(checked.map_err(ServiceError::from))
    }

    /// Sets defaults for the configuration: the text of a `carrot.toml`, whose keys count if neither the user's file
    /// nor the environment sets them. Relative paths are relative to the directory of the user's file, or to the
    /// current directory.
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
            Err(fault) => self.keep_fault(Err(fault)),
        }
    }

    /// Makes a service in the foreground log to the terminal alone, at this level, unless `--logfile` and `--loglevel`
    /// say otherwise. A daemon still has a log file.
    pub const fn log_to_terminal(mut self, level: LogLevel) -> Self {
        self.program.terminal = Some(level);
        self
    }

    /// The configuration that the app runs with if there is no `--config`: for a [`Client`] of the
    /// same program.
    ///
    /// # Errors
    /// Those of [`Config::load`].
    pub fn config(&self) -> Result<Config, ConfigError> {
        Config::of_process_over(&self.program.defaults)
    }

    /// Runs the command line: the service, its daemon, and every other command of `--help`. This is the whole `main`
    /// of a program.
    ///
    /// `daemon start` and `daemon restart` fork, so they refuse to run if the program has other threads already, as
    /// under `#[tokio::main]`. Everything else works there too: the service then runs on a thread of its own, while
    /// this one waits. A program that has [set a logger](crate#logging) can't run the service.
    #[must_use]
    pub fn run(self) -> ExitCode {
        cli::main_with(self.with_client(|config| Client::lazy(Arc::clone(config))))
    }

    /// The tasks and their shared state, for a service without the command line.
    ///
    /// # Errors
    /// When two tasks have the same name, or a task needs a state that is missing.
    #[doc(hidden)]
    pub fn into_registry(self) -> Result<Registry, AppError> {
        let program = self.with_client(|config| Client::lazy(Arc::clone(config)))?;
        Ok(program.registry)
    }

    /// The app for a test: in the test's process, without a broker, in a `#[tokio::test]` or not. See
    /// [`testing`](crate::testing).
    ///
    /// # Errors
    /// When the app is invalid, or no directory can be made for its database.
    pub fn test(self) -> Result<TestApp, TestError> {
        let defaults = self.program.defaults.clone();
        TestApp::of(|client| self.test_registry(client), &defaults)
    }

    /// The app for a test on the database that `config` names, for transactions on PostgreSQL and MySQL. The database
    /// must be migrated, and no other test may use it.
    ///
    /// # Errors
    /// When the app is invalid, or the database can't be used.
    pub fn test_with(self, config: Config) -> Result<TestApp, TestError> {
        TestApp::with(|client| self.test_registry(client), config, None)
    }

    fn test_registry(self, client: Client) -> Result<Registry, TestError> {
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

    /// Keeps the first error, which is reported when the app is run.
    fn keep_fault(mut self, result: Result<(), impl Into<AppError>>) -> Self {
        self.fault = self.fault.or(result.map_err(Into::into).err());
        self
    }
}
