//! The child processes that a daemon had when it executed itself again.

use std::fs;
use std::io;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError};
use rustix::io::Errno;
use rustix::process::{Pid, WaitOptions, waitpid};
use serde::{Deserialize, Serialize};

/// How long to wait for killed children to exit; slower ones are left.
const EXIT_TIMEOUT: Duration = Duration::from_secs(2);

/// How often to check whether they have exited.
const POLL_INTERVAL: Duration = Duration::from_millis(10);

/// The children that this process had when it executed itself again: commands of tasks, which were killed.
#[derive(Debug, Serialize, Deserialize)]
pub struct LeftoverChildren(Vec<i32>);

impl LeftoverChildren {
    /// The children that this process has now.
    ///
    /// # Errors
    /// When `/proc` can't be read.
    pub(super) fn of_this_process() -> io::Result<Self> {
        let parent = std::process::id().to_string();
        let is_child = |pid: &i32| {
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            // The name, in parentheses, may contain anything; the state and the parent's pid follow.
            let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields);
            fields.split_whitespace().nth(1) == Some(&parent)
        };
        let listed = fs::read_dir("/proc")?.filter_map(Result::ok);
        let pids = listed.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        Ok(Self(pids.filter(is_child).collect()))
    }

    /// Waits for `time` and until all have exited, but not longer than that once [`EXIT_TIMEOUT`] is over. Returns
    /// early with what arrives on `signals`.
    pub fn wait_until_gone<T>(mut self, time: Duration, signals: &Receiver<T>) -> Option<T> {
        let began = Instant::now();
        loop {
            self.reap();
            let rested = began.elapsed();
            if rested >= time && (self.0.is_empty() || rested >= EXIT_TIMEOUT) {
                return None;
            }
            match signals.recv_timeout(POLL_INTERVAL) {
                Ok(signal) => return Some(signal),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return None,
            }
        }
    }

    fn reap(&mut self) {
        // Nobody else reaps them, so their pids are not reused.
        self.0.retain(|child| {
            let status = waitpid(Pid::from_raw(*child), WaitOptions::NOHANG);
            matches!(status, Ok(None) | Err(Errno::INTR))
        });
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    #[expect(clippy::zombie_processes, reason = "reaped by the function under test")]
    fn children_are_found_and_reaped() {
        let known = || LeftoverChildren::of_this_process().unwrap().0;
        let child = Command::new("sleep").arg("1000").spawn().unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        assert!(known().contains(&pid));
        let killed = Pid::from_child(&child);
        rustix::process::kill_process(killed, rustix::process::Signal::KILL).unwrap();
        let (_sender, signals) = crossbeam_channel::unbounded::<()>();
        let left = LeftoverChildren(vec![pid]).wait_until_gone(Duration::ZERO, &signals);
        assert_eq!(left, None);
        assert!(!known().contains(&pid));
    }
}
