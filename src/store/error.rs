//! The errors of the database, by what the caller can do about them.

use crate::names;

/// An error of the store. Its text never holds a password.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The database is away, or refuses connections for now: connect again and retry.
    #[error("{0}")]
    Unavailable(String),
    /// The transaction conflicted with another: retry at once.
    #[error("{0}")]
    Conflict(String),
    /// The connection works, and the database refused the statement, most likely because of a value in it.
    #[error("{0}")]
    Refused(String),
    /// The connection works, and the database refused the statement. The reason may pass, such as a full disk or a
    /// lock, or be a value.
    #[error("{0}")]
    Unclear(String),
    /// The connection works, and the database sent a value that this program can't read.
    #[error("it holds a value that can't be read: {0}")]
    Unreadable(String),
    /// This program can't use such a database: a retry is pointless.
    #[error("{0}")]
    Unsupported(String),
    /// The database lacks a migration that this program needs.
    #[error("{0} is not up to date: run `{program} migrate`", program = names::program())]
    NotMigrated(String),
}

impl StoreError {
    /// Whether the database is reachable and a value made the statement fail.
    pub(crate) const fn is_value_error(&self) -> bool {
        matches!(self, Self::Refused(_) | Self::Unreadable(_))
    }

    /// Whether the database is reachable and refused the statement, because of a value or not.
    pub(crate) const fn is_refusal(&self) -> bool {
        self.is_value_error() || matches!(self, Self::Unclear(_))
    }
}
