//! Why a message was not published.

use crate::store::StoreError;

/// Why a message was not published.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PublishError {
    /// The draft is not a valid message. Nothing is recorded.
    #[error("task {task:?}: {reason}")]
    Unfit {
        /// The task's name.
        task: String,
        /// What is wrong.
        reason: String,
    },
    /// The database is away, or refused a message. If the database went away while it recorded messages, it may
    /// have recorded more of them than `recorded` says: if they are published again, they may run twice.
    #[error("{source}")]
    Database {
        /// How many of the messages, the first ones, are recorded and will be published.
        recorded: usize,
        /// The database's error.
        source: StoreError,
    },
    /// The message is recorded and FAILED, because it can't be published.
    #[error("message {uuid} can't be published: {reason}")]
    Failed {
        /// The message's key.
        uuid: String,
        /// Why not.
        reason: String,
    },
    /// The system can't start the client's thread.
    #[error("no thread to publish on: {0}")]
    System(std::io::Error),
    /// The client's thread has ended. Whether the message is recorded is unknown.
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
