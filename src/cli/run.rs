//! Runs the service in the foreground, with functions that a daemon shares.

use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crossbeam_channel::{Receiver, unbounded};
use fork::ensure_waitable_children;
use nix::sys::signal::{SigSet, Signal as Number};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use super::args::{self, ServiceArgs};
use super::exit::Exit;
use super::failure::CommandFailure;
use super::program::Program;
use crate::config::Config;
use crate::health::service_status::ServiceStatus;
use crate::logging::{self, LogFile};
use crate::process::init;
use crate::process::privileges::Identity;
use crate::service::notifier;
use crate::service::{Ended, Service, ServiceError, Signal};
use crate::store::WorkerId;

/// django-carrot's default.
const DEFAULT_LOGFILE: &str = "/var/log/carrot.log";

/// How the last start-up line names the log without a file.
const TERMINAL_NAME: &str = "the terminal";

/// Runs the service in the foreground.
pub(super) fn run(
    args: &ServiceArgs,
    config: Arc<Config>,
    program: Program,
) -> Result<Exit, CommandFailure> {
    // Before this process has a thread or an open file of its own.
    let forked = init::fork_service();
    let args = &args.with_terminal_log(program.terminal);
    let path = logfile(args);
    let identity = identity(args)?;
    let opened = if is_terminal(&path) {
        Ok(None)
    } else {
        open_log(&path, identity.as_ref()).map(Some)
    };
    let (log, name, fault) = match opened {
        Ok(None) => (None, TERMINAL_NAME.to_owned(), None),
        Ok(log) => (log, path.display().to_string(), None),
        Err(error) if args.logfile.is_some() => return Err(not_writable(&path, &error)),
        Err(error) => (None, TERMINAL_NAME.to_owned(), Some(error)),
    };
    start_logging(args, identity.as_ref(), log)?;
    if let Some(error) = fault {
        let path = path.display();
        log::warn!(
            "the log file {path} can't be written: {error}; logging to the terminal alone, see --logfile"
        );
    }
    if let Err(error) = forked {
        log::warn!("{error}");
    }
    let signals = signals().map_err(system)?;
    let service_status = ServiceStatus::new();
    notifier::start(&service_status).map_err(system)?;
    let ran = serve(
        args,
        config,
        program,
        name,
        service_status,
        &signals,
        Vec::new(),
    );
    Ok(log_end(ran?))
}

/// Runs the service; `predecessors` are the workers of earlier runs in this process.
pub(super) fn serve(
    args: &ServiceArgs,
    config: Arc<Config>,
    program: Program,
    logs: String,
    service_status: Arc<ServiceStatus>,
    signals: &Receiver<Signal>,
    predecessors: Vec<WorkerId>,
) -> Result<Ended, ServiceError> {
    for warning in &config.warnings {
        log::warn!("{warning}");
    }
    // If the terminal shows the log, start-up lines need not be printed as well.
    let log_is_visible = std::io::stdout().is_terminal()
        && std::io::stderr().is_terminal()
        && log::log_enabled!(log::Level::Info);
    let service = Service {
        config,
        registry: program.registry,
        schedules: program.schedules,
        scheduler: !args.no_scheduler,
        until_idle: args.testmode,
        announce: Arc::new(move |line| {
            log::info!("{line}");
            if log_is_visible {
                return;
            }
            let mut out = std::io::stdout();
            // A closed standard output does not stop the service.
            writeln!(out, "{line}")
                .and_then(|()| out.flush())
                .unwrap_or_default();
        }),
        logs,
        service_status,
        predecessors,
    };
    service.run(signals)
}

/// Logs how the service has ended.
pub(super) fn log_end(ended: Ended) -> Exit {
    match ended {
        Ended::Drained => {
            log::info!("stopped in order");
            Exit::Ok
        }
        Ended::Halted => {
            log::warn!("stopped hard: what was running is run again");
            Exit::Halted
        }
    }
}

/// The user that the service is going to be, if `--user` is given.
pub(super) fn identity(args: &ServiceArgs) -> Result<Option<Identity>, CommandFailure> {
    let of = |user| Identity::of(user, args.group.as_deref());
    Ok(args.user.as_deref().map(of).transpose()?)
}

/// Becomes that user, if there is one, and starts logging.
pub(super) fn start_logging(
    args: &ServiceArgs,
    identity: Option<&Identity>,
    log: Option<LogFile>,
) -> Result<(), CommandFailure> {
    identity.map_or(Ok(()), Identity::assume)?;
    logging::start(args.loglevel(), log)
        .map_err(|error| CommandFailure::new(Exit::Config, error))?;
    if let Some(identity) = identity {
        log::info!("running as {} from now on", identity.describe());
        logging::check_reopening();
    }
    Ok(())
}

/// Opens the log file, and gives it to that user if there is one.
pub(super) fn open_log(path: &Path, identity: Option<&Identity>) -> std::io::Result<LogFile> {
    identity.map_or_else(
        || LogFile::open(path),
        |identity| LogFile::open_for(identity, path),
    )
}

/// The error for something that the system refused.
pub(super) fn system(error: std::io::Error) -> CommandFailure {
    CommandFailure::new(Exit::Software, error)
}

/// The log file's path, as given or by default.
pub(super) fn logfile(args: &ServiceArgs) -> PathBuf {
    args.logfile
        .clone()
        .unwrap_or_else(|| PathBuf::from(DEFAULT_LOGFILE))
}

/// Whether this value of `--logfile` means standard error alone.
pub(super) fn is_terminal(logfile: &Path) -> bool {
    logfile == Path::new(args::STDERR_NAME)
}

/// The error for a log file that can't be written.
pub(super) fn not_writable(path: &Path, error: &std::io::Error) -> CommandFailure {
    let path = path.display();
    let remedy =
        format!("the log file {path} can't be written: {error}; give --logfile one that can");
    CommandFailure::new(Exit::CantCreate, remedy)
}

/// Receives SIGINT and SIGTERM as signals to stop the service. SIGHUP reopens the log file.
pub(super) fn signals() -> std::io::Result<Receiver<Signal>> {
    let (sender, receiver) = unbounded();
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP])?;
    // A signal that is pending is received now.
    unblock_signals()?;
    std::thread::Builder::new()
        .name("signal-hook".to_owned())
        .spawn(move || {
            for signal in signals.forever() {
                if signal == SIGHUP {
                    logging::reopen();
                } else if sender.send(Signal::Stop).is_err() {
                    return;
                }
            }
        })?;
    Ok(receiver)
}

/// Unblocks signals that our parent had blocked, which is inherited. To be called before there are other threads,
/// which inherit the setting from this one.
fn unblock_signals() -> std::io::Result<()> {
    // If SIGCHLD were ignored, the exit status of commands could not be read.
    ensure_waitable_children()?;
    let heard = [
        Number::SIGINT,
        Number::SIGTERM,
        Number::SIGHUP,
        Number::SIGCHLD,
    ];
    let heard: SigSet = heard.into_iter().collect();
    Ok(heard.thread_unblock()?)
}
