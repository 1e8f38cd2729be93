//! Process 1 of a container, which must reap orphaned processes and forward signals.
//!
//! A service that is process 1 forks. Its child is the service; process 1 forwards signals to it, reaps dead
//! processes, and exits with the child's exit code.
#![expect(
    unsafe_code,
    reason = "fork, and waiting for blocked signals, have no safe form"
)]

use std::fmt;
use std::fs;
use std::io::{self, Write};
use std::mem::MaybeUninit;
use std::os::fd::AsFd;
use std::ptr;

use nix::libc::{self, sigset_t};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::process::{Pid, WaitOptions, WaitStatus, getpgrp, getpid, setpgid, wait};
use rustix::termios::{tcgetpgrp, tcsetpgrp};

use crate::names;

/// The exit code if the service's is unknown (`EX_SOFTWARE`).
const UNKNOWN_EXIT: i32 = 70;

/// As in a shell, the exit code for a process that a signal ended is this plus the signal's number.
const SIGNAL_EXIT_BASE: i32 = 128;

/// The signals that concern process 1 alone, and are not forwarded.
const NOT_FORWARDED: [i32; 10] = [
    libc::SIGCHLD,
    libc::SIGTTIN,
    libc::SIGTTOU,
    libc::SIGFPE,
    libc::SIGILL,
    libc::SIGSEGV,
    libc::SIGBUS,
    libc::SIGABRT,
    libc::SIGTRAP,
    libc::SIGSYS,
];

/// Why process 1 reaps no orphans.
#[derive(Debug)]
pub enum InitError {
    /// A fork would leave the other threads behind.
    Threads(usize),
    /// The system refused something.
    System(io::Error),
}

impl fmt::Display for InitError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(
            "this is process 1 of its container, and reaps none of the processes that are orphaned there: ",
        )?;
        match self {
            Self::Threads(count) => write!(
                formatter,
                "the program had {count} threads before `App::run`, as with `#[tokio::main]`, and can't fork",
            ),
            Self::System(error) => write!(formatter, "{error}"),
        }?;
        formatter.write_str("; give the container an init, as `docker run --init` does")
    }
}

/// Whether this is process 1 of its container, which ends with it.
#[must_use]
pub fn is_first() -> bool {
    getpid() == Pid::INIT
}

/// How many threads this process has.
///
/// # Errors
/// When `/proc` can't be read.
pub fn thread_count() -> io::Result<usize> {
    Ok(fs::read_dir("/proc/self/task")?.count())
}

/// Forks process 1, and returns in the child alone. Does nothing in any other process.
///
/// # Errors
/// When process 1 can't be forked: it goes on as the service.
pub fn fork_service() -> Result<(), InitError> {
    if !is_first() {
        return Ok(());
    }
    match thread_count().map_err(InitError::System)? {
        1 => fork_now().map_err(InitError::System),
        more => Err(InitError::Threads(more)),
    }
}

fn fork_now() -> io::Result<()> {
    // If SIGCHLD were ignored, the child's exit status could not be read.
    fork::ensure_waitable_children()?;
    // Otherwise both processes would write what is buffered.
    io::stdout().flush()?;
    let (all, before) = block_all()?;
    // SAFETY: this process has no other thread.
    match unsafe { libc::fork() } {
        -1 => {
            let error = io::Error::last_os_error();
            restore(&before);
            Err(error)
        }
        0 => {
            become_service();
            restore(&before);
            Ok(())
        }
        child => {
            let status = supervise(child, &all);
            // SAFETY: ends this process at once. Exit handlers must run in the child alone.
            unsafe { libc::_exit(status) }
        }
    }
}

/// Blocks all signals, so that they can be waited for, even those that the kernel does not deliver to process 1
/// without a handler. Returns the set of all signals, and the set that was blocked before.
fn block_all() -> io::Result<(sigset_t, sigset_t)> {
    let mut all = MaybeUninit::uninit();
    let mut before = MaybeUninit::uninit();
    // SAFETY: `sigfillset` initializes the one set, and `pthread_sigmask` the other where it succeeds.
    unsafe {
        libc::sigfillset(all.as_mut_ptr());
        match libc::pthread_sigmask(libc::SIG_SETMASK, all.as_ptr(), before.as_mut_ptr()) {
            0 => Ok((all.assume_init(), before.assume_init())),
            error => Err(io::Error::from_raw_os_error(error)),
        }
    }
}

fn restore(mask: &sigset_t) {
    // SAFETY: a system call, which can't fail for a set that it has returned.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, mask, ptr::null_mut()) };
}

/// Prepares the child to be the service, while all signals are blocked.
fn become_service() {
    // A terminal sends its signals to a process group. In process 1's group the service would get them twice: from
    // the terminal, and forwarded.
    let group = setpgid(None, None).and_then(|()| take_foreground());
    if let Err(error) = group {
        log::debug!("process group: {error}");
    }
    let [_, _, watchdog_pid] = names::SYSTEMD_VARIABLES;
    if std::env::var(watchdog_pid).is_ok_and(|pid| pid == "1") {
        // SAFETY: this process has no other thread.
        unsafe { std::env::set_var(watchdog_pid, getpid().to_string()) };
    }
}

/// Makes this process's group the terminal's foreground group, if its parent's was.
fn take_foreground() -> Result<(), Errno> {
    let terminal = rustix::fs::open(
        "/dev/tty",
        OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC,
        Mode::empty(),
    );
    match &terminal {
        Ok(terminal) => set_foreground(terminal),
        // There may be a terminal although there is no such file.
        Err(_) => set_foreground(io::stdin()),
    }
}

fn set_foreground(terminal: impl AsFd) -> Result<(), Errno> {
    // A foreground group from outside the container has no number in this process's namespace.
    match tcgetpgrp(&terminal) {
        Ok(group) if group == Pid::INIT => tcsetpgrp(&terminal, getpgrp()),
        Ok(_) | Err(Errno::NOTTY) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Forwards signals to the child and reaps dead processes until the child dies. Returns the exit code.
fn supervise(child: libc::pid_t, all: &sigset_t) -> i32 {
    // Renamed, so that a search for the service's name finds only the service.
    // SAFETY: a system call that reads a constant.
    unsafe { libc::prctl(libc::PR_SET_NAME, c"init".as_ptr()) };
    loop {
        // SAFETY: a system call, which takes no pointer for the signal's details.
        let signal = unsafe { libc::sigwaitinfo(all, ptr::null_mut()) };
        if signal > 0 && !NOT_FORWARDED.contains(&signal) {
            // SAFETY: a system call. The child is not reaped yet, so its pid is not reused.
            unsafe { libc::kill(child, signal) };
        }
        loop {
            match wait(WaitOptions::NOHANG) {
                Ok(Some((pid, status))) if pid.as_raw_nonzero().get() == child => {
                    return shell_exit_code(status);
                }
                Ok(Some(_)) | Err(Errno::INTR) => {}
                Ok(None) => break,
                Err(_) => return UNKNOWN_EXIT,
            }
        }
    }
}

/// The exit code that a shell would report: process 1 can't be killed by a signal as its child was.
fn shell_exit_code(status: WaitStatus) -> i32 {
    let signalled = || {
        status
            .terminating_signal()
            .map(|signal| SIGNAL_EXIT_BASE + signal)
    };
    status
        .exit_status()
        .or_else(signalled)
        .unwrap_or(UNKNOWN_EXIT)
}
