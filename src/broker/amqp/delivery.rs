//! How a delivery of amiquip becomes an envelope.

use amiquip::{AmqpValue, Delivery};

use super::super::{DeliveryHandle, Envelope};
use super::gate::DeliveryNote;
use super::redelivery_counts;
use crate::config::QueueConfig;
use crate::names;

/// Moves the content of `delivery` into an envelope for the rest of the crate. `delivery` keeps its tag, which
/// an ack needs.
pub(super) fn take_envelope(
    delivery: &mut Delivery,
    note: Option<DeliveryNote>,
    queue: &QueueConfig,
    epoch: u64,
) -> Envelope {
    let note = note.unwrap_or_default();
    let properties = std::mem::take(&mut delivery.properties);
    let task = properties
        .headers()
        .as_ref()
        .and_then(|headers| headers.get(names::TASK_HEADER))
        .and_then(|value| match value {
            AmqpValue::LongString(task) => Some(task.clone()),
            _ => None,
        });
    let utf8_id = || properties.message_id().clone().map(String::into_bytes);
    let headers_fault = note.fault();
    let id = note.message_id.or_else(utf8_id);
    // An empty id counts as none: otherwise all messages with an empty id would be one message.
    let (key, fingerprint) = match id.filter(|id| !id.is_empty()) {
        Some(id) => (names::key_for_id(&id), None),
        None => {
            let fingerprint = redelivery_counts::fingerprint(delivery, &properties);
            (names::new_key(), Some(fingerprint))
        }
    };
    let (exchange, routing_key) = if note.address_mended {
        (String::new(), queue.name.clone())
    } else {
        (
            std::mem::take(&mut delivery.exchange),
            std::mem::take(&mut delivery.routing_key),
        )
    };
    Envelope {
        handle: DeliveryHandle {
            epoch,
            tag: delivery.delivery_tag(),
        },
        redelivered: delivery.redelivered,
        key,
        fingerprint,
        publisher_writes_row: properties.type_().as_deref() == Some(names::MESSAGE_TYPE),
        task,
        headers_fault,
        priority: properties.priority().unwrap_or_default(),
        exchange,
        routing_key,
        body: std::mem::take(&mut delivery.body).into(),
    }
}
