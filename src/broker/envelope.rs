//! A message as the broker delivered it, before anybody has claimed it.

use std::mem;
use std::sync::{Mutex, OnceLock, PoisonError};

use crate::message::{Message, MessageRef, Payload, wire};

/// Identifies a delivery, to settle it. Valid only on the channel that delivered it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct DeliveryHandle {
    /// The number of the subscription's connection.
    pub epoch: u64,
    /// The delivery's number on that connection.
    pub tag: u64,
}

/// A digest that tells messages without an id apart. Messages that are equal in every part share it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fingerprint(pub u128);

/// A message as the broker delivered it.
#[derive(Debug)]
pub struct Envelope {
    /// Identifies the delivery, to settle it.
    pub handle: DeliveryHandle,
    /// Whether the broker delivered it before, to any consumer.
    pub redelivered: bool,
    /// The message's key: its id, as far as the `uuid` column can hold it. A message without an id gets a new
    /// key with each delivery.
    pub key: String,
    /// The digest of a message without an id.
    pub fingerprint: Option<Fingerprint>,
    /// Whether the publisher writes the message's row, as django-carrot does. The `type` property says so.
    pub publisher_writes_row: bool,
    /// The value of the header that names the task, if it is a string.
    pub task: Option<String>,
    /// Why the message's headers can't be read. Such a message must not be run.
    pub headers_fault: Option<String>,
    /// The `priority` property, or 0.
    pub priority: u8,
    /// The exchange that it was published to. Together with the routing key it leads to the queue again: if
    /// they are not UTF-8, they are replaced by the default exchange and the queue's name.
    pub exchange: String,
    /// The routing key that it was published with.
    pub routing_key: String,
    /// The message's arguments.
    pub body: EnvelopeBody,
}

impl Envelope {
    /// The envelope of a recorded message that is delivered for the first time.
    #[must_use]
    pub fn of_recorded(message: Message, handle: DeliveryHandle) -> Self {
        Self {
            handle,
            redelivered: false,
            key: message.key,
            fingerprint: None,
            publisher_writes_row: true,
            task: Some(message.task),
            headers_fault: None,
            priority: message.priority,
            exchange: message.exchange,
            routing_key: message.routing_key,
            body: message.arguments.into(),
        }
    }

    /// The parts of this message, which came by `queue` with these arguments.
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

/// A message's body. The first caller that needs the arguments decodes it, once: a consumer's thread, not the
/// thread that receives all of a queue's messages. Decoding drops the original bytes, unless it fails.
#[derive(Debug)]
pub struct EnvelopeBody {
    size: usize,
    /// The original bytes, until they are decoded.
    raw: Mutex<Vec<u8>>,
    decoded: OnceLock<Result<Payload, UnreadableBody>>,
}

/// A body that can't be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnreadableBody {
    /// The reason, worded for the message's row.
    pub reason: String,
    /// The original bytes.
    pub bytes: Vec<u8>,
}

impl EnvelopeBody {
    /// The approximate size in bytes as delivered.
    #[must_use]
    pub const fn size(&self) -> usize {
        self.size
    }

    /// The arguments in the body.
    ///
    /// # Errors
    /// When the body can't be read.
    pub fn arguments(&self) -> Result<&Payload, &UnreadableBody> {
        self.decoded
            .get_or_init(|| {
                let mut raw = self.raw.lock().unwrap_or_else(PoisonError::into_inner);
                let bytes = mem::take(&mut *raw);
                wire::decode(&bytes).map_err(|error| UnreadableBody {
                    reason: error.to_string(),
                    bytes,
                })
            })
            .as_ref()
    }
}

/// A body from the bytes that the broker delivered.
impl From<Vec<u8>> for EnvelopeBody {
    fn from(bytes: Vec<u8>) -> Self {
        Self {
            size: bytes.len(),
            raw: Mutex::new(bytes),
            decoded: OnceLock::new(),
        }
    }
}

/// A body from arguments that are decoded already.
impl From<Payload> for EnvelopeBody {
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

    fn raw(body: &EnvelopeBody) -> Vec<u8> {
        body.raw.lock().unwrap().clone()
    }

    #[test]
    fn decoding_drops_the_original_bytes() {
        let body = EnvelopeBody::from(br#"{"args": [1]}"#.to_vec());
        assert_eq!((body.size(), raw(&body).len()), (13, 13));
        assert_eq!(body.arguments().unwrap().args, [json!(1)]);
        assert!(raw(&body).is_empty());
        let (one, other) = (body.arguments().unwrap(), body.arguments().unwrap());
        assert!(std::ptr::eq(one, other));
        assert_eq!(body.size(), 13);
    }

    #[test]
    fn an_unreadable_body_keeps_its_bytes() {
        let body = EnvelopeBody::from(b"[1".to_vec());
        let unreadable = body.arguments().unwrap_err();
        assert!(unreadable.reason.contains("not JSON"), "{unreadable:?}");
        assert_eq!(unreadable.bytes, b"[1");
    }

    #[test]
    fn decoded_arguments_stay_unchanged() {
        let payload = wire::decode(br#"{"kwargs": {"size": 2.50}}"#).unwrap();
        let body = EnvelopeBody::from(payload.clone());
        assert_eq!(body.arguments(), Ok(&payload));
    }
}
