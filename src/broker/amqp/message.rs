//! What a message is in AMQP.

use amiquip::{AmqpProperties, AmqpValue, FieldTable};

use crate::message::Message;
use crate::names;

/// AMQP's `delivery_mode` for a message that survives a restart of the broker.
const PERSISTENT: u8 = 2;

/// Why AMQP can't carry the message, if so: a short string over 255 bytes breaks the frame, and with it the
/// connection.
pub(super) fn unfit_reason(message: &Message) -> Option<String> {
    let parts = [
        ("routing key", &message.routing_key),
        ("exchange", &message.exchange),
        ("message id", &message.key),
    ];
    parts
        .into_iter()
        .find(|(_, text)| text.len() > names::SHORT_STRING_BYTES)
        .map(|(what, _)| {
            format!(
                "its {what} is longer than {} bytes",
                names::SHORT_STRING_BYTES
            )
        })
}

/// The AMQP properties of `message`, as django-carrot sets them.
pub(super) fn properties(message: &Message) -> AmqpProperties {
    let headers: FieldTable = [(
        names::TASK_HEADER.to_owned(),
        AmqpValue::LongString(message.task.clone()),
    )]
    .into_iter()
    .collect();
    AmqpProperties::default()
        .with_content_type("application/json".to_owned())
        .with_headers(headers)
        .with_delivery_mode(PERSISTENT)
        .with_priority(message.priority)
        .with_message_id(message.key.clone())
        .with_type_(names::MESSAGE_TYPE.to_owned())
}
