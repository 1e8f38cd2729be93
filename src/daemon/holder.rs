//! The process that holds a pidfile.

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

/// Between two looks at a process, where the system can't wait for it.
const AGAIN: Duration = Duration::from_millis(20);

/// A service, by its pidfile.
#[derive(Debug)]
pub struct Holder {
    pid: Pid,
    /// What no other process ever is, whatever pid it has; `None` on a kernel that has no such thing.
    handle: Option<OwnedFd>,
    is_proven: bool,
}

impl Holder {
    /// The process with this number, unless it is not seen to be the one that holds the pidfile at
    /// `path`. Where we may not see it, it is taken for that, and not signalled.
    pub(super) fn find(pid: i32, path: &Path, pidfile: &Metadata) -> Option<Self> {
        let pid = Pid::from_raw(pid)?;
        // First: what is seen afterwards is true of this process, or it is gone.
        let handle = match pidfd_open(pid, PidfdFlags::empty()) {
            Ok(handle) => Some(handle),
            Err(Errno::NOSYS | Errno::PERM) => None,
            Err(_) => return None,
        };
        let is_proven = match has_locked(pid, pidfile) {
            Ok(true) => true,
            Ok(false) => return None,
            // Not ours to look at, as a process that has changed its user may not be even for root:
            // then it has to answer.
            Err(_) => match control::listener(path) {
                Ok(listener) if listener == Some(pid) => true,
                Ok(_) => return None,
                Err(_) => false,
            },
        };
        Some(Self {
            pid,
            handle,
            is_proven,
        })
    }

    /// Its pid.
    #[must_use]
    pub fn pid(&self) -> i32 {
        self.pid.as_raw_nonzero().get()
    }

    /// Sends it a signal, unless it is gone.
    ///
    /// # Errors
    /// When it is another user's.
    pub fn signal(&self, signal: Signal) -> io::Result<()> {
        if !self.is_proven {
            return Err(Errno::PERM.into());
        }
        let sent = match &self.handle {
            Some(handle) => pidfd_send_signal(handle, signal),
            None => kill_process(self.pid, signal),
        };
        match sent {
            Ok(()) | Err(Errno::SRCH) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Waits until it is gone, but not longer than `time`; whether it is.
    #[must_use]
    pub fn is_gone_within(&self, time: Duration) -> bool {
        let Some(handle) = &self.handle else {
            std::thread::sleep(time.min(AGAIN));
            return test_kill_process(self.pid) == Err(Errno::SRCH);
        };
        let timeout = Timespec::try_from(time).ok();
        let polled = retry_on_intr(|| {
            let mut ended = [PollFd::from_borrowed_fd(handle.as_fd(), PollFlags::IN)];
            poll(&mut ended, timeout.as_ref())
        });
        matches!(polled, Ok(count) if count > 0)
    }
}

/// Whether the process has locked that file.
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
            // The list may be read by more than may follow it.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => return Err(error),
            // One that was closed meanwhile is not it.
            Ok(_) | Err(_) => {}
        }
    }
    Ok(false)
}

/// Whether this is what proc(5) says of a descriptor whose file is locked by flock(2), through it or
/// through the one that it was inherited from.
fn is_lock(line: &str) -> bool {
    let mut words = line.split_whitespace();
    words.next() == Some("lock:")
        && words.any(|word| word == "FLOCK")
        && words.any(|word| word == "WRITE")
}
