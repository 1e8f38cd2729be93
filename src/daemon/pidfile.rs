//! The pidfile: a number and a newline, in a file that the service has locked.

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
use super::holder::Holder;
use crate::failpoint;
use crate::process::privileges::Identity;

/// So long a lock may be held by somebody whom the file does not name: a service that has just been
/// forked and has yet to write its pid, a controller that looks, a command that is between its fork
/// and its exec while its service dies.
const PATIENCE: Duration = Duration::from_secs(10);

/// So long a turn may take to come.
const TURN: Duration = Duration::from_secs(5);

/// Between two looks at a lock.
const AGAIN: Duration = Duration::from_millis(10);

/// More than any pid has, with its newline.
const MOST_BYTES: u64 = 32;

/// Why a pidfile can't be used.
#[derive(Debug, thiserror::Error)]
pub enum PidfileError {
    /// The system refuses it.
    #[error("the pidfile {0} can't be opened: {1}")]
    Refused(PathBuf, io::Error),
    /// Nothing can be made or removed beside it.
    #[error("the folder {0} of the pidfile can't be written to: {1}")]
    Folder(PathBuf, io::Error),
    /// A link may lead to a file that is not to be overwritten.
    #[error("the pidfile {0} is a symbolic link, and is not followed: name the file itself")]
    Link(PathBuf),
    /// Not a regular file.
    #[error("the pidfile {0} is {1}, not a file")]
    NotAFile(PathBuf, &'static str),
    /// Somebody else's file.
    #[error("the file {0} holds something else than a pid, and is left alone")]
    Garbage(PathBuf),
    /// Its file system knows no locks, for example.
    #[error("the pidfile {0} can't be locked: {1}")]
    Lock(PathBuf, io::Error),
    /// Held by nobody that can be seen: in another container, perhaps.
    #[error(
        "the pidfile {0} is locked by a process that it does not name, or that can't be seen from here"
    )]
    Nameless(PathBuf),
}

/// What a pidfile says.
#[derive(Debug)]
pub enum Found {
    /// No service, and no trace of one.
    Nothing,
    /// No service; one had this pid, and could not clear up after itself.
    Stale(i32),
    /// A service.
    Running(Holder),
}

/// What came of taking a pidfile.
#[derive(Debug)]
pub enum Claim {
    /// It is ours.
    Held(Held),
    /// A service has it.
    Running(Holder),
}

/// A pidfile that this process has locked, or that was locked for it before it was forked. The lock is
/// gone with the last process that has it open.
#[derive(Debug)]
pub struct Held {
    file: File,
    path: PathBuf,
}

/// Takes the pidfile at `path`, which must be absolute, and makes it if need be; it is empty then. `heir`
/// is whom it will be [given to](Held::give_to).
///
/// # Errors
/// When it can't be used, is held by somebody who can't be told, or is nothing that root may give away.
pub fn claim(path: &Path, heir: Option<&Identity>) -> Result<Claim, PidfileError> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let mut writable = options(true);
        let file = open(path, writable.create(true).mode(0o644))?;
        if try_lock(path, file.try_lock())? {
            if !is_still(path, &file) {
                continue;
            }
            read(path, &file)?;
            heir.map_or(Ok(false), |heir| heir.is_to_be_given(&file))
                .and_then(|_| file.set_len(0))
                .map_err(|error| PidfileError::Refused(path.to_owned(), error))?;
            failpoint::hit("daemon.claimed");
            return Ok(Claim::Held(Held {
                file,
                path: path.to_owned(),
            }));
        }
        drop(file);
        match look_once(path)? {
            Some(Found::Running(holder)) => return Ok(Claim::Running(holder)),
            // Its holder had the lock for a moment, or is not known yet.
            Some(Found::Nothing | Found::Stale(_)) | None => pause(path, deadline)?,
        }
    }
}

/// Looks whose the pidfile at `path` is.
///
/// # Errors
/// When it can't be used, or is held by somebody who can't be told.
pub fn look(path: &Path) -> Result<Found, PidfileError> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look_once(path)? {
            return Ok(found);
        }
        pause(path, deadline)?;
    }
}

/// Whether the next service can have its files beside the pidfile at `path`: it makes a control socket
/// there.
///
/// # Errors
/// When the folder may not be written to.
pub fn has_room(path: &Path) -> Result<(), PidfileError> {
    let folder = path.parent().unwrap_or(path);
    access(folder, Access::WRITE_OK | Access::EXEC_OK)
        .map_err(|error| PidfileError::Folder(folder.to_owned(), error.into()))
}

