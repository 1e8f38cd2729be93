//! The pidfile: a number and a newline, in a file that the service keeps locked.

use std::fs::{self, File, Metadata, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::fs::{Access, FlockOperation, OFlags, access, fcntl_lock};
use rustix::io::Errno;

use super::control;
use super::holder::PidfileHolder;
use crate::failpoint;
use crate::process::privileges::Identity;

/// How long a process that the file does not name may hold the lock: a service that was just forked and has not
/// written its pid yet, a controller that inspects the file, or a command between its fork and its exec while
/// its service dies.
const UNNAMED_LOCK_TIMEOUT: Duration = Duration::from_secs(10);

/// How long to wait for other controllers that stop the service.
const STOP_TURN_TIMEOUT: Duration = Duration::from_secs(5);

/// How often a lock is tried.
const POLL_INTERVAL: Duration = Duration::from_millis(10);

/// More bytes than a pid and its newline have.
const MOST_BYTES: u64 = 32;

/// Why a pidfile can't be used.
#[derive(Debug, thiserror::Error)]
pub enum PidfileError {
    /// The system refuses to open it.
    #[error("the pidfile {0} can't be opened: {1}")]
    Refused(PathBuf, io::Error),
    /// No file can be made or removed beside it.
    #[error("the folder {0} of the pidfile can't be written to: {1}")]
    Folder(PathBuf, io::Error),
    /// A link could lead to a file that must not be overwritten.
    #[error("the pidfile {0} is a symbolic link, and is not followed: name the file itself")]
    Link(PathBuf),
    /// Not a regular file.
    #[error("the pidfile {0} is {1}, not a file")]
    NotAFile(PathBuf, &'static str),
    /// Another program's file.
    #[error("the file {0} holds something else than a pid, and is left alone")]
    Garbage(PathBuf),
    /// It can't be locked: its file system has no locks, for example.
    #[error("the pidfile {0} can't be locked: {1}")]
    Lock(PathBuf, io::Error),
    /// Locked by a process that can't be seen: in another container, perhaps.
    #[error(
        "the pidfile {0} is locked by a process that it does not name, or that can't be seen from here"
    )]
    Nameless(PathBuf),
}

/// Whether a service holds the pidfile.
#[derive(Debug)]
pub enum PidfileState {
    /// No service runs, and none has left a pid.
    Nothing,
    /// No service runs. One with this pid has died and left the file.
    Stale(i32),
    /// A service runs.
    Running(PidfileHolder),
}

/// The result of claiming a pidfile.
#[derive(Debug)]
pub enum PidfileClaim {
    /// This process holds it now.
    Held(HeldPidfile),
    /// A service holds it.
    Running(PidfileHolder),
}

/// A pidfile that this process, or its parent before the fork, has locked. The lock ends with the last process
/// that has the file open.
#[derive(Debug)]
pub struct HeldPidfile {
    file: File,
    path: PathBuf,
}

/// Locks the pidfile at `path`, which must be absolute, and empties it; makes it if there is none. `heir`
/// is the user whom it will be [given to](HeldPidfile::give_to).
///
/// # Errors
/// When the file can't be used, its holder can't be identified, or root must not give the file away.
pub fn claim(path: &Path, heir: Option<&Identity>) -> Result<PidfileClaim, PidfileError> {
    let deadline = Instant::now() + UNNAMED_LOCK_TIMEOUT;
    loop {
        let mut writable = options(true);
        let file = open(path, writable.create(true).mode(0o644))?;
        if try_lock(path, file.try_lock())? {
            if !is_same_file(path, &file) {
                continue;
            }
            read(path, &file)?;
            heir.map_or(Ok(false), |heir| heir.must_be_given(&file))
                .and_then(|_| file.set_len(0))
                .map_err(|error| PidfileError::Refused(path.to_owned(), error))?;
            failpoint::hit("daemon.claimed");
            return Ok(PidfileClaim::Held(HeldPidfile {
                file,
                path: path.to_owned(),
            }));
        }
        drop(file);
        match inspect_once(path)? {
            Some(PidfileState::Running(holder)) => return Ok(PidfileClaim::Running(holder)),
            // The lock was held only for a moment, or its holder is not known yet.
            Some(PidfileState::Nothing | PidfileState::Stale(_)) | None => {
                poll_again(path, deadline)?
            }
        }
    }
}

