//! A daemon of which a vital part has died executes its own program again: only that ends threads that are stuck
//! in the middle of something. It stays the same process, of the same user, and keeps its pidfile, whose lock
//! it never releases, its control socket and its log.
//!
//! What the new program needs is in a memory file without a name, since it contains passwords; an environment
//! variable holds the file's descriptor.
#![expect(
    unsafe_code,
    reason = "descriptors that were inherited have no safe form"
)]

mod children;
mod history;

use std::fs::{self, File};
use std::io::{self, Read, Seek, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::libc;
use rustix::fs::{MemfdFlags, memfd_create};
use rustix::io::{FdFlags, fcntl_setfd};
use serde::{Deserialize, Serialize};

pub use self::children::LeftoverChildren;
pub use self::history::DaemonHistory;
use super::control::{ControlServer, ControlSocket, SocketInode};
use super::pidfile::HeldPidfile;
use crate::failpoint;
use crate::logging::LogFile;
use crate::names::RESUMED_VARIABLE;
use crate::process::limits;

/// The program that this process runs, even if its file was moved or removed.
const PROGRAM: &str = "/proc/self/exe";

/// The memory file's label in lists of descriptors.
const MEMFD_NAME: &str = "carrot-actors";

/// What a restarted daemon keeps from its previous run.
pub struct ResumedDaemon {
    /// Its pidfile, which stayed locked.
    pub held: HeldPidfile,
    /// Its control socket, which is not answered on yet.
    pub socket: ControlSocket,
    /// Its log.
    pub log: LogFile,
    /// The commands of its tasks, and the process that kills them.
    pub children: LeftoverChildren,
    /// What it knows of its earlier runs.
    pub history: DaemonHistory,
}

/// The content of the memory file. Descriptors keep their numbers.
#[derive(Serialize, Deserialize)]
struct Handover {
    pidfile: PathBuf,
    held: RawFd,
    socket: RawFd,
    made: SocketInode,
    log_path: PathBuf,
    log: RawFd,
    children: LeftoverChildren,
    history: DaemonHistory,
}

/// Executes this program again in this process, with the same arguments and environment. Returns only if that
/// fails.
///
/// # Errors
/// When the system refuses something.
pub fn reexecute(
    held: &HeldPidfile,
    control: &ControlServer,
    log: &LogFile,
    history: DaemonHistory,
) -> io::Error {
    match prepare(held, control, log, history) {
        Ok(ready) => ready.execute(),
        Err(error) => error,
    }
}

/// All that [`reexecute`] needs once nothing but the exec can fail.
struct PreparedExec<'a> {
    kept: [BorrowedFd<'a>; 2],
    log: OwnedFd,
    handover: File,
}

fn prepare<'a>(
    held: &'a HeldPidfile,
    control: &'a ControlServer,
    log: &LogFile,
    history: DaemonHistory,
) -> io::Result<PreparedExec<'a>> {
    let (socket, made) = control.inheritable();
    let descriptor = log.descriptor()?;
    let handover = Handover {
        pidfile: held.path().to_owned(),
        held: held.fd().as_raw_fd(),
        socket: socket.as_raw_fd(),
        made,
        log_path: log.path().to_owned(),
        log: descriptor.as_raw_fd(),
        children: LeftoverChildren::of_this_process()?,
        history,
    };
    // Some systems require the seal, and older kernels don't know it.
    let memory = memfd_create(MEMFD_NAME, MemfdFlags::CLOEXEC | MemfdFlags::NOEXEC_SEAL)
        .or_else(|_| memfd_create(MEMFD_NAME, MemfdFlags::CLOEXEC))?;
    let mut file = File::from(memory);
    file.write_all(&serde_json::to_vec(&handover)?)?;
    Ok(PreparedExec {
        kept: [held.fd(), socket],
        log: descriptor,
        handover: file,
    })
}

