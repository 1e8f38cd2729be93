//! What the embedded broker needs of the database.

use crate::broker::BrokerError;
use crate::message::Message;

/// The waiting messages in the database, for one worker.
pub trait QueueStore: Send + Sync {
    /// Opens a connection.
    ///
    /// # Errors
    /// When the database is away or refuses us.
    fn connect(&self) -> Result<Box<dyn QueueSession>, BrokerError>;
}

/// A connection to the database, for one thread.
pub trait QueueSession {
    /// Takes up to `limit` messages that wait in a queue: the highest priority first, then the oldest. No other
    /// live worker takes them until they are put back.
    ///
    /// # Errors
    /// When the database is away; the messages may have been taken then.
    fn take(&mut self, queue: &str, limit: usize) -> Result<Vec<Message>, BrokerError>;

    /// Puts back messages that this worker took, unless they have been claimed since.
    ///
    /// # Errors
    /// When the database is away.
    fn put_back(&mut self, keys: &[String]) -> Result<(), BrokerError>;

    /// Puts back all messages that this worker took from a queue, unless they have been claimed since.
    ///
    /// # Errors
    /// When the database is away.
    fn put_back_all(&mut self, queue: &str) -> Result<(), BrokerError>;

    /// How many messages wait in a queue.
    ///
    /// # Errors
    /// When the database is away.
    fn depth(&mut self, queue: &str) -> Result<u32, BrokerError>;
}