/// Finds out whether a service holds the pidfile at `path`.
///
/// # Errors
/// When the file can't be used, or its holder can't be identified.
pub fn inspect(path: &Path) -> Result<PidfileState, PidfileError> {
    let deadline = Instant::now() + UNNAMED_LOCK_TIMEOUT;
    loop {
        if let Some(found) = inspect_once(path)? {
            return Ok(found);
        }
        poll_again(path, deadline)?;
    }
}

/// Checks that the next service can make its control socket beside the pidfile at `path`.
///
/// # Errors
/// When the folder may not be written to.
pub fn ensure_folder_writable(path: &Path) -> Result<(), PidfileError> {
    let folder = path.parent().unwrap_or(path);
    access(folder, Access::WRITE_OK | Access::EXEC_OK)
        .map_err(|error| PidfileError::Folder(folder.to_owned(), error.into()))
}

/// Removes the pidfile and the control socket of a dead service, as far as we may.
pub fn remove_stale(path: &Path) {
    // Errors don't matter: the next service takes the file over as it is.
    let Ok(file) = open(path, &mut options(true)) else {
        return;
    };
    if try_lock(path, file.try_lock()).unwrap_or(false)
        && is_same_file(path, &file)
        && read(path, &file).is_ok()
    {
        control::remove(path);
        remove_or_empty(path, &file);
    }
}

/// A controller's turn to stop a service: other controllers that want to stop it wait until this is dropped.
#[derive(Debug)]
pub struct StopTurn(File);

impl StopTurn {
    /// Waits for the turn. `None` if it does not come in time: the service is stopped all the same.
    #[must_use]
    pub fn wait(path: &Path) -> Option<Self> {
        let file = open(path, &mut options(true)).ok()?;
        let deadline = Instant::now() + STOP_TURN_TIMEOUT;
        // An fcntl(2) lock, which is independent of the service's flock(2).
        while fcntl_lock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
            poll_again(path, deadline).ok()?;
        }
        Some(Self(file))
    }
}

impl Drop for StopTurn {
    fn drop(&mut self) {
        // Closing the file would do as well.
        fcntl_lock(&self.0, FlockOperation::Unlock).unwrap_or_default();
    }
}

/// Inspects the pidfile once; `None` if that must be repeated.
fn inspect_once(path: &Path) -> Result<Option<PidfileState>, PidfileError> {
    let file = match open(path, &mut options(false)) {
        Err(PidfileError::Refused(_, error)) if error.kind() == io::ErrorKind::NotFound => {
            return Ok(Some(PidfileState::Nothing));
        }
        file => file?,
    };
    let is_free = try_lock(path, file.try_lock_shared())?;
    if !is_same_file(path, &file) {
        return Ok(None);
    }
    let Some(pid) = read(path, &file)? else {
        return Ok(is_free.then_some(PidfileState::Nothing));
    };
    if is_free {
        return Ok(Some(PidfileState::Stale(pid)));
    }
    let holder = PidfileHolder::identify(pid, path, &metadata(path, &file)?);
    // If the pid and the lock are still there, the process held the lock all the time.
    let is_proven = holder.is_some()
        && !try_lock(path, file.try_lock_shared())?
        && read(path, &file)? == Some(pid)
        && is_same_file(path, &file);
    Ok(holder.filter(|_| is_proven).map(PidfileState::Running))
}

impl HeldPidfile {
    /// The pidfile that this process locked before it executed itself again.
    pub(super) fn inherited(path: PathBuf, file: OwnedFd) -> Self {
        let file = File::from(file);
        Self { file, path }
    }