impl PreparedExec<'_> {
    fn execute(&self) -> io::Error {
        if let Some(files) = limits::original()
            && let Err(error) = limits::restore(files)
        {
            log::debug!("the limit of open files is not restored: {error}");
        }
        let kept = [
            self.kept[0],
            self.kept[1],
            self.log.as_fd(),
            self.handover.as_fd(),
        ];
        let inherited = close_all_on_exec().and_then(|()| {
            let keep = |descriptor| fcntl_setfd(descriptor, FdFlags::empty());
            kept.into_iter().try_for_each(keep).map_err(io::Error::from)
        });
        if let Err(error) = inherited {
            return error;
        }
        // By its path if possible, since process lists show that.
        let by_name = own_path().map(|path| self.command(&path).exec());
        if let Some(error) = by_name {
            log::debug!("not executed by its name: {error}");
        }
        let error = self.command(Path::new(PROGRAM)).exec();
        for descriptor in kept {
            fcntl_setfd(descriptor, FdFlags::CLOEXEC).unwrap_or_default();
        }
        error
    }

    fn command(&self, program: &Path) -> Command {
        let mut arguments = std::env::args_os();
        let mut command = Command::new(program);
        if let Some(name) = arguments.next() {
            command.arg0(name);
        }
        let handover = format!("{} {}", std::process::id(), self.handover.as_raw_fd());
        command.args(arguments).env(RESUMED_VARIABLE, handover);
        failpoint::pass_on_to(&mut command);
        command
    }
}

/// The path of this program's file, if the file is still there.
fn own_path() -> Option<PathBuf> {
    let path = fs::read_link(PROGRAM).ok()?;
    let (there, ours) = (fs::metadata(&path).ok()?, fs::metadata(PROGRAM).ok()?);
    ((there.dev(), there.ino()) == (ours.dev(), ours.ino())).then_some(path)
}

/// Sets close-on-exec on all descriptors but the standard streams: a library may have opened some without it, such
/// as a database connection with an open transaction.
fn close_all_on_exec() -> io::Result<()> {
    let listed = fs::read_dir("/proc/self/fd")?;
    for entry in listed {
        let number = entry?
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok());
        if let Some(number) = number.filter(|number: &RawFd| *number > 2) {
            // SAFETY: a system call that takes the number, and fails if it is not open.
            unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) };
        }
    }
    Ok(())
}

/// What this process kept when it executed itself again, if it has. To be called before there are other
/// threads; only the first call returns it.
#[must_use]
pub fn take_resumed() -> Option<ResumedDaemon> {
    static ASKED: AtomicBool = AtomicBool::new(false);
    let said = std::env::var(RESUMED_VARIABLE).ok()?;
    let (pid, number) = said.split_once(' ')?;
    // The commands of such a daemon inherit the variable, which is not meant for them.
    if pid != std::process::id().to_string() || ASKED.swap(true, Ordering::AcqRel) {
        return None;
    }
    let handover = read(number.parse().ok()?)?;
    // SAFETY: the program that this process ran before left them open under these numbers for this purpose, and
    // nothing has closed or reused them since.
    let [held, socket, log] = [handover.held, handover.socket, handover.log]
        .map(|number| unsafe { OwnedFd::from_raw_fd(number) });
    for descriptor in [&held, &socket, &log] {
        fcntl_setfd(descriptor, FdFlags::CLOEXEC).ok()?;
    }
    restore_process_name();
    Some(ResumedDaemon {
        socket: ControlSocket::inherited(handover.pidfile.clone(), socket, handover.made),
        held: HeldPidfile::inherited(handover.pidfile, held),
        log: LogFile::inherited(handover.log_path, log.into()),
        children: handover.children,
        history: handover.history,
    })
}

fn read(number: RawFd) -> Option<Handover> {
    let target = fs::read_link(format!("/proc/self/fd/{number}")).ok()?;
    if !target
        .to_str()?
        .starts_with(&format!("/memfd:{MEMFD_NAME}"))
    {
        return None;
    }
    // SAFETY: it is a memory file with our label, so it is the one that was left under this number.
    let mut file = unsafe { File::from_raw_fd(number) };
    let mut text = Vec::new();
    file.rewind()
        .and_then(|()| file.read_to_end(&mut text))
        .ok()?;
    serde_json::from_slice(&text).ok()
}

/// Restores the process's name, so that it can be found by it: a program that was executed through `/proc/self/exe`
/// is called `exe`.
fn restore_process_name() {
    let called = fs::read_to_string("/proc/self/comm").unwrap_or_default();
    let name = std::env::args_os().next().map(PathBuf::from);
    if called.trim_end() == "exe"
        && let Some(name) = name.as_deref().and_then(Path::file_name)
        && let Err(error) = fs::write("/proc/self/comm", name.as_encoded_bytes())
    {
        log::debug!("this process is called {}: {error}", called.trim_end());
    }
}
