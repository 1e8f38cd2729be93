//! The broker's errors, classified by what the caller can do about them.

/// An error of the broker. Its text never holds a password.
#[derive(Debug, Clone, thiserror::Error)]
pub enum BrokerError {
    /// The broker is away, or the connection ended: connect again.
    #[error("{0}")]
    Away(String),
    /// The broker is there, and has ended the consuming: begin again. Unsettled messages are redelivered.
    #[error("{0}")]
    Ended(String),
    /// The broker is there, but the queue is gone: begin again, which declares it. The broker no longer has
    /// the unsettled messages.
    #[error("{0}")]
    QueueGone(String),
    /// The broker refuses a declaration, a login or a permission. Retrying fails until somebody changes the
    /// configuration or the broker.
    #[error("{0}")]
    Refused(String),
    /// The server breaks the protocol, or speaks another one: connect again, with backoff. The text names the
    /// violation.
    #[error("{0}")]
    Protocol(String),
    /// The broker does not permit the request; somebody may grant it at any time.
    #[error("{0}")]
    Forbidden(String),
    /// This build can't speak to such a broker: do not retry.
    #[error("{0}")]
    Unsupported(String),
}
