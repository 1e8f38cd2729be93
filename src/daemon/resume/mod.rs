//! A daemon that has lost what it can't do without executes itself again: nothing else ends threads that
//! were left in the middle of something. It is the same process to everybody, of the same user and with the
//! same pidfile, whose lock it never lets go of, and with the same control socket and log.
//!
//! What it leaves to itself is in a file without a name, since it holds passwords; an environment variable says
//! which descriptor that is.
#![expect(
    unsafe_code,
    reason = "descriptors that were inherited have no safe form"
)]

mod children;
mod past;

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

pub use self::children::Children;
pub use self::past::Past;
use super::control::{Control, Made, Socket};
use super::pidfile::Held;
use crate::failpoint;
use crate::logging::LogFile;
use crate::names::RESUMED_VARIABLE;
use crate::process::limits;

/// The program that this process runs, whatever has become of its file.
const PROGRAM: &str = "/proc/self/exe";

/// What the file without a name is called where descriptors are listed.
const WILL: &str = "carrot-actors";

/// What a daemon that begins again has of itself.
pub struct Resumed {
    /// Its pidfile, locked all the while.
    pub held: Held,
    /// Its control socket, on which nobody answers yet.
    pub socket: Socket,
    /// Its log.
    pub log: LogFile,
    /// The commands that it had, and what kills them.
    pub children: Children,
    /// What it knows.
    pub past: Past,
}

/// By their numbers, which stay the same.
#[derive(Serialize, Deserialize)]
struct Will {
    pidfile: PathBuf,
    held: RawFd,
    socket: RawFd,
    made: Made,
    log_path: PathBuf,
    log: RawFd,
    children: Children,
    past: Past,
}

/// Executes this program anew in this process, with its arguments and its environment. Returns only if that
/// is not possible.
///
/// # Errors
/// When the system refuses something.
pub fn execute_again(held: &Held, control: &Control, log: &LogFile, past: Past) -> io::Error {
    match prepare(held, control, log, past) {
        Ok(ready) => ready.execute(),
        Err(error) => error,
    }
}

/// All that is left to do is to execute.
struct Ready<'a> {
    kept: [BorrowedFd<'a>; 2],
    log: OwnedFd,
    will: File,
}

fn prepare<'a>(
    held: &'a Held,
    control: &'a Control,
    log: &LogFile,
    past: Past,
) -> io::Result<Ready<'a>> {
    let (socket, made) = control.kept();
    let descriptor = log.descriptor()?;
    let will = Will {
        pidfile: held.path().to_owned(),
        held: held.fd().as_raw_fd(),
        socket: socket.as_raw_fd(),
        made,
        log_path: log.path().to_owned(),
        log: descriptor.as_raw_fd(),
        children: Children::of_this_process()?,
        past,
    };
    // Where the system asks for it, and where it does not know it.
    let memory = memfd_create(WILL, MemfdFlags::CLOEXEC | MemfdFlags::NOEXEC_SEAL)
        .or_else(|_| memfd_create(WILL, MemfdFlags::CLOEXEC))?;
    let mut file = File::from(memory);
    file.write_all(&serde_json::to_vec(&will)?)?;
    Ok(Ready {
        kept: [held.fd(), socket],
        log: descriptor,
        will: file,
    })
}

impl Ready<'_> {
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
            self.will.as_fd(),
        ];
        let inherited = close_all_on_exec().and_then(|()| {
            let keep = |descriptor| fcntl_setfd(descriptor, FdFlags::empty());
            kept.into_iter().try_for_each(keep).map_err(io::Error::from)
        });
        if let Err(error) = inherited {
            return error;
        }
        // By its name as long as there is one, which is what process lists show.
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
        let will = format!("{} {}", std::process::id(), self.will.as_raw_fd());
        command.args(arguments).env(RESUMED_VARIABLE, will);
        failpoint::pass_on_to(&mut command);
        command
    }
}

/// The path to this program's file, if it leads there still.
fn own_path() -> Option<PathBuf> {
    let path = fs::read_link(PROGRAM).ok()?;
    let (there, ours) = (fs::metadata(&path).ok()?, fs::metadata(PROGRAM).ok()?);
    ((there.dev(), there.ino()) == (ours.dev(), ours.ino())).then_some(path)
}

/// A library may have opened what is not closed by itself, as a connection to a database with a transaction.
fn close_all_on_exec() -> io::Result<()> {
    let listed = fs::read_dir("/proc/self/fd")?;
    for entry in listed {
        let number = entry?
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok());
        if let Some(number) = number.filter(|number: &RawFd| *number > 2) {
            // SAFETY: a system call, which goes by the number and does nothing where none is open.
            unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) };
        }
    }
    Ok(())
}

/// What this process has left to itself, if it was executed by itself. To be asked before there are other
/// threads; only the first call counts.
#[must_use]
pub fn resumed() -> Option<Resumed> {
    static ASKED: AtomicBool = AtomicBool::new(false);
    let said = std::env::var(RESUMED_VARIABLE).ok()?;
    let (pid, number) = said.split_once(' ')?;
    // Whom such a daemon has started inherits the variable, and means nothing by it.
    if pid != std::process::id().to_string() || ASKED.swap(true, Ordering::AcqRel) {
        return None;
    }
    let will = read(number.parse().ok()?)?;
    // SAFETY: they were left open for this, under these numbers, by the program that this process ran before,
    // and nothing has been opened or closed by them since.
    let [held, socket, log] =
        [will.held, will.socket, will.log].map(|number| unsafe { OwnedFd::from_raw_fd(number) });
    for descriptor in [&held, &socket, &log] {
        fcntl_setfd(descriptor, FdFlags::CLOEXEC).ok()?;
    }
    name_like_the_first();
    Some(Resumed {
        socket: Socket::inherited(will.pidfile.clone(), socket, will.made),
        held: Held::inherited(will.pidfile, held),
        log: LogFile::inherited(will.log_path, log.into()),
        children: will.children,
        past: will.past,
    })
}

fn read(number: RawFd) -> Option<Will> {
    let target = fs::read_link(format!("/proc/self/fd/{number}")).ok()?;
    if !target.to_str()?.starts_with(&format!("/memfd:{WILL}")) {
        return None;
    }
    // SAFETY: as it is such a file, it is what was left under this number.
    let mut file = unsafe { File::from_raw_fd(number) };
    let mut text = Vec::new();
    file.rewind()
        .and_then(|()| file.read_to_end(&mut text))
        .ok()?;
    serde_json::from_slice(&text).ok()
}

/// A program that was executed by its link is called as that: who looks for it by its name is to find it.
fn name_like_the_first() {
    let called = fs::read_to_string("/proc/self/comm").unwrap_or_default();
    let name = std::env::args_os().next().map(PathBuf::from);
    if called.trim_end() == "exe"
        && let Some(name) = name.as_deref().and_then(Path::file_name)
        && let Err(error) = fs::write("/proc/self/comm", name.as_encoded_bytes())
    {
        log::debug!("this process is called {}: {error}", called.trim_end());
    }
}
