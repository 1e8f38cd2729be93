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

mod closing;

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::{Mutex, MutexGuard, PoisonError};

use nix::libc;
use rustix::process::{Pid, Signal, kill_process, kill_process_group, setsid};

use self::closing::close_all_but;
use super::RunId;

/// How many groups the guard can list: more than a host is likely to run at once. What is beyond that
/// has the kernel's parent-death signal alone.
const MOST_GROUPS: usize = 4096;

/// The process groups of the commands that are running, and the guard that kills them should we die.
#[derive(Debug)]
pub(super) struct Guard {
    groups: Mutex<HashMap<RunId, Pid>>,
    pipe: Mutex<File>,
}

impl Guard {
    /// Forks the guard.
    ///
    /// # Errors
    /// When the system has no pipe or no process left.
    pub(super) fn start() -> io::Result<Self> {
        let (reader, writer) = io::pipe()?;
        // SAFETY: the child runs `watch` alone, which allocates nothing, takes no lock and never
        // returns, so that threads that vanished in it can't have left anything half-done.
        let child = unsafe { libc::fork() };
        match child {
            -1 => Err(io::Error::last_os_error()),
            0 => {
                // First of all: the guard would never see the end of a pipe that it can write to.
                drop(writer);
                watch(reader.as_raw_fd())
            }
            _ => Ok(Self {
                groups: Mutex::default(),
                pipe: Mutex::new(File::from(OwnedFd::from(writer))),
            }),
        }
    }

    /// From now on the group of this run dies with us.
    pub(super) fn add(&self, run: RunId, group: Pid) -> io::Result<()> {
        self.groups().insert(run, group);
        self.tell(group.as_raw_nonzero().get())
    }

    /// The group is over; its number may be used again.
    pub(super) fn remove(&self, run: RunId, group: Pid) -> io::Result<()> {
        self.groups().remove(&run);
        self.tell(-group.as_raw_nonzero().get())
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

    fn tell(&self, change: i32) -> io::Result<()> {
        self.pipe
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .write_all(&change.to_ne_bytes())
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
fn watch(pipe: RawFd) -> ! {
    // A session of its own: the terminal's Ctrl+C is not for the guard.
    let detached = setsid();
    // A socket of the service that stayed open here would hide its death from the broker, and its
    // pidfile would stay locked.
    // SAFETY: nothing in this process uses any other descriptor.
    unsafe { close_all_but(pipe) };
    // SAFETY: the descriptor is ours, and nothing else in this process knows it.
    let mut pipe = unsafe { File::from_raw_fd(pipe) };
    let mut groups = [0_i32; MOST_GROUPS];
    let mut change = [0_u8; 4];
    while detached.is_ok() && pipe.read_exact(&mut change).is_ok() {
        let change = i32::from_ne_bytes(change);
        let (from, to) = if change > 0 {
            (0, change)
        } else {
            (-change, 0)
        };
        if let Some(slot) = groups.iter_mut().find(|slot| **slot == from) {
            *slot = to;
        }
    }
    for group in groups.into_iter().filter_map(Pid::from_raw) {
        // A group that is gone by itself is what we want.
        kill_process_group(group, Signal::KILL).unwrap_or_default();
    }
    // SAFETY: ends this process at once, without running what the parent registered for its exit.
    unsafe { libc::_exit(0) }
}
