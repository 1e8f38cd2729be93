//! The command line.

mod args;
mod check;
mod daemon;
mod exit;
mod prune;
mod publish;
mod requeue;
mod run;
mod schedule;
mod send;
mod typed;

use std::error::Error;
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use clap::{CommandFactory, Parser};

use self::args::{CliCommand, CommandLine};
pub use self::exit::Exit;
use crate::config::{Config, ConfigError, Defaults, Environment, Origin};
use crate::execution;
use crate::logging::LogLevel;
use crate::names;
use crate::schedule::Schedule;
use crate::service::ServiceError;
use crate::store::{self, Progress};
use crate::task::Registry;

/// What a binary provides: the parts of its service, and its defaults.
#[derive(Default)]
pub(crate) struct Program {
    /// Its tasks and their shared state.
    pub(crate) registry: Registry,
    /// The schedules that it adds to the database.
    pub(crate) schedules: Vec<Schedule>,
    /// Its defaults for keys that the configuration file does not set.
    pub(crate) defaults: Defaults,
    /// The log level, if the service logs to the terminal alone while it runs in the foreground.
    pub(crate) terminal: Option<LogLevel>,
}

/// Why an app can't be run, whatever the command line is.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AppError {
    /// Its tasks, their shared state or its schedules are wrong.
    #[error(transparent)]
    Service(#[from] ServiceError),
    /// Its defaults are wrong.
    #[error(transparent)]
    Defaults(#[from] ConfigError),
}

/// Why a command failed: its exit code, and the error for the user.
#[derive(Debug)]
struct CommandFailure {
    exit: Exit,
    error: Box<dyn Error>,
}

impl CommandFailure {
    fn new(exit: Exit, error: impl Into<Box<dyn Error>>) -> Self {
        Self {
            exit,
            error: error.into(),
        }
    }
}

/// The command line as clap's type, from which man pages and completions are made.
#[must_use]
pub fn command() -> clap::Command {
    CommandLine::command()
}

/// Runs the command line with these tasks: the whole `main` of a service of the tests or the benchmark.
///
/// `daemon start` forks, and the daemon keeps neither threads nor open files of its caller: call this before any
/// thread is started.
#[must_use]
pub fn main(registry: Registry) -> ExitCode {
    main_with(Ok(Program {
        registry,
        ..Program::default()
    }))
}

/// Runs the command line of a program. Reports the program's own error whatever the user typed. The caller may be
/// inside a tokio runtime, in which the service's runtime could not be started.
pub(crate) fn main_with(program: Result<Program, AppError>) -> ExitCode {
    std::env::args_os()
        .next()
        .iter()
        .for_each(|name| names::program_is(name));
    execution::apart(|| run_with(program)).unwrap_or_else(|error| {
        report(&error);
        ExitCode::from(Exit::Software)
    })
}

fn run_with(program: Result<Program, AppError>) -> ExitCode {
    let args = match CommandLine::try_parse() {
        Ok(args) => args,
        Err(error) => {
            let asked_for = !error.use_stderr();
            // If the terminal is closed, nobody can read the message.
            error.print().unwrap_or_default();
            return ExitCode::from(if asked_for { Exit::Ok } else { Exit::Usage });
        }
    };
    let dispatched = program.map_err(CommandFailure::from).and_then(|program| {
        program.registry.check().map_err(ServiceError::from)?;
        dispatch(args, program)
    });
    match dispatched {
        Ok(exit) => ExitCode::from(exit),
        Err(failure) => {
            report(failure.error.as_ref());
            ExitCode::from(failure.exit)
        }
    }
}

fn dispatch(args: CommandLine, program: Program) -> Result<Exit, CommandFailure> {
    let CommandLine {
        config: file,
        service,
        command,
    } = args;
    let is_service = matches!(command, None | Some(CliCommand::Daemon(_)));
    if let Some(option) = service.service_only_option().filter(|_| !is_service) {
        let wrong = format!("{option} is for the service and for `daemon`, not for this command");
        return usage(&wrong);
    }
    let config = || load_and_warn(file.as_deref(), &program.defaults);
    match command {
        None => {
            service.missing_option().map_or(Ok(()), usage)?;
            // The service logs the configuration's warnings itself.
            let config = load(file.as_deref(), &program.defaults)?;
            run::run(&service, config, program)
        }
        Some(CliCommand::Daemon(args)) => daemon::daemon(args, service, file.as_deref(), program),
        Some(CliCommand::Check) => Ok(check::check(config())),
        Some(CliCommand::Send(args)) => send::send(&args, config()?),
        Some(CliCommand::Schedule(args)) => schedule::schedule(&args, config()?),
        Some(CliCommand::Requeue(args)) => requeue::requeue(&args, config()?),
        Some(CliCommand::Prune(args)) => prune::prune(&args, &*config()?),
        Some(CliCommand::Migrate) => migrate(&*config()?),
    }
}

/// The error for a wrong command line.
fn usage<T>(wrong: &str) -> Result<T, CommandFailure> {
    Err(CommandFailure::new(Exit::Usage, wrong.to_owned()))
}

/// Reads the configuration, and prints its warnings.
fn load_and_warn(file: Option<&Path>, defaults: &Defaults) -> Result<Arc<Config>, CommandFailure> {
    read_and_warn(&origin(file)?, defaults)
}

fn read_and_warn(origin: &Origin, defaults: &Defaults) -> Result<Arc<Config>, CommandFailure> {
    let config = read(origin, defaults)?;
    for warning in &config.warnings {
        warn(&warning.to_string());
    }
    Ok(config)
}

fn load(file: Option<&Path>, defaults: &Defaults) -> Result<Arc<Config>, CommandFailure> {
    read(&origin(file)?, defaults)
}

/// Where the configuration is read from.
fn origin(file: Option<&Path>) -> Result<Origin, CommandFailure> {
    let directory = std::env::current_dir().map_err(|error| {
        CommandFailure::new(
            Exit::NoInput,
            format!("the current directory is gone: {error}"),
        )
    })?;
    Origin::find(file, &Environment::from_process(), &directory)
        .map_err(|error| CommandFailure::new(Exit::Config, error))
}

fn read(origin: &Origin, defaults: &Defaults) -> Result<Arc<Config>, CommandFailure> {
    Config::of_origin(origin, defaults, &Environment::from_process())
        .map(Arc::new)
        .map_err(|error| CommandFailure::new(Exit::Config, error))
}

fn migrate(config: &Config) -> Result<Exit, CommandFailure> {
    let store = store::open_for(config)?;
    let mut steps = 0;
    let mut indexes = 0;
    let mut said = Ok(());
    store.migrate_telling(&mut |progress| {
        let line = match progress {
            Progress::Step(step) => {
                steps += 1;
                say(&format!("migrated {step}"))
            }
            Progress::Index(index) => {
                indexes += 1;
                // The indexes of a step are not printed by themselves.
                match steps {
                    0 => say(&format!("migrated {index}")),
                    _ => Ok(()),
                }
            }
            Progress::Note(note) => {
                warn(note);
                Ok(())
            }
        };
        if said.is_ok() {
            said = line;
        }
    })?;
    said?;
    if steps + indexes == 0 {
        say(&format!("{} is up to date", store.describe()))?;
    }
    Ok(Exit::Ok)
}

/// Prints a line on standard output.
fn say(line: &str) -> Result<(), CommandFailure> {
    writeln!(std::io::stdout(), "{line}").map_err(|error| CommandFailure::new(Exit::Io, error))
}

/// Prints the error and its causes on standard error.
fn report(error: &dyn Error) {
    warn(&with_causes(error));
}

/// The error and its causes.
fn with_causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        // Many errors contain the text of their cause already.
        if !text.ends_with(&error.to_string()) {
            text.push_str(&format!(": {error}"));
        }
        cause = error.source();
    }
    text
}

/// Prints a line on standard error, if that is still open, with the program's name as it was typed.
fn warn(line: &str) {
    writeln!(std::io::stderr(), "{}: {line}", names::program()).unwrap_or_default();
}
