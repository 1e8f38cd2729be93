//! Commands die with their service, whatever kills it.
//!
//! A process that is killed can't end its children, and the kernel's parent-death signal reaches the
//! command alone, not what the command has started. So a small process, forked at start, holds the
//! end of a pipe and a list of the process groups that are running: when the pipe breaks, the service
//! is gone, and the guard kills the groups.
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

/// How many groups the guard can list: more than a host is likely to run at once. What is beyond that
/// has the kernel's parent-death signal alone.
const MAX_GROUPS: usize = 4096;

/// The process groups of the commands that are running, and the guard that kills them should we die.
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
        // SAFETY: the child runs `run_guard` alone, which allocates nothing, takes no lock and never
        // returns, so that threads that vanished in it can't have left anything half-done.
        let child = unsafe { libc::fork() };
        match child {
            -1 => Err(io::Error::last_os_error()),
            0 => {
                // First of all: the guard would never see the end of a pipe that it can write to.
                drop(writer);
                run_guard(reader.as_raw_fd())
            }
            _ => Ok(Self {
                groups: Mutex::default(),
                pipe: File::from(OwnedFd::from(writer)),
            }),
        }
    }

    /// What the process of this run, first in its group, is to do before it becomes the command: from then on
    /// the group dies with us, however soon that is. It makes one system call.
    pub(super) fn announce(&self, run: RunId) -> impl Fn() + Send + Sync + 'static {
        let pipe = self.pipe.as_raw_fd();
        move || {
            // SAFETY: the guard that runs commands lives as long as they start, and so does its pipe.
            let pipe = unsafe { BorrowedFd::borrow_raw(pipe) };
            let group = getpid().as_raw_nonzero().get();
            // Short enough to come in one piece. Where it fails, `add` says so.
            let _told = rustix::io::write(pipe, &encode_change(run, group));
        }
    }

    /// From now on the group of this run can be killed, and dies with us.
    pub(super) fn add(&self, run: RunId, group: Pid) -> io::Result<()> {
        self.groups().insert(run, group);
        self.send(encode_change(run, group.as_raw_nonzero().get()))
    }

    /// The group is over, or its command could not be started; its number may be used again.
    pub(super) fn remove(&self, run: RunId) -> io::Result<()> {
        self.groups().remove(&run);
        self.send(encode_change(run, 0))
    }

    /// Kills the group of this run, if that is not over.
    pub(super) fn kill(&self, run: RunId) {
        if let Some(group) = self.groups().get(&run) {
            kill_group(*group);
        }
    }

    /// Kills every group that is running.
    pub(super) fn kill_all(&self) {
        self.groups().values().copied().for_each(kill_group);
    }

    /// Whoever kills a group holds them meanwhile: one that is on the list is not reaped.
    fn groups(&self) -> MutexGuard<'_, HashMap<RunId, Pid>> {
        self.groups.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn send(&self, change: [u8; CHANGE_BYTES]) -> io::Result<()> {
        (&self.pipe).write_all(&change)
    }
}

/// What the guard is told: a run, and its group, or 0 if that is over. It comes in one piece, whoever else writes.
const CHANGE_BYTES: usize = 16;

fn encode_change(run: RunId, group: i32) -> [u8; CHANGE_BYTES] {
    let mut change = [0; CHANGE_BYTES];
    change[..8].copy_from_slice(&run.number().to_ne_bytes());
    change[8..].copy_from_slice(&i64::from(group).to_ne_bytes());
    change
}

/// The groups of runs.
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

/// Kills a group whose command is not reaped, so that the number is its own.
fn kill_group(group: Pid) {
    // The command may have left its group.
    let killed = [
        kill_process_group(group, Signal::KILL),
        kill_process(group, Signal::KILL),
    ];
    log::debug!("process group {group:?}: {killed:?}");
}

/// The guard's whole life.
fn run_guard(pipe: RawFd) -> ! {
    // A session of its own: the terminal's Ctrl+C is not for the guard.
    let detached = setsid();
    // A socket of the service that stayed open here would hide its death from the broker, and its
    // pidfile would stay locked.
    // SAFETY: nothing in this process uses any other descriptor.
    unsafe { close_all_but(pipe) };
    // SAFETY: the descriptor is ours, and nothing else in this process knows it.
    let mut pipe = unsafe { File::from_raw_fd(pipe) };
    let mut groups = GroupTable::empty();
    let mut change = [0; CHANGE_BYTES];
    while detached.is_ok() && pipe.read_exact(&mut change).is_ok() {
        groups.apply(change);
    }
    let groups = groups.0.into_iter();
    for group in groups.filter_map(|(_, group)| Pid::from_raw(group)) {
        // A group that is gone by itself is what we want.
        kill_process_group(group, Signal::KILL).unwrap_or_default();
    }
    // SAFETY: ends this process at once, without running what the parent registered for its exit.
    unsafe { libc::_exit(0) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_that_is_told_of_twice_has_one_group_and_one_that_is_over_has_none() {
        let mut groups = Box::new(GroupTable::empty());
        let [one, other] = [RunId::next(), RunId::next()];
        for told in [(one, 7), (other, 8), (one, 7), (one, 0), (one, 0)] {
            groups.apply(encode_change(told.0, told.1));
        }
        let left: Vec<_> = groups.0.iter().filter(|(_, group)| *group != 0).collect();
        assert_eq!(left, [&(other.number(), 8)]);
    }
}
