//! The log file.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use nix::libc;
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};

use crate::process::privileges::Identity;

/// A log file that lines are appended to. Clones are the same file.
#[derive(Debug, Clone)]
pub struct LogFile(Arc<Named>);

#[derive(Debug)]
struct Named {
    path: PathBuf,
    file: Mutex<File>,
}

impl LogFile {
    /// Opens the file, or makes it. It goes by this path also when the process is elsewhere later.
    ///
    /// # Errors
    /// When it can't be opened for writing.
    pub fn open(path: &Path) -> io::Result<Self> {
        Self::open_by(path, |path| appending().open(path))
    }

    /// The same as root, for the user that the process is going to be: the file becomes the user's.
    ///
    /// # Errors
    /// When it can't be opened, or root must not give it away.
    pub(crate) fn open_for(identity: &Identity, path: &Path) -> io::Result<Self> {
        Self::open_by(path, |path| identity.open(&mut appending(), path))
    }

    fn open_by(path: &Path, open: impl FnOnce(&Path) -> io::Result<File>) -> io::Result<Self> {
        let path = std::path::absolute(path)?;
        let file = Mutex::new(waited_for(open(&path)?)?);
        Ok(Self(Arc::new(Named { path, file })))
    }

    /// What this process has opened before, and goes on with.
    pub(crate) fn inherited(path: PathBuf, file: File) -> Self {
        let file = Mutex::new(file);
        Self(Arc::new(Named { path, file }))
    }

    /// Another descriptor of what is open, for [`LogFile::inherited`].
    ///
    /// # Errors
    /// When the system has none left.
    pub(crate) fn descriptor(&self) -> io::Result<OwnedFd> {
        self.lock().try_clone().map(OwnedFd::from)
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0.path
    }

    /// Goes on with the file that has the path now, or makes one: the other was moved away. A line is
    /// written to the one or to the other.
    ///
    /// # Errors
    /// When it can't be opened for writing; lines go where they went, then.
    pub fn reopen(&self) -> io::Result<()> {
        let file = waited_for(appending().open(&self.0.path)?)?;
        *self.lock() = file;
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, File> {
        self.0.file.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A FIFO without a reader is refused (`ENXIO`) rather than waited for.
fn appending() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.create(true).append(true);
    options.custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY);
    options
}

/// What is open: only to open it was not to wait. No line is lost to a reader that is slow.
fn waited_for(file: File) -> io::Result<File> {
    let flags = fcntl_getfl(&file)?;
    fcntl_setfl(&file, flags.difference(OFlags::NONBLOCK))?;
    Ok(file)
}

impl Write for LogFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.lock().write(bytes)
    }

    /// A line comes as one call, and stays in one file.
    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.lock().write_all(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.lock().flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn what_is_written_after_a_rename_goes_to_the_old_file_until_it_is_reopened() {
        let directory = tempfile::tempdir().unwrap();
        let (path, moved) = (directory.path().join("a.log"), directory.path().join("b"));
        let mut log = LogFile::open(&path).unwrap();
        log.write_all(b"1\n").unwrap();
        fs::rename(&path, &moved).unwrap();
        log.write_all(b"2\n").unwrap();
        log.clone().reopen().unwrap();
        log.write_all(b"3\n").unwrap();
        assert_eq!(fs::read_to_string(&moved).unwrap(), "1\n2\n");
        assert_eq!(fs::read_to_string(&path).unwrap(), "3\n");
    }

    #[test]
    fn a_fifo_without_a_reader_is_refused_and_one_with_a_reader_gets_all_lines() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.log");
        rustix::fs::mkfifoat(rustix::fs::CWD, &path, rustix::fs::Mode::RWXU).unwrap();
        let error = LogFile::open(&path).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ENXIO), "{error}");

        let from = path.clone();
        let reader = std::thread::spawn(move || fs::read(from).unwrap());
        let mut log = loop {
            match LogFile::open(&path) {
                Ok(log) => break log,
                Err(error) => assert_eq!(error.raw_os_error(), Some(libc::ENXIO), "{error}"),
            }
            std::thread::yield_now();
        };
        // More than it holds.
        let lines = vec![b'x'; 1 << 20];
        log.write_all(&lines).unwrap();
        drop(log);
        assert!(reader.join().unwrap() == lines);
    }

    #[test]
    fn a_file_that_can_not_be_reopened_goes_on() {
        let directory = tempfile::tempdir().unwrap();
        let (folder, moved) = (directory.path().join("logs"), directory.path().join("old"));
        fs::create_dir(&folder).unwrap();
        let mut log = LogFile::open(&folder.join("a.log")).unwrap();
        fs::rename(&folder, &moved).unwrap();
        assert!(log.reopen().is_err());
        log.write_all(b"1\n").unwrap();
        assert_eq!(fs::read_to_string(moved.join("a.log")).unwrap(), "1\n");
    }
}