    /// Writes this process's pid into it.
    ///
    /// # Errors
    /// When the disk is full, for example.
    pub fn write_pid(&self) -> Result<(), PidfileError> {
        failpoint::hit("daemon.bound");
        let line = format!("{}\n", std::process::id());
        self.file
            .set_len(0)
            .and_then(|()| self.file.write_all_at(line.as_bytes(), 0))
            .and_then(|()| (&self.file).flush())
            .map_err(|error| PidfileError::Refused(self.path.clone(), error))
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The open file.
    #[must_use]
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    /// Gives the file to the user that the service is going to be.
    ///
    /// # Errors
    /// When that is refused.
    pub fn give_to(&self, identity: &Identity) -> Result<(), PidfileError> {
        let given = identity.give(&self.file);
        given.map_err(|error| PidfileError::Refused(self.path.clone(), error))
    }

    /// Removes the file, or empties it if we may not change the directory, and releases the lock.
    pub fn release(self) {
        failpoint::hit("daemon.over");
        if is_same_file(&self.path, &self.file) {
            remove_or_empty(&self.path, &self.file);
        }
    }
}

/// To be called with the lock held, so that no other service's file is removed.
fn remove_or_empty(path: &Path, file: &File) {
    let removed = fs::remove_file(path).or_else(|_| file.set_len(0));
    if let Err(error) = removed {
        log::warn!("the pidfile {} can't be removed: {error}", path.display());
    }
}

fn options(writable: bool) -> OpenOptions {
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
    let mut options = OpenOptions::new();
    options
        .read(true)
        .write(writable)
        .custom_flags(flags.bits().cast_signed());
    options
}

fn open(path: &Path, options: &mut OpenOptions) -> Result<File, PidfileError> {
    let file = options.open(path).map_err(|error| {
        let path = path.to_owned();
        match Errno::from_io_error(&error) {
            Some(Errno::LOOP) => PidfileError::Link(path),
            Some(Errno::ISDIR) => PidfileError::NotAFile(path, "a directory"),
            // A socket, or a device node without a device.
            Some(Errno::NXIO) => PidfileError::NotAFile(path, "a socket or device"),
            _ => PidfileError::Refused(path, error),
        }
    })?;
    let kind = metadata(path, &file)?.file_type();
    if kind.is_file() {
        return Ok(file);
    }
    let what = if kind.is_dir() {
        "a directory"
    } else if kind.is_fifo() {
        "a pipe"
    } else {
        "a device"
    };
    Err(PidfileError::NotAFile(path.to_owned(), what))
}

fn metadata(path: &Path, file: &File) -> Result<Metadata, PidfileError> {
    file.metadata()
        .map_err(|error| PidfileError::Refused(path.to_owned(), error))
}

/// Whether the lock was taken; `false` if another process holds it.
fn try_lock(path: &Path, tried: Result<(), TryLockError>) -> Result<bool, PidfileError> {
    match tried {
        Ok(()) => Ok(true),
        Err(TryLockError::WouldBlock) => Ok(false),
        Err(TryLockError::Error(error)) => Err(PidfileError::Lock(path.to_owned(), error)),
    }
}

/// Whether the path still leads to the opened file: another process may have removed or replaced it.
fn is_same_file(path: &Path, file: &File) -> bool {
    let (Ok(there), Ok(here)) = (fs::symlink_metadata(path), file.metadata()) else {
        return false;
    };
    (there.dev(), there.ino()) == (here.dev(), here.ino())
}

/// The pid in the file; `None` if the file is empty.
fn read(path: &Path, file: &File) -> Result<Option<i32>, PidfileError> {
    let mut text = String::new();
    let mut reader = FromStart { file, offset: 0 }.take(MOST_BYTES);
    let garbage = || PidfileError::Garbage(path.to_owned());
    match reader.read_to_string(&mut text) {
        Err(error) if error.kind() == io::ErrorKind::InvalidData => return Err(garbage()),
        Err(error) => return Err(PidfileError::Refused(path.to_owned(), error)),
        Ok(0) => return Ok(None),
        Ok(_) => {}
    }
    let is_number = |text: &&str| text.bytes().all(|byte| byte.is_ascii_digit());
    Some(text.trim_end())
        .filter(is_number)
        .and_then(|text| text.parse().ok())
        .filter(|pid| *pid > 0)
        .map(Some)
        .ok_or_else(garbage)
}

/// Reads without moving the file's offset, which is shared with the process that forked us.
struct FromStart<'a> {
    file: &'a File,
    offset: u64,
}

impl Read for FromStart<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read_at(buffer, self.offset)?;
        self.offset += count as u64;
        Ok(count)
    }
}

/// Sleeps until the lock is to be tried again; an error once `deadline` has passed.
fn poll_again(path: &Path, deadline: Instant) -> Result<(), PidfileError> {
    if Instant::now() > deadline {
        return Err(PidfileError::Nameless(path.to_owned()));
    }
    sleep(POLL_INTERVAL);
    Ok(())
}
