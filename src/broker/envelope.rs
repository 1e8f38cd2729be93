//! A message as it came, before anybody has claimed it.

use std::mem;
use std::sync::{Mutex, OnceLock, PoisonError};

use crate::message::{Message, MessageRef, Payload, wire};

/// What a delivery is settled by. Only good on the channel that delivered it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct DeliveryHandle {
    /// The subscription's how-manieth connection.
    pub epoch: u64,
    /// The delivery on that connection.
    pub tag: u64,
}

/// What tells messages without an id apart, unless they are the same in everything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fingerprint(pub u128);

/// A message as it came from the broker.
#[derive(Debug)]
pub struct Envelope {
    /// What it is settled by.
    pub receipt: DeliveryHandle,
    /// Whether it was delivered before, to whomever.
    pub redelivered: bool,
    /// The message's key: its id, as far as the `uuid` column can hold it. One without an id gets a new key with
    /// each delivery.
    pub key: String,
    /// Of a message without an id: a digest of all that it is.
    pub fingerprint: Option<Fingerprint>,
    /// Whether its publisher writes its row, as django-carrot does: the `type` property says so.
    pub has_recorder: bool,
    /// The header that names the task, if it is a text.
    pub task: Option<String>,
    /// Why the message's headers can't be read: it must not be run.
    pub fault: Option<String>,
    /// The `priority` property, or 0.
    pub priority: u8,
    /// The exchange that it was published to. With the routing key it leads to the queue again: where
    /// these are no texts, they are the default exchange and the queue's name.
    pub exchange: String,
    /// The routing key that it was published with.
    pub routing_key: String,
    /// Its arguments.
    pub body: Body,
}

impl Envelope {
    /// A recorded message that is delivered for the first time.
    #[must_use]
    pub fn of(message: Message, receipt: DeliveryHandle) -> Self {
        Self {
            receipt,
            redelivered: false,
            key: message.key,
            fingerprint: None,
            has_recorder: true,
            task: Some(message.task),
            fault: None,
            priority: message.priority,
            exchange: message.exchange,
            routing_key: message.routing_key,
            body: message.arguments.into(),
        }
    }

    /// The message that came by `queue`, with these arguments.
    #[must_use]
    pub fn parts<'a>(&'a self, queue: &'a str, arguments: &'a Payload) -> MessageRef<'a> {
        MessageRef {
            key: &self.key,
            task: self.task.as_deref().unwrap_or_default(),
            arguments,
            queue,
            exchange: &self.exchange,
            routing_key: &self.routing_key,
            priority: self.priority,
            occurrence: None,
        }
    }
}

/// A message's body. It is decoded once, by whoever needs the arguments first: that is a consumer's thread, and
/// not the one that all of a queue's messages come by. What came is dropped then, unless it can't be read.
#[derive(Debug)]
pub struct Body {
    size: usize,
    /// What came, until it is decoded.
    raw: Mutex<Vec<u8>>,
    decoded: OnceLock<Result<Payload, Unreadable>>,
}

/// A body that can't be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unreadable {
    /// Why not, in words for the message's row.
    pub reason: String,
    /// The body.
    pub bytes: Vec<u8>,
}

impl Body {
    /// About how many bytes it takes as it came.
    #[must_use]
    pub const fn size(&self) -> usize {
        self.size
    }

    /// The arguments in it.
    ///
    /// # Errors
    /// When it can't be read.
    pub fn arguments(&self) -> Result<&Payload, &Unreadable> {
        self.decoded
            .get_or_init(|| {
                let mut raw = self.raw.lock().unwrap_or_else(PoisonError::into_inner);
                let bytes = mem::take(&mut *raw);
                wire::decode(&bytes).map_err(|error| Unreadable {
                    reason: error.to_string(),
                    bytes,
                })
            })
            .as_ref()
    }
}

/// From the bytes that the broker has delivered.
impl From<Vec<u8>> for Body {
    fn from(bytes: Vec<u8>) -> Self {
        Self {
            size: bytes.len(),
            raw: Mutex::new(bytes),
            decoded: OnceLock::new(),
        }
    }
}

/// From arguments that nobody has to decode.
impl From<Payload> for Body {
    fn from(arguments: Payload) -> Self {
        Self {
            size: arguments.size(),
            raw: Mutex::default(),
            decoded: Ok(arguments).into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn raw(body: &Body) -> Vec<u8> {
        body.raw.lock().unwrap().clone()
    }

    #[test]
    fn a_body_is_not_held_twice() {
        let body = Body::from(br#"{"args": [1]}"#.to_vec());
        assert_eq!((body.size(), raw(&body).len()), (13, 13));
        assert_eq!(body.arguments().unwrap().args, [json!(1)]);
        assert!(raw(&body).is_empty());
        let (one, other) = (body.arguments().unwrap(), body.arguments().unwrap());
        assert!(std::ptr::eq(one, other));
        assert_eq!(body.size(), 13);
    }

    #[test]
    fn a_body_that_can_not_be_read_is_kept() {
        let body = Body::from(b"[1".to_vec());
        let unreadable = body.arguments().unwrap_err();
        assert!(unreadable.reason.contains("not JSON"), "{unreadable:?}");
        assert_eq!(unreadable.bytes, b"[1");
    }

    #[test]
    fn what_is_decoded_already_is_as_it_was() {
        let payload = wire::decode(br#"{"kwargs": {"size": 2.50}}"#).unwrap();
        let body = Body::from(payload.clone());
        assert_eq!(body.arguments(), Ok(&payload));
    }
}