/// Removes what a service has left that is dead, so far as we may.
pub fn clear(path: &Path) {
    // Whatever stands in the way: who starts next takes the file over as it is.
    let Ok(file) = open(path, &mut options(true)) else {
        return;
    };
    if try_lock(path, file.try_lock()).unwrap_or(false)
        && is_still(path, &file)
        && read(path, &file).is_ok()
    {
        control::remove(path);
        remove_or_empty(path, &file);
    }
}

/// A controller's turn to stop a service: others that would stop it as well wait until it is over.
#[derive(Debug)]
pub struct Turn(File);

impl Turn {
    /// Waits for it; `None` if it does not come, which is no reason not to stop a service.
    #[must_use]
    pub fn wait(path: &Path) -> Option<Self> {
        let file = open(path, &mut options(true)).ok()?;
        let deadline = Instant::now() + TURN;
        // A lock of the other kind, which has nothing to do with the service's own.
        while fcntl_lock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
            pause(path, deadline).ok()?;
        }
        Some(Self(file))
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        // Closing the file would do as well.
        fcntl_lock(&self.0, FlockOperation::Unlock).unwrap_or_default();
    }
}

/// One look; `None` when it has to be repeated.
fn look_once(path: &Path) -> Result<Option<Found>, PidfileError> {
    let file = match open(path, &mut options(false)) {
        Err(PidfileError::Refused(_, error)) if error.kind() == io::ErrorKind::NotFound => {
            return Ok(Some(Found::Nothing));
        }
        file => file?,
    };
    let is_free = try_lock(path, file.try_lock_shared())?;
    if !is_still(path, &file) {
        return Ok(None);
    }
    let Some(pid) = read(path, &file)? else {
        return Ok(is_free.then_some(Found::Nothing));
    };
    if is_free {
        return Ok(Some(Found::Stale(pid)));
    }
    let holder = Holder::find(pid, path, &metadata(path, &file)?);
    // Still its number, and still its lock: then it was its all the while.
    let is_proven = holder.is_some()
        && !try_lock(path, file.try_lock_shared())?
        && read(path, &file)? == Some(pid)
        && is_still(path, &file);
    Ok(holder.filter(|_| is_proven).map(Found::Running))
}

impl Held {
    /// One that this process has locked before.
    pub(super) fn inherited(path: PathBuf, file: OwnedFd) -> Self {
        let file = File::from(file);
        Self { file, path }
    }

    /// Writes this process's pid into it.
    ///
    /// # Errors
    /// When the disk is full, for example.
    pub fn name_this_process(&self) -> Result<(), PidfileError> {
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

    /// Makes the file another user's, who is to hold it.
    ///
    /// # Errors
    /// When that is refused.
    pub fn give_to(&self, identity: &Identity) -> Result<(), PidfileError> {
        let given = identity.give(&self.file);
        given.map_err(|error| PidfileError::Refused(self.path.clone(), error))
    }

    /// Removes the file, or empties it where the directory is not ours to change, and gives up the
    /// lock.
    pub fn release(self) {
        failpoint::hit("daemon.over");
        if is_still(&self.path, &self.file) {
            remove_or_empty(&self.path, &self.file);
        }
    }
}

/// Under the lock, so that nobody else's file is removed.
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
            // A socket, or a device that nothing is behind.
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

/// Whether the lock was taken; else somebody has it.
fn try_lock(path: &Path, tried: Result<(), TryLockError>) -> Result<bool, PidfileError> {
    match tried {
        Ok(()) => Ok(true),
        Err(TryLockError::WouldBlock) => Ok(false),
        Err(TryLockError::Error(error)) => Err(PidfileError::Lock(path.to_owned(), error)),
    }
}

/// Whether the path still leads to the file that was opened: it may have been removed meanwhile, and
/// made anew by another.
fn is_still(path: &Path, file: &File) -> bool {
    let (Ok(there), Ok(here)) = (fs::symlink_metadata(path), file.metadata()) else {
        return false;
    };
    (there.dev(), there.ino()) == (here.dev(), here.ino())
}

/// The pid in the file; `None` if it is empty.
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

/// Reads without moving the file's own offset, which is shared with whoever forked us.
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

fn pause(path: &Path, deadline: Instant) -> Result<(), PidfileError> {
    if Instant::now() > deadline {
        return Err(PidfileError::Nameless(path.to_owned()));
    }
    sleep(AGAIN);
    Ok(())
}
