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

/// A log file, to which lines are appended. Clones share the file.
#[derive(Debug, Clone)]
pub struct LogFile(Arc<NamedFile>);

#[derive(Debug)]
struct NamedFile {
    path: PathBuf,
    file: Mutex<File>,
}

impl LogFile {
    /// Opens the file, or makes it. The path stays valid when the process changes its directory.
    ///
    /// # Errors
    /// When it can't be opened for writing.
    pub fn open(path: &Path) -> io::Result<Self> {
        Self::open_by(path, |path| append_options().open(path))
    }

    /// Opens the file as root for the user that the process is going to be, and gives it to that user.
    ///
    /// # Errors
    /// When it can't be opened, or root must not give it away.
    pub(crate) fn open_for(identity: &Identity, path: &Path) -> io::Result<Self> {
        Self::open_by(path, |path| identity.open(&mut append_options(), path))
    }

    fn open_by(path: &Path, open: impl FnOnce(&Path) -> io::Result<File>) -> io::Result<Self> {
        let path = std::path::absolute(path)?;
        let file = Mutex::new(blocking(open(&path)?)?);
        Ok(Self(Arc::new(NamedFile { path, file })))
    }

    /// The file that this process opened before it executed itself again.
    pub(crate) fn inherited(path: PathBuf, file: File) -> Self {
        let file = Mutex::new(file);
        Self(Arc::new(NamedFile { path, file }))
    }

    /// Another descriptor of the open file, for [`LogFile::inherited`].
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

    /// Opens the file at the path again, or makes it, since the old one was moved away. A line goes entirely to the
    /// old file or to the new one.
    ///
    /// # Errors
    /// When it can't be opened for writing; then lines still go to the old file.
    pub fn reopen(&self) -> io::Result<()> {
        let file = blocking(append_options().open(&self.0.path)?)?;
        *self.lock() = file;
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, File> {
        self.0.file.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Refuses a FIFO without a reader (`ENXIO`) rather than waits for a reader.
fn append_options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.create(true).append(true);
    options.custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY);
    options
}

/// Makes writes block: only the open must not. A slow reader of a FIFO loses no line.
fn blocking(file: File) -> io::Result<File> {
    let flags = fcntl_getfl(&file)?;
    fcntl_setfl(&file, flags.difference(OFlags::NONBLOCK))?;
    Ok(file)
}

impl Write for LogFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.lock().write(bytes)
    }

    /// A line is written by one call, so it stays in one file.
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
        // More than the FIFO holds.
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
