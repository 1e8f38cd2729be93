//! The service in the foreground, and what it has in common with a daemon.

use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crossbeam_channel::{Receiver, unbounded};
use fork::ensure_waitable_children;
use nix::sys::signal::{SigSet, Signal as Number};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use super::args::{self, ServiceArgs};
use super::{Exit, Failure, Program};
use crate::config::Config;
use crate::health::service_status::ServiceStatus;
use crate::logging::{self, LogFile};
use crate::process::init;
use crate::process::privileges::Identity;
use crate::service::notifier;
use crate::service::{Ended, Service, ServiceError, Signal};
use crate::store::WorkerId;

/// django-carrot's.
const DEFAULT_LOGFILE: &str = "/var/log/carrot.log";

/// What there is to log to without a file.
const TERMINAL: &str = "the terminal";

/// RunStore the service in the foreground.
pub(super) fn run(
    args: &ServiceArgs,
    config: Arc<Config>,
    program: Program,
) -> Result<Exit, Failure> {
    // Before there is a thread or an open file of ours.
    let split = init::split();
    let args = &args.over_terminal(program.terminal);
    let path = logfile(args);
    let identity = identity(args)?;
    let opened = if is_terminal(&path) {
        Ok(None)
    } else {
        open_log(&path, identity.as_ref()).map(Some)
    };
    let (log, name, fault) = match opened {
        Ok(None) => (None, TERMINAL.to_owned(), None),
        Ok(log) => (log, path.display().to_string(), None),
        Err(error) if args.logfile.is_some() => return Err(not_writable(&path, &error)),
        Err(error) => (None, TERMINAL.to_owned(), Some(error)),
    };
    start_logging(args, identity.as_ref(), log)?;
    if let Some(error) = fault {
        let path = path.display();
        log::warn!(
            "the log file {path} can't be written: {error}; logging to the terminal alone, see --logfile"
        );
    }
    if let Err(unreaped) = split {
        log::warn!("{unreaped}");
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
    Ok(in_order_or_not(ran?))
}

/// RunStore the service, which has had these workers in the same process before.
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
    // Who sees the log sees it there.
    let is_seen = std::io::stdout().is_terminal()
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
            if is_seen {
                return;
            }
            let mut out = std::io::stdout();
            // A closed standard output is no reason to stop.
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

/// Says how the service has ended.
pub(super) fn in_order_or_not(ended: Ended) -> Exit {
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

/// The user that the service is to be, if that is another.
pub(super) fn identity(args: &ServiceArgs) -> Result<Option<Identity>, Failure> {
    let of = |user| Identity::of(user, args.group.as_deref());
    Ok(args.user.as_deref().map(of).transpose()?)
}

/// Starts logging, as that user from now on if there is one.
pub(super) fn start_logging(
    args: &ServiceArgs,
    identity: Option<&Identity>,
    log: Option<LogFile>,
) -> Result<(), Failure> {
    identity.map_or(Ok(()), Identity::assume)?;
    logging::start(args.loglevel(), log).map_err(|error| Failure::new(Exit::Config, error))?;
    if let Some(identity) = identity {
        log::info!("running as {} from now on", identity.describe());
        logging::rehearse_reopening();
    }
    Ok(())
}

/// Opens the log file, as that user's if there is one.
pub(super) fn open_log(path: &Path, identity: Option<&Identity>) -> std::io::Result<LogFile> {
    identity.map_or_else(
        || LogFile::open(path),
        |identity| LogFile::open_for(identity, path),
    )
}

/// The system refused something.
pub(super) fn system(error: std::io::Error) -> Failure {
    Failure::new(Exit::Software, error)
}

/// The log file's path, as given or by default.
pub(super) fn logfile(args: &ServiceArgs) -> PathBuf {
    args.logfile
        .clone()
        .unwrap_or_else(|| PathBuf::from(DEFAULT_LOGFILE))
}

/// Whether standard error is to be the only log.
pub(super) fn is_terminal(logfile: &Path) -> bool {
    logfile == Path::new(args::TERMINAL)
}

/// The log file can't be written.
pub(super) fn not_writable(path: &Path, error: &std::io::Error) -> Failure {
    let path = path.display();
    let remedy =
        format!("the log file {path} can't be written: {error}; give --logfile one that can");
    Failure::new(Exit::CantCreate, remedy)
}

/// SIGINT and SIGTERM as the service understands them; SIGHUP is for the log alone.
pub(super) fn signals() -> std::io::Result<Receiver<Signal>> {
    let (sender, receiver) = unbounded();
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP])?;
    // One that has come already is heard now.
    hear_signals()?;
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

/// Hears of signals that whoever started this process has turned off, which is inherited. To be called
/// before there are other threads, which inherit it from this one.
fn hear_signals() -> std::io::Result<()> {
    // Ignored, it would leave no command's exit status to ask for.
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
