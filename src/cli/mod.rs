//! The command line.

mod args;
mod check;
mod configuration;
mod daemon;
mod exit;
mod failure;
mod output;
mod program;
mod prune;
mod publish;
mod requeue;
mod run;
mod schedule;
mod send;
mod typed;

use std::error::Error;
use std::process::ExitCode;

use clap::{CommandFactory, Parser};

use self::args::{CliCommand, CommandLine};
use self::configuration::{load, load_and_warn};
pub use self::exit::Exit;
use self::failure::{CommandFailure, usage, with_causes};
use self::output::{say, warn};
pub use self::program::AppError;
pub(crate) use self::program::Program;
use crate::config::Config;
use crate::execution;
use crate::names;
use crate::service::ServiceError;
use crate::store::{self, MigrationProgress};
use crate::task::Registry;

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
        .for_each(|name| names::set_program(name));
    execution::outside_runtime(|| run_with(program)).unwrap_or_else(|error| {
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

fn migrate(config: &Config) -> Result<Exit, CommandFailure> {
    let store = store::open_for(config)?;
    let mut steps = 0;
    let mut indexes = 0;
    let mut said = Ok(());
    store.migrate_reporting(&mut |progress| {
        let line = match progress {
            MigrationProgress::Step(step) => {
                steps += 1;
                say(&format!("migrated {step}"))
            }
            MigrationProgress::Index(index) => {
                indexes += 1;
                // The indexes of a step are not printed by themselves.
                match steps {
                    0 => say(&format!("migrated {index}")),
                    _ => Ok(()),
                }
            }
            MigrationProgress::Note(note) => {
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

/// Prints the error and its causes on standard error.
fn report(error: &dyn Error) {
    warn(&with_causes(error));
}
