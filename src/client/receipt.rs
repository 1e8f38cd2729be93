//! Receipts of recorded messages.

/// A recorded message. It will be published even if the program dies.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Receipt {
    /// The message's key: the `uuid` of its row, and the message id on the broker.
    pub uuid: String,
    /// How far its delivery has come.
    pub state: Delivery,
}

/// How far the delivery of a recorded message has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Delivery {
    /// The broker has the message.
    Published,
    /// The message is not due yet. A service will publish it.
    Delayed,
    /// The broker may not have the message yet, for this reason. A service will publish it.
    Waiting(String),
    /// The message can't be published, for this reason. It is FAILED.
    Failed(String),
}
