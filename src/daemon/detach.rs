//! Into the background: the service is forked off, and says to the controller how its start went.

use std::io::{self, BufRead, BufReader, PipeReader, PipeWriter, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use fork::{
    CheckedDaemon, ChildSignalState, DaemonNotifier, DaemonOptions, checked_daemon,
    ensure_waitable_children,
};
use rustix::fs::Mode;
use rustix::io::{FdFlags, fcntl_setfd};
use rustix::process::umask;
use serde::{Deserialize, Serialize};
use signal_hook::consts::SIGPIPE;

use super::pidfile::HeldPidfile;
use crate::failpoint;
use crate::health::service_status::StatusReport;
use crate::process::init;

/// A start takes as long as it takes: within seconds the service consumes, or knows what it waits for,
/// or it has failed; unless it has much to do at first, as a migration of a large file. (The days that
/// `poll` can count.)
const START: Duration = Duration::from_hours(24 * 24);

/// What others may do with the files that a daemon makes: read them.
const UMASK: Mode = Mode::from_raw_mode(0o022);

/// A longer text is cut, and more texts are left out: the pipe has to hold them while nobody reads.
const MOST_BYTES: usize = 2 << 10;
const MOST_TEXTS: usize = 3;

/// Why there is no daemon.
#[derive(Debug, thiserror::Error)]
pub enum DetachError {
    /// A fork would leave the other threads behind.
    #[error(
        "the service can't go into the background: this program has {0} threads by now; \
         call `App::run` before any is started; `#[tokio::main]` starts some"
    )]
    Threads(usize),
    /// The system refused something.
    #[error("the service can't go into the background: {0}")]
    System(#[from] io::Error),
}

/// How a start went.
#[derive(Debug, Serialize, Deserialize)]
pub enum StartReport {
    /// The service is up.
    Up {
        /// Its pid.
        pid: u32,
        /// What it waits for, if anything.
        waiting_for: Vec<String>,
    },
    /// It is over already, in order: told to stop, or nothing was left to run.
    Over,
    /// It failed, with this exit code, for this reason.
    Failed(u8, String),
    /// It died without a word.
    Died,
}

/// Who returns from [`detach`].
#[derive(Debug)]
pub enum ForkSide {
    /// The controller, once the start has succeeded or failed.
    Controller(StartReport),
    /// The daemon, which has the pidfile now.
    Daemon(StartReporter, HeldPidfile),
}

/// The daemon's way to say to its controller how the start went: once.
#[derive(Debug)]
pub struct StartReporter(Mutex<Option<(PipeWriter, DaemonNotifier)>>);

/// Whether this process can be forked.
///
/// # Errors
/// When it has threads.
pub fn ensure_single_threaded() -> Result<(), DetachError> {
    match init::threads()? {
        1 => Ok(()),
        more => Err(DetachError::Threads(more)),
    }
}

/// Has the files that this process makes be read by all, and written by their owner, whatever umask its
/// caller has: for a controller, which makes the pidfile, and for the daemon, which inherits it.
pub fn set_umask() {
    umask(UMASK);
}

/// Has this process go on when a connection breaks: by a handler, which what it executes does not inherit, as it
/// would that the signal is ignored. What Rust begins with is undone by [`detach`].
///
/// # Errors
/// When the system refuses it.
pub fn handle_sigpipe() -> io::Result<()> {
    signal_hook::flag::register(SIGPIPE, Arc::default()).map(drop)
}

