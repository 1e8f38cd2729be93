//! Queues that count redeliveries, as quorum queues do.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use amiquip::{AmqpProperties, Delivery};

use super::super::Fingerprint;
use crate::config::QueueConfig;

/// The header in which a queue counts how often it has redelivered a message.
const COUNT: &str = "x-delivery-count";

/// Headers that a queue changes between deliveries of the same message.
const CHANGING: [&str; 2] = [COUNT, "x-acquired-count"];

/// The queues that were seen to count redeliveries although their arguments do not say so. They are
/// remembered for the rest of the process.
#[derive(Default)]
pub(super) struct RedeliveryCounters(Mutex<BTreeSet<String>>);

impl RedeliveryCounters {
    pub(super) fn counts_redeliveries(&self, queue: &QueueConfig) -> bool {
        queue.counts_returns() || self.lock().contains(&queue.name)
    }

    pub(super) fn note_counting(&self, queue: &QueueConfig) {
        self.lock().insert(queue.name.clone());
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeSet<String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether this queue has counted a redelivery of `delivery`. A message dead-lettered from another queue may
/// carry that queue's header, but this queue has not redelivered it.
pub(super) fn is_counted_redelivery(delivery: &Delivery) -> bool {
    let headers = || delivery.properties.headers().as_ref();
    delivery.redelivered && headers().is_some_and(|headers| headers.contains_key(COUNT))
}

/// A digest of `delivery` that is the same each time the message is delivered.
pub(super) fn fingerprint(delivery: &Delivery, properties: &AmqpProperties) -> Fingerprint {
    let mut headers = properties.headers().clone().unwrap_or_default();
    headers.retain(|name, _| !CHANGING.contains(&name.as_str()));
    let properties = properties.clone().with_headers(headers);
    let Delivery {
        exchange,
        routing_key,
        body,
        ..
    } = delivery;
    // Quoting keeps the strings apart.
    let mut all = format!("{exchange:?}{routing_key:?}{properties:?}").into_bytes();
    all.extend_from_slice(body);
    Fingerprint(uuid::Uuid::new_v5(&uuid::Uuid::NAMESPACE_OID, &all).as_u128())
}
