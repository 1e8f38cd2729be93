//! `carrot-actors`: the service in the foreground.

use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;

use crossbeam_channel::{Receiver, unbounded};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use super::args::ServiceArgs;
use super::{Exit, Failure};
use crate::config::Config;
use crate::logging::{self, LogFile};
use crate::service::{Ended, Service, Signal};
use crate::task::Registry;
use crate::vitals::Vitals;

/// django-carrot's.
const DEFAULT_LOGFILE: &str = "/var/log/carrot.log";

pub(super) fn run(
    args: &ServiceArgs,
    config: Arc<Config>,
    registry: Registry,
) -> Result<Exit, Failure> {
    let signals = signals().map_err(|error| Failure::new(Exit::Software, error))?;
    let logs = start_logging(args)?;
    let service = Service {
        config,
        registry,
        scheduler: !args.no_scheduler,
        until_idle: args.testmode,
        announce: Arc::new(|line| {
            log::info!("{line}");
            let mut out = std::io::stdout();
            // A closed standard output is no reason to stop.
            writeln!(out, "{line}")
                .and_then(|()| out.flush())
                .unwrap_or_default();
        }),
        logs,
        vitals: Vitals::new(),
    };
    match service.run(&signals)? {
        Ended::Drained => Ok(Exit::Ok),
        Ended::Halted => Ok(Exit::Halted),
    }
}

/// Starts logging; returns where to, for the user.
fn start_logging(args: &ServiceArgs) -> Result<String, Failure> {
    let path = args
        .logfile
        .clone()
        .unwrap_or_else(|| PathBuf::from(DEFAULT_LOGFILE));
    let failed = match LogFile::open(&path) {
        Ok(file) => {
            logging::start(args.loglevel(), Some(file));
            return Ok(path.display().to_string());
        }
        Err(error) => format!("the log file {} can't be written: {error}", path.display()),
    };
    if args.logfile.is_some() {
        let remedy = format!("{failed}; give --logfile one that can");
        return Err(Failure::new(Exit::CantCreate, remedy));
    }
    logging::start(args.loglevel(), None);
    log::warn!("{failed}; logging to the terminal alone, see --logfile");
    Ok("the terminal".to_owned())
}

/// SIGINT and SIGTERM as the service understands them.
fn signals() -> std::io::Result<Receiver<Signal>> {
    let (sender, receiver) = unbounded();
    let mut signals = Signals::new([SIGINT, SIGTERM])?;
    std::thread::Builder::new()
        .name("signal-hook".to_owned())
        .spawn(move || {
            for _ in signals.forever() {
                if sender.send(Signal::Stop).is_err() {
                    return;
                }
            }
        })?;
    Ok(receiver)
}