/// Forks the daemon: in a session of its own, without a terminal, in `/`, with standard streams that
/// lead nowhere, no descriptor but the pidfile's and no signal blocked or ignored.
///
/// # Errors
/// When this process has threads, or the system refuses something.
pub fn detach(held: HeldPidfile) -> Result<ForkSide, DetachError> {
    ensure_single_threaded()?;
    // A caller may have said that it does not want to know of its children; we do.
    ensure_waitable_children()?;
    let (reader, writer) = io::pipe()?;
    let mut options = DaemonOptions::new();
    options
        .current_directory("/")?
        .redirect_standard_io_to_null()?
        .signal_state(ChildSignalState::Reset);
    // The reader only so that it can be closed there like any other.
    for kept in [held.fd(), writer.as_fd(), reader.as_fd()] {
        options.map_descriptor(kept.try_clone_to_owned()?, kept.as_raw_fd())?;
    }
    match checked_daemon(options, START) {
        Ok(CheckedDaemon::Daemon(notifier)) => {
            drop(reader);
            set_umask();
            handle_sigpipe()?;
            for kept in [held.fd(), writer.as_fd()] {
                fcntl_setfd(kept, FdFlags::CLOEXEC).map_err(io::Error::from)?;
            }
            let launch = StartReporter(Mutex::new(Some((writer, notifier))));
            Ok(ForkSide::Daemon(launch, held))
        }
        Ok(CheckedDaemon::Parent(_)) => {
            drop(writer);
            Ok(ForkSide::Controller(read(reader)?))
        }
        Err(error) => {
            drop(writer);
            match read(reader)? {
                // It never came to speak.
                StartReport::Died if !matches!(error, fork::DaemonError::Abandoned { .. }) => {
                    Err(DetachError::System(io::Error::other(error)))
                }
                report => Ok(ForkSide::Controller(report)),
            }
        }
    }
}

impl StartReporter {
    /// The service is up.
    pub fn up(&self, report: &StatusReport) {
        failpoint::hit("daemon.up");
        let texts = report.waiting_for.iter().take(MOST_TEXTS);
        let left_out = report.waiting_for.len().saturating_sub(MOST_TEXTS);
        let more = (left_out > 0).then(|| format!("{left_out} more; see `status`"));
        let said = self.say(&StartReport::Up {
            pid: report.pid,
            waiting_for: texts.map(|text| cut(text)).chain(more).collect(),
        });
        if let Some(Err(error)) = said.map(DaemonNotifier::notify_ready) {
            log::info!("nobody waits for the start any more: {error}");
        }
    }

    /// The service is over, and nothing of it is left to do but to exit.
    pub fn over(&self) {
        self.last(&StartReport::Over);
    }

    /// The service could not start, and nothing of it is left to do but to exit.
    pub fn failed(&self, exit: u8, reason: &str) {
        self.last(&StartReport::Failed(exit, cut(reason)));
    }

    fn last(&self, report: &StartReport) {
        // The controller takes its end for ours, and kills what is left: so it ends with the process.
        std::mem::forget(self.say(report));
    }

    fn say(&self, report: &StartReport) -> Option<DaemonNotifier> {
        let (mut writer, notifier) = self
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()?;
        let said = serde_json::to_vec(report)
            .map_err(io::Error::from)
            .and_then(|line| writer.write_all(&[&line, b"\n".as_slice()].concat()));
        if let Err(error) = said {
            log::info!("nobody waits for the start any more: {error}");
        }
        Some(notifier)
    }
}

fn cut(text: &str) -> String {
    let end = text.floor_char_boundary(MOST_BYTES);
    text[..end].to_owned()
}

/// What the daemon has said.
fn read(reader: PipeReader) -> io::Result<StartReport> {
    let mut line = String::new();
    BufReader::new(reader).read_line(&mut line)?;
    Ok(serde_json::from_str(&line).unwrap_or(StartReport::Died))
}

#[cfg(test)]
mod tests {
    use super::super::pidfile::{PidfileClaim, claim};
    use super::*;

    #[test]
    fn a_program_that_has_threads_is_not_forked() {
        let folder = tempfile::tempdir().unwrap();
        let Ok(PidfileClaim::Held(held)) = claim(&folder.path().join("x.pid"), None) else {
            panic!("it is nobody else's");
        };
        let (stop, stopped) = std::sync::mpsc::channel::<()>();
        let thread = std::thread::spawn(move || stopped.recv().unwrap_err());
        let error = detach(held).unwrap_err();
        assert!(matches!(error, DetachError::Threads(2..)), "{error}");
        drop(stop);
        thread.join().unwrap();
    }
}
