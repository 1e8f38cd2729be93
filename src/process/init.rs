//! The first process of a container: nobody else reaps what is orphaned there, and passes signals on.
//!
//! A service that is process 1 splits in two. Its child is the service; the process itself forwards signals
//! to it, reaps whatever dies, and exits as the child does.
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

/// What it exits with if it can't tell how the service has ended (`EX_SOFTWARE`).
const UNKNOWN: i32 = 70;

/// What a shell adds to the number of the signal that ended a process.
const SIGNALLED: i32 = 128;

/// What is about this process alone: it is not passed on.
const OWN: [i32; 10] = [
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
pub enum Unreaped {
    /// A fork would leave the other threads behind.
    Threads(usize),
    /// The system refused something.
    System(io::Error),
}

impl fmt::Display for Unreaped {
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

/// Whether this is the first process of its container, which ends with it.
#[must_use]
pub fn is_first() -> bool {
    getpid() == Pid::INIT
}

/// How many threads this process has.
///
/// # Errors
/// When `/proc` can't be read.
pub fn threads() -> io::Result<usize> {
    Ok(fs::read_dir("/proc/self/task")?.count())
}

/// Splits process 1 in two, and returns in its child alone. Any other process stays as it is.
///
/// # Errors
/// When process 1 can't be split: it goes on as it is.
pub fn split() -> Result<(), Unreaped> {
    if !is_first() {
        return Ok(());
    }
    match threads().map_err(Unreaped::System)? {
        1 => split_now().map_err(Unreaped::System),
        more => Err(Unreaped::Threads(more)),
    }
}

fn split_now() -> io::Result<()> {
    // Ignored, it would leave no exit status to pass on.
    fork::ensure_waitable_children()?;
    // What is in a buffer is the child's to write.
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
            let status = tend(child, &all);
            // SAFETY: ends this process at once: what it registered for its exit is the child's to run.
            unsafe { libc::_exit(status) }
        }
    }
}

/// Blocks all signals, so that they can be waited for; also those that process 1 would never hear of, as it
/// has no handler. Returns them, and which were blocked before.
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
    // SAFETY: a system call. It can't fail for a set that came from it.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, mask, ptr::null_mut()) };
}

/// What the child does before it is the service, while all signals are blocked.
fn become_service() {
    // What a terminal sends, it sends to a group: process 1 would pass it on, and the service hear it twice.
    let group = setpgid(None, None).and_then(|()| take_terminal());
    if let Err(error) = group {
        log::debug!("process group: {error}");
    }
    let [_, _, watchdog_pid] = names::SYSTEMD_VARIABLES;
    if std::env::var(watchdog_pid).is_ok_and(|pid| pid == "1") {
        // SAFETY: this process has no other thread.
        unsafe { std::env::set_var(watchdog_pid, getpid().to_string()) };
    }
}

/// Makes this process's group the terminal's, if its parent's was.
fn take_terminal() -> Result<(), Errno> {
    let terminal = rustix::fs::open(
        "/dev/tty",
        OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC,
        Mode::empty(),
    );
    match &terminal {
        Ok(terminal) => hand_over(terminal),
        // There may be no such file, and a terminal all the same.
        Err(_) => hand_over(io::stdin()),
    }
}

fn hand_over(terminal: impl AsFd) -> Result<(), Errno> {
    // None has this number in the process's own namespace if it is from outside.
    match tcgetpgrp(&terminal) {
        Ok(group) if group == Pid::INIT => tcsetpgrp(&terminal, getpgrp()),
        Ok(_) | Err(Errno::NOTTY) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Passes signals on to the child and reaps whatever has died, until the child has. What to exit with.
fn tend(child: libc::pid_t, all: &sigset_t) -> i32 {
    // Who looks for the service by its name is to find the service.
    // SAFETY: a system call that reads a constant.
    unsafe { libc::prctl(libc::PR_SET_NAME, c"init".as_ptr()) };
    loop {
        // SAFETY: a system call; the details of the signal are not asked for.
        let signal = unsafe { libc::sigwaitinfo(all, ptr::null_mut()) };
        if signal > 0 && !OWN.contains(&signal) {
            // SAFETY: a system call. The child has not been reaped, so that the number is its own.
            unsafe { libc::kill(child, signal) };
        }
        loop {
            match wait(WaitOptions::NOHANG) {
                Ok(Some((pid, status))) if pid.as_raw_nonzero().get() == child => {
                    return as_shell(status);
                }
                Ok(Some(_)) | Err(Errno::INTR) => {}
                Ok(None) => break,
                Err(_) => return UNKNOWN,
            }
        }
    }
}

/// Process 1 can't be ended by a signal as its child was.
fn as_shell(status: WaitStatus) -> i32 {
    let signalled = || status.terminating_signal().map(|signal| SIGNALLED + signal);
    status.exit_status().or_else(signalled).unwrap_or(UNKNOWN)
}
