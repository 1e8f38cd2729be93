//! The process that holds a pidfile's lock.

use std::fs::{self, Metadata};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{Errno, retry_on_intr};
use rustix::process::{
    Pid, PidfdFlags, Signal, kill_process, pidfd_open, pidfd_send_signal, test_kill_process,
};

use super::control;

/// How often to check whether a process has ended, on a kernel without pidfds.
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// A running service, found by its pidfile.
#[derive(Debug)]
pub struct PidfileHolder {
    pid: Pid,
    /// Refers to this process even if its pid is reused; `None` on a kernel without pidfds.
    pidfd: Option<OwnedFd>,
    /// Whether the process was seen to hold the lock, or to listen on the control socket.
    is_proven: bool,
}

impl PidfileHolder {
    /// The process `pid`, or `None` if it does not hold the pidfile at `path`. If we may not see whether it does,
    /// it is assumed to, but is never signalled.
    pub(super) fn identify(pid: i32, path: &Path, pidfile: &Metadata) -> Option<Self> {
        let pid = Pid::from_raw(pid)?;
        // Opened first: what is seen afterwards is true of this very process, or it has ended.
        let pidfd = match pidfd_open(pid, PidfdFlags::empty()) {
            Ok(handle) => Some(handle),
            Err(Errno::NOSYS | Errno::PERM) => None,
            Err(_) => return None,
        };
        let is_proven = match has_locked(pid, pidfile) {
            Ok(true) => true,
            Ok(false) => return None,
            // We may not look at the process: even root may not if it has changed its user. Then it must listen
            // on the control socket.
            Err(_) => match control::listening_process(path) {
                Ok(listener) if listener == Some(pid) => true,
                Ok(_) => return None,
                Err(_) => false,
            },
        };
        Some(Self {
            pid,
            pidfd,
            is_proven,
        })
    }

    /// Its pid.
    #[must_use]
    pub fn pid(&self) -> i32 {
        self.pid.as_raw_nonzero().get()
    }

    /// Sends it a signal, unless it has ended.
    ///
    /// # Errors
    /// When it belongs to another user.
    pub fn signal(&self, signal: Signal) -> io::Result<()> {
        if !self.is_proven {
            return Err(Errno::PERM.into());
        }
        let sent = match &self.pidfd {
            Some(pidfd) => pidfd_send_signal(pidfd, signal),
            None => kill_process(self.pid, signal),
        };
        match sent {
            Ok(()) | Err(Errno::SRCH) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Waits until the process has ended, at most for `time`. Returns whether it has.
    #[must_use]
    pub fn wait_until_gone(&self, time: Duration) -> bool {
        let Some(pidfd) = &self.pidfd else {
            std::thread::sleep(time.min(POLL_INTERVAL));
            return test_kill_process(self.pid) == Err(Errno::SRCH);
        };
        let timeout = Timespec::try_from(time).ok();
        let polled = retry_on_intr(|| {
            let mut ended = [PollFd::from_borrowed_fd(pidfd.as_fd(), PollFlags::IN)];
            poll(&mut ended, timeout.as_ref())
        });
        matches!(polled, Ok(count) if count > 0)
    }
}

/// Whether the process holds a lock on that file.
fn has_locked(pid: Pid, file: &Metadata) -> io::Result<bool> {
    let process = Path::new("/proc").join(pid.as_raw_nonzero().to_string());
    for descriptor in fs::read_dir(process.join("fd"))? {
        let descriptor = descriptor?;
        match fs::metadata(descriptor.path()) {
            Ok(open) if (open.dev(), open.ino()) == (file.dev(), file.ino()) => {
                let info = process.join("fdinfo").join(descriptor.file_name());
                if fs::read_to_string(info)?.lines().any(is_lock) {
                    return Ok(true);
                }
            }
            // Some users may list the descriptors and not follow them.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => return Err(error),
            // Another file, or a descriptor that was closed meanwhile.
            Ok(_) | Err(_) => {}
        }
    }
    Ok(false)
}

/// Whether this line of proc(5)'s `fdinfo` says that the file is locked by flock(2), through this descriptor or
/// the one that it was inherited from.
fn is_lock(line: &str) -> bool {
    let mut words = line.split_whitespace();
    words.next() == Some("lock:")
        && words.any(|word| word == "FLOCK")
        && words.any(|word| word == "WRITE")
}
