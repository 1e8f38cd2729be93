//! The processes that a daemon leaves to its next life.

use std::fs;
use std::io;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError};
use rustix::io::Errno;
use rustix::process::{Pid, WaitOptions, waitpid};
use serde::{Deserialize, Serialize};

/// The commands of before die within that time; what does not is not waited for.
const CHILDREN: Duration = Duration::from_secs(2);

/// How often it is looked whether they have.
const LOOK: Duration = Duration::from_millis(10);

/// What a life before has left of processes, which are this process's children still. They were killed.
#[derive(Debug, Serialize, Deserialize)]
pub struct LeftoverChildren(Vec<i32>);

impl LeftoverChildren {
    /// Those that this process has now.
    ///
    /// # Errors
    /// When `/proc` can't be read.
    pub(super) fn of_this_process() -> io::Result<Self> {
        let parent = std::process::id().to_string();
        let is_child = |pid: &i32| {
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            // The command's name, in brackets, may hold anything; its state and its parent follow.
            let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields);
            fields.split_whitespace().nth(1) == Some(&parent)
        };
        let listed = fs::read_dir("/proc")?.filter_map(Result::ok);
        let pids = listed.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        Ok(Self(pids.filter(is_child).collect()))
    }

    /// Waits for `time`, and until they are gone; unless something comes on `signals`, which is returned.
    pub fn outlive<T>(mut self, time: Duration, signals: &Receiver<T>) -> Option<T> {
        let began = Instant::now();
        loop {
            self.bury();
            let rested = began.elapsed();
            if rested >= time && (self.0.is_empty() || rested >= CHILDREN) {
                return None;
            }
            match signals.recv_timeout(LOOK) {
                Ok(signal) => return Some(signal),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return None,
            }
        }
    }

    fn bury(&mut self) {
        // As they are not buried, the numbers are their own.
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
    #[expect(clippy::zombie_processes, reason = "it is buried by what is tried")]
    fn children_are_known_and_buried() {
        let known = || LeftoverChildren::of_this_process().unwrap().0;
        let child = Command::new("sleep").arg("1000").spawn().unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        assert!(known().contains(&pid));
        let killed = Pid::from_child(&child);
        rustix::process::kill_process(killed, rustix::process::Signal::KILL).unwrap();
        let (_sender, signals) = crossbeam_channel::unbounded::<()>();
        let left = LeftoverChildren(vec![pid]).outlive(Duration::ZERO, &signals);
        assert_eq!(left, None);
        assert!(!known().contains(&pid));
    }
}
