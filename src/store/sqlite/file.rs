//! Where a SQLite database's file is.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::Access;
use rustix::io::Errno;

use crate::config::DatabaseUrl;
use crate::process::privileges;
use crate::store::StoreError;
use crate::store::turns::Turns;

/// A database's file.
#[derive(Clone)]
pub(in crate::store) struct SqliteFile {
    pub(super) path: PathBuf,
    pub(super) turns: Arc<Turns>,
}

impl SqliteFile {
    pub(in crate::store) fn new(url: &DatabaseUrl) -> Self {
        Self {
            path: url.sqlite_file().map(PathBuf::from).unwrap_or_default(),
            turns: Arc::default(),
        }
    }

    /// Fails if this user may not write the file, which no retry cures. SQLite's own errors for that are the same as
    /// those of transient faults: the file can't be opened, or is read-only.
    pub(super) fn check_access(&self) -> Result<(), StoreError> {
        let is_denied =
            |path: &Path, access| rustix::fs::access(path, access) == Err(Errno::ACCESS);
        let directory = self
            .path
            .parent()
            .filter(|path| !path.as_os_str().is_empty());
        let directory = directory.unwrap_or(Path::new("."));
        let to_write = Access::READ_OK | Access::WRITE_OK;
        let what = if is_denied(directory, Access::WRITE_OK | Access::EXEC_OK) {
            "the directory of the database file"
        } else if is_denied(&self.path, to_write) {
            "the database file"
        } else {
            return Ok(());
        };
        Err(StoreError::Unsupported(format!(
            "{what} {} can't be written by {}: give it to that user, or set another database_url",
            self.path.display(),
            privileges::this_user()
        )))
    }

    /// Why the file can't be opened.
    pub(super) fn open_error(&self, error: impl ToString) -> StoreError {
        let directory = self.path.parent();
        if directory.is_some_and(|directory| !directory.is_dir()) {
            return StoreError::Unsupported(format!(
                "the directory of the database file {} does not exist: create it, or set another \
                 database_url",
                self.path.display()
            ));
        }
        StoreError::Unavailable(error.to_string())
    }

    pub(super) fn describe(&self) -> String {
        format!("sqlite://{}", self.path.display())
    }
}
