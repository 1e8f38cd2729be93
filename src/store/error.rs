//! What can go wrong at the database, by what the caller can do about it.

use crate::names;

/// An error of the store. Its text never holds a password.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The database is away, or refuses us for now: connect again and retry.
    #[error("{0}")]
    Unavailable(String),
    /// The transaction met another: retry at once.
    #[error("{0}")]
    Conflict(String),
    /// The connection is fine, and the database refused the statement: a value in it, most likely.
    #[error("{0}")]
    Refused(String),
    /// The connection is fine, and the database refused the statement for a reason that may pass: a
    /// full disk or a lock, as well as a value.
    #[error("{0}")]
    Unclear(String),
    /// The connection is fine, and the database sent a value that this program can't read.
    #[error("it holds a value that can't be read: {0}")]
    Unreadable(String),
    /// This program can't use such a database: nothing to retry.
    #[error("{0}")]
    Unsupported(String),
    /// The tables are not as this program needs them.
    #[error("{0} is not up to date: run `{program} migrate`", program = names::program())]
    NotMigrated(String),
}

impl StoreError {
    /// Whether the database is there, and it is a value that keeps a statement from its end.
    pub(crate) const fn is_value_error(&self) -> bool {
        matches!(self, Self::Refused(_) | Self::Unreadable(_))
    }

    /// Whether the database is there and does not do as it is told, be it for a value or not.
    pub(crate) const fn is_refusal(&self) -> bool {
        self.is_value_error() || matches!(self, Self::Unclear(_))
    }
}
