//! What can go wrong at the broker, by what the caller can do about it.

/// An error of the broker. Its text never holds a password.
#[derive(Debug, Clone, thiserror::Error)]
pub enum BrokerError {
    /// It is away, or the connection ended: connect again.
    #[error("{0}")]
    Away(String),
    /// It is there, and has ended the consuming: begin again. What was not settled is delivered again.
    #[error("{0}")]
    Ended(String),
    /// It is there, and the queue is not any more: begin again, which declares it. What was not settled
    /// is gone from the broker.
    #[error("{0}")]
    QueueGone(String),
    /// It answers and refuses: a declaration, a login, a permission. Nothing changes until somebody
    /// changes something.
    #[error("{0}")]
    Refused(String),
    /// It is there, and what it sends breaks the protocol, or it speaks another one: connect again, more
    /// and more slowly. What it breaks is said.
    #[error("{0}")]
    Protocol(String),
    /// It answers and does not permit what was asked for, which somebody may grant at any time.
    #[error("{0}")]
    Forbidden(String),
    /// This build can't speak to such a broker: nothing to retry.
    #[error("{0}")]
    Unsupported(String),
}
