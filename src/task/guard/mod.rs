//! The guard: a small process that kills all commands when the service dies.
//!
//! A service that is killed can't end its children, and the kernel's parent-death signal reaches the
//! command only, not the processes that the command has started. So the service forks a guard at start.
//! The guard reads from a pipe which process groups are running. When the pipe breaks, the service is gone,
//! and the guard kills the groups.
#![expect(
    unsafe_code,
    reason = "fork, and the few system calls that are allowed after it, have no safe wrapper"
)]

mod close_descriptors;

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::sync::{Mutex, MutexGuard, PoisonError};

use nix::libc;
use rustix::process::{Pid, Signal, getpid, kill_process, kill_process_group, setsid};

use self::close_descriptors::close_all_but;
use super::RunId;

/// How many groups the guard can list: more than a host is likely to run at once. Further commands have
/// only the kernel's parent-death signal.
const MAX_GROUPS: usize = 4096;

/// The service's side of the guard: the running process groups, and the pipe to the guard.
#[derive(Debug)]
pub(super) struct Guard {
    groups: Mutex<HashMap<RunId, Pid>>,
    pipe: File,
}

impl Guard {
    /// Forks the guard.
    ///
    /// # Errors
    /// When the system has no pipe or no process left.
    pub(super) fn start() -> io::Result<Self> {
        let (reader, writer) = io::pipe()?;
        // SAFETY: the child runs only `run_guard`, which allocates nothing, takes no lock and never returns.
        // So it does not matter what threads that do not exist in the child have left half-done.
        let child = unsafe { libc::fork() };
        match child {
            -1 => Err(io::Error::last_os_error()),
            0 => {
                // Must come first: the guard would never see the pipe's end while it has the writer itself.
                drop(writer);
                run_guard(reader.as_raw_fd())
            }
            _ => Ok(Self {
                groups: Mutex::default(),
                pipe: File::from(OwnedFd::from(writer)),
            }),
        }
    }

    /// Returns a function that the child of this run, the leader of its process group, must call before it
    /// executes the command. From then on the guard kills the group if the service dies. The function makes
    /// two system calls and allocates nothing.
    pub(super) fn announce(&self, run: RunId) -> impl Fn() + Send + Sync + 'static {
        let pipe = self.pipe.as_raw_fd();
        move || {
            // SAFETY: the guard, and so its pipe, outlives the start of every command.
            let pipe = unsafe { BorrowedFd::borrow_raw(pipe) };
            let group = getpid().as_raw_nonzero().get();
            // Short enough to be written in one piece. If it fails, `add` reports the error.
            let _written = rustix::io::write(pipe, &encode_change(run, group));
        }
    }

    /// Lists the group of this run: it can be killed, and is killed if the service dies.
    pub(super) fn add(&self, run: RunId, group: Pid) -> io::Result<()> {
        self.groups().insert(run, group);
        self.send(encode_change(run, group.as_raw_nonzero().get()))
    }

    /// Removes the group of this run, because it has ended or could not be started. Its number may be reused.
    pub(super) fn remove(&self, run: RunId) -> io::Result<()> {
        self.groups().remove(&run);
        self.send(encode_change(run, 0))
    }

    /// Kills the group of this run, if it is still listed.
    pub(super) fn kill(&self, run: RunId) {
        if let Some(group) = self.groups().get(&run) {
            kill_group(*group);
        }
    }

    /// Kills every group that is listed.
    pub(super) fn kill_all(&self) {
        self.groups().values().copied().for_each(kill_group);
    }

    /// Locks the list. A group must be killed under this lock: a command is reaped only after its group was
    /// removed from the list.
    fn groups(&self) -> MutexGuard<'_, HashMap<RunId, Pid>> {
        self.groups.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn send(&self, change: [u8; CHANGE_BYTES]) -> io::Result<()> {
        (&self.pipe).write_all(&change)
    }
}

/// The length of a change of the list, short enough for pipe writes of several processes not to mix.
const CHANGE_BYTES: usize = 16;

/// Encodes a change of the list: the run, and its group, or 0 to remove it.
fn encode_change(run: RunId, group: i32) -> [u8; CHANGE_BYTES] {
    let mut change = [0; CHANGE_BYTES];
    change[..8].copy_from_slice(&run.number().to_ne_bytes());
    change[8..].copy_from_slice(&i64::from(group).to_ne_bytes());
    change
}

/// The guard's list of runs and their groups. Group 0 marks a free slot.
struct GroupTable([(u64, i32); MAX_GROUPS]);

impl GroupTable {
    const fn empty() -> Self {
        Self([(0, 0); MAX_GROUPS])
    }

    fn apply(&mut self, change: [u8; CHANGE_BYTES]) {
        let (run, group) = change.split_at(8);
        let number = |bytes: &[u8]| bytes.try_into().map_or(0, i64::from_ne_bytes);
        let (run, group) = (number(run).cast_unsigned(), number(group));
        let group = i32::try_from(group).unwrap_or_default();
        let known = |(of, has): &(u64, i32)| *has != 0 && *of == run;
        let mut slots = self.0.iter();
        let slot = slots
            .position(known)
            .or_else(|| self.0.iter().position(|(_, has)| *has == 0));
        if let Some(slot) = slot.and_then(|slot| self.0.get_mut(slot)) {
            *slot = (run, group);
        }
    }
}

/// Kills a group whose command is not reaped yet, so that its number can't have been reused.
fn kill_group(group: Pid) {
    // The command may have left its group.
    let killed = [
        kill_process_group(group, Signal::KILL),
        kill_process(group, Signal::KILL),
    ];
    log::debug!("process group {group:?}: {killed:?}");
}

/// The main function of the guard's process.
fn run_guard(pipe: RawFd) -> ! {
    // In a session of its own the guard does not get the terminal's Ctrl+C.
    let detached = setsid();
    // Otherwise the service's sockets would stay open after its death, unnoticed by the broker, and its pidfile
    // would stay locked.
    // SAFETY: nothing in this process uses any other descriptor.
    unsafe { close_all_but(pipe) };
    // SAFETY: nothing else in this process uses the descriptor.
    let mut pipe = unsafe { File::from_raw_fd(pipe) };
    let mut groups = GroupTable::empty();
    let mut change = [0; CHANGE_BYTES];
    while detached.is_ok() && pipe.read_exact(&mut change).is_ok() {
        groups.apply(change);
    }
    let groups = groups.0.into_iter();
    for group in groups.filter_map(|(_, group)| Pid::from_raw(group)) {
        // It is no error if the group has ended by itself.
        kill_process_group(group, Signal::KILL).unwrap_or_default();
    }
    // SAFETY: ends this process at once, without running the parent's exit handlers.
    unsafe { libc::_exit(0) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_that_is_sent_twice_has_one_group_and_a_removed_one_has_none() {
        let mut groups = Box::new(GroupTable::empty());
        let [one, other] = [RunId::next(), RunId::next()];
        for sent in [(one, 7), (other, 8), (one, 7), (one, 0), (one, 0)] {
            groups.apply(encode_change(sent.0, sent.1));
        }
        let left: Vec<_> = groups.0.iter().filter(|(_, group)| *group != 0).collect();
        assert_eq!(left, [&(other.number(), 8)]);
    }
}
