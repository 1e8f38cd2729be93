//! Forks the daemon into the background; the daemon reports to its controller how its start went.

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

/// How long the controller waits for the start: as many days as `poll` can count. Usually the service consumes,
/// knows what it waits for or has failed within seconds, but the migration of a large file takes longer.
const START_TIMEOUT: Duration = Duration::from_hours(24 * 24);

/// Others may only read the files that a daemon makes.
const DAEMON_UMASK: Mode = Mode::from_raw_mode(0o022);

/// Longer texts are cut, and further texts left out, so that the pipe can hold them until they are read.
const MOST_TEXT_BYTES: usize = 2 << 10;
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
    /// The service has ended in order already: it was told to stop, or has run all messages in test mode.
    Ended,
    /// It failed, with this exit code, for this reason.
    Failed(u8, String),
    /// It died without a report.
    Died,
}

/// The process that returns from [`detach`].
#[derive(Debug)]
pub enum ForkSide {
    /// The controller, once the start has succeeded or failed.
    Controller(StartReport),
    /// The daemon, which holds the pidfile now.
    Daemon(StartReporter, HeldPidfile),
}

/// Reports to the daemon's controller, once, how the start went.
#[derive(Debug)]
pub struct StartReporter(Mutex<Option<(PipeWriter, DaemonNotifier)>>);

/// Checks that this process can be forked.
///
/// # Errors
/// When it has more than one thread.
pub fn ensure_single_threaded() -> Result<(), DetachError> {
    match init::thread_count()? {
        1 => Ok(()),
        more => Err(DetachError::Threads(more)),
    }
}

/// Makes the files of this process readable by all and writable by their owner, whatever umask it has inherited:
/// for a controller, which makes the pidfile, and for the daemon.
pub fn set_umask() {
    umask(DAEMON_UMASK);
}

/// Keeps this process alive when a connection breaks. Uses a handler, since programs that it executes would
/// inherit an ignored signal. [`detach`] resets Rust's own setting, which ignores the signal.
///
/// # Errors
/// When the system refuses it.
pub fn handle_sigpipe() -> io::Result<()> {
    signal_hook::flag::register(SIGPIPE, Arc::default()).map(drop)
}

/// Forks the daemon: in a session of its own, without a terminal, in `/`, with its standard streams on
/// `/dev/null`, no open descriptor but the pidfile's, and no signal blocked or ignored.
///
/// # Errors
/// When this process has more than one thread, or the system refuses something.
pub fn detach(held: HeldPidfile) -> Result<ForkSide, DetachError> {
    ensure_single_threaded()?;
    // If our parent ignored SIGCHLD, we inherited that, and could not wait for our children.
    ensure_waitable_children()?;
    let (reader, writer) = io::pipe()?;
    let mut options = DaemonOptions::new();
    options
        .current_directory("/")?
        .redirect_standard_io_to_null()?
        .signal_state(ChildSignalState::Reset);
    // The reader only so that the daemon can close it as usual.
    for kept in [held.fd(), writer.as_fd(), reader.as_fd()] {
        options.map_descriptor(kept.try_clone_to_owned()?, kept.as_raw_fd())?;
    }
    match checked_daemon(options, START_TIMEOUT) {
        Ok(CheckedDaemon::Daemon(notifier)) => {
            drop(reader);
            set_umask();
            handle_sigpipe()?;
            for kept in [held.fd(), writer.as_fd()] {
                fcntl_setfd(kept, FdFlags::CLOEXEC).map_err(io::Error::from)?;
            }
            let reporter = StartReporter(Mutex::new(Some((writer, notifier))));
            Ok(ForkSide::Daemon(reporter, held))
        }
        Ok(CheckedDaemon::Parent(_)) => {
            drop(writer);
            Ok(ForkSide::Controller(read(reader)?))
        }
        Err(error) => {
            drop(writer);
            match read(reader)? {
                // The fork itself failed.
                StartReport::Died if !matches!(error, fork::DaemonError::Abandoned { .. }) => {
                    Err(DetachError::System(io::Error::other(error)))
                }
                report => Ok(ForkSide::Controller(report)),
            }
        }
    }
}

impl StartReporter {
    /// Reports that the service is up.
    pub fn report_up(&self, report: &StatusReport) {
        failpoint::hit("daemon.up");
        let texts = report.waiting_for.iter().take(MOST_TEXTS);
        let left_out = report.waiting_for.len().saturating_sub(MOST_TEXTS);
        let more = (left_out > 0).then(|| format!("{left_out} more; see `status`"));
        let sent = self.send(&StartReport::Up {
            pid: report.pid,
            waiting_for: texts.map(|text| cut(text)).chain(more).collect(),
        });
        if let Some(Err(error)) = sent.map(DaemonNotifier::notify_ready) {
            log::info!("nobody waits for the start any more: {error}");
        }
    }

    /// Reports that the service has ended. The process must do nothing but exit afterwards.
    pub fn report_ended(&self) {
        self.report_last(&StartReport::Ended);
    }

    /// Reports that the service could not start. The process must do nothing but exit afterwards.
    pub fn report_failed(&self, exit: u8, reason: &str) {
        self.report_last(&StartReport::Failed(exit, cut(reason)));
    }

    fn report_last(&self, report: &StartReport) {
        // When the notifier is closed, the controller kills this process: so it stays open until we exit.
        std::mem::forget(self.send(report));
    }

    fn send(&self, report: &StartReport) -> Option<DaemonNotifier> {
        let (mut writer, notifier) = self
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()?;
        let sent = serde_json::to_vec(report)
            .map_err(io::Error::from)
            .and_then(|line| writer.write_all(&[&line, b"\n".as_slice()].concat()));
        if let Err(error) = sent {
            log::info!("nobody waits for the start any more: {error}");
        }
        Some(notifier)
    }
}

fn cut(text: &str) -> String {
    let end = text.floor_char_boundary(MOST_TEXT_BYTES);
    text[..end].to_owned()
}

/// The daemon's report.
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
