//! Why a message was not published.

use crate::store::StoreError;

/// Why a message was not published.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PublishError {
    /// It can't be a message: nothing is recorded.
    #[error("task {task:?}: {reason}")]
    Unfit {
        /// The task's name.
        task: String,
        /// What is wrong.
        reason: String,
    },
    /// The database is away, or refused it. If it went away just then, one message more than it says
    /// may be recorded: what is tried again may be run twice.
    #[error("{source}")]
    Database {
        /// So many of the messages, the first ones, are recorded and will be published.
        recorded: usize,
        /// What the database said.
        source: StoreError,
    },
    /// It is recorded, and FAILED, since it can't be published.
    #[error("message {uuid} can't be published: {reason}")]
    Failed {
        /// Its key.
        uuid: String,
        /// Why not.
        reason: String,
    },
    /// The system has no thread left.
    #[error("no thread to publish on: {0}")]
    System(std::io::Error),
    /// The client's thread has ended; it is not known whether the message is recorded.
    #[error("the client's thread has ended")]
    Ended,
}

impl From<StoreError> for PublishError {
    fn from(source: StoreError) -> Self {
        Self::Database {
            recorded: 0,
            source,
        }
    }
}
