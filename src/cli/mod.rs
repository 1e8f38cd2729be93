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

use self::args::{Args, Command};
pub use self::exit::Exit;
use crate::config::{Config, ConfigError, Defaults, Environment, Origin};
use crate::execution;
use crate::logging::LogLevel;
use crate::names;
use crate::schedule::Schedule;
use crate::service::ServiceError;
use crate::store::{self, Progress};
use crate::task::Registry;

/// What a binary brings along: what its service is made of, and what holds where the user says nothing.
#[derive(Default)]
pub(crate) struct Program {
    /// Its tasks, and what they share.
    pub(crate) registry: Registry,
    /// What it adds to the database's schedules.
    pub(crate) schedules: Vec<Schedule>,
    /// The configuration below the file.
    pub(crate) defaults: Defaults,
    /// How much the service logs to the terminal, if that is all that it logs to in the foreground.
    pub(crate) terminal: Option<LogLevel>,
}

/// What is wrong with a binary, whatever its user types.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AppError {
    /// Its tasks, what they share, or its schedules.
    #[error(transparent)]
    Service(#[from] ServiceError),
    /// Its defaults.
    #[error(transparent)]
    Defaults(#[from] ConfigError),
}

/// Why a command failed: its exit code, and the error for the user.
#[derive(Debug)]
struct Failure {
    exit: Exit,
    error: Box<dyn Error>,
}

impl Failure {
    fn new(exit: Exit, error: impl Into<Box<dyn Error>>) -> Self {
        Self {
            exit,
            error: error.into(),
        }
    }
}

/// The command line as clap has it: for man pages and completions, under a name of your own if your
/// binary has one.
#[must_use]
pub fn command() -> clap::Command {
    Args::command()
}

/// RunStore the command line with these tasks registered: the whole of a service's `main`.
///
/// `daemon start` forks, and keeps no thread and no open file but its own: call this before any thread
/// is started, and open what the tasks need in the tasks.
#[doc(hidden)]
#[must_use]
pub fn main(registry: Registry) -> ExitCode {
    main_with(Ok(Program {
        registry,
        ..Program::default()
    }))
}

/// The same for a program that may be at fault, which is said whatever the user typed; and that may have
/// a runtime of its own, in which the service's can't be started.
pub(crate) fn main_with(program: Result<Program, AppError>) -> ExitCode {
    std::env::args_os()
        .next()
        .iter()
        .for_each(|name| names::set_program(name));
    execution::outside_runtime(|| run_with(program)).unwrap_or_else(|error| {
        report(&error);
        ExitCode::from(Exit::Software)
    })
}

fn run_with(program: Result<Program, AppError>) -> ExitCode {
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(error) => {
            let asked_for = !error.use_stderr();
            // Nobody is left to tell if the terminal is gone.
            error.print().unwrap_or_default();
            return ExitCode::from(if asked_for { Exit::Ok } else { Exit::Usage });
        }
    };
    let dispatched = program.map_err(Failure::from).and_then(|program| {
        program
            .registry
            .check_states()
            .map_err(ServiceError::from)?;
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

fn dispatch(args: Args, program: Program) -> Result<Exit, Failure> {
    let Args {
        config: file,
        service,
        command,
    } = args;
    let is_service = matches!(command, None | Some(Command::Daemon(_)));
    if let Some(option) = service.misplaced().filter(|_| !is_service) {
        let wrong = format!("{option} is for the service and for `daemon`, and says nothing here");
        return usage(&wrong);
    }
    let config = || load_and_warn(file.as_deref(), &program.defaults);
    match command {
        None => {
            service.fault().map_or(Ok(()), usage)?;
            // Its log has the warnings.
            let config = load(file.as_deref(), &program.defaults)?;
            run::run(&service, config, program)
        }
        Some(Command::Daemon(args)) => daemon::daemon(args, service, file.as_deref(), program),
        Some(Command::Check) => Ok(check::check(config())),
        Some(Command::Send(args)) => send::send(&args, config()?),
        Some(Command::Schedule(args)) => schedule::schedule(&args, config()?),
        Some(Command::Requeue(args)) => requeue::requeue(&args, config()?),
        Some(Command::Prune(args)) => prune::prune(&args, &*config()?),
        Some(Command::Migrate) => migrate(&*config()?),
    }
}

/// The command line is wrong.
fn usage<T>(wrong: &str) -> Result<T, Failure> {
    Err(Failure::new(Exit::Usage, wrong.to_owned()))
}

/// The configuration. What is good for now, and not for long, is said.
fn load_and_warn(file: Option<&Path>, defaults: &Defaults) -> Result<Arc<Config>, Failure> {
    read_and_warn(&origin(file)?, defaults)
}

fn read_and_warn(origin: &Origin, defaults: &Defaults) -> Result<Arc<Config>, Failure> {
    let config = read(origin, defaults)?;
    for warning in &config.warnings {
        warn(&warning.to_string());
    }
    Ok(config)
}

fn load(file: Option<&Path>, defaults: &Defaults) -> Result<Arc<Config>, Failure> {
    read(&origin(file)?, defaults)
}

/// What the configuration is read from.
fn origin(file: Option<&Path>) -> Result<Origin, Failure> {
    let directory = std::env::current_dir().map_err(|error| {
        Failure::new(
            Exit::NoInput,
            format!("the current directory is gone: {error}"),
        )
    })?;
    Origin::find(file, &Environment::from_process(), &directory)
        .map_err(|error| Failure::new(Exit::Config, error))
}

fn read(origin: &Origin, defaults: &Defaults) -> Result<Arc<Config>, Failure> {
    Config::of_origin(origin, defaults, &Environment::from_process())
        .map(Arc::new)
        .map_err(|error| Failure::new(Exit::Config, error))
}

fn migrate(config: &Config) -> Result<Exit, Failure> {
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
                // A step's index is part of it.
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

/// A line on standard output.
fn say(line: &str) -> Result<(), Failure> {
    writeln!(std::io::stdout(), "{line}").map_err(|error| Failure::new(Exit::Io, error))
}

/// The error and its causes on standard error.
fn report(error: &dyn Error) {
    warn(&told(error));
}

/// The error and its causes.
fn told(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        // Many errors quote their cause already.
        if !text.ends_with(&error.to_string()) {
            text.push_str(&format!(": {error}"));
        }
        cause = error.source();
    }
    text
}

/// A line on standard error, if anybody still reads it, with the program's name as it was typed.
fn warn(line: &str) {
    writeln!(std::io::stderr(), "{}: {line}", names::program()).unwrap_or_default();
}
