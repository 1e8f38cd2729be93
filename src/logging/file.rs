//! The log file.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;

/// A log file that lines are appended to.
#[derive(Debug)]
pub struct LogFile(File);

impl LogFile {
    /// Opens the file, or makes it.
    ///
    /// # Errors
    /// When it can't be opened for writing.
    pub fn open(path: &Path) -> io::Result<Self> {
        OpenOptions::new()
            .create(true)
            .append(true)
            .open(path)
            .map(Self)
    }
}

impl Write for LogFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}
