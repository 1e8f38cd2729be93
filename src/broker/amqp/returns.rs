//! Queues that count how often a message comes back, as quorum queues do.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use amiquip::{AmqpProperties, Delivery};

use super::super::Fingerprint;
use crate::config::QueueConfig;

/// The header in which a queue says how often a message has come back.
const COUNT: &str = "x-delivery-count";

/// Headers that a queue changes from one delivery to the next.
const CHANGING: [&str; 2] = [COUNT, "x-acquired-count"];

/// The queues that were seen to count returns though their arguments do not say so, for the rest of the
/// process.
#[derive(Default)]
pub(super) struct Returns(Mutex<BTreeSet<String>>);

impl Returns {
    pub(super) fn are_counted(&self, queue: &QueueConfig) -> bool {
        queue.counts_returns() || self.lock().contains(&queue.name)
    }

    pub(super) fn have_been_counted(&self, queue: &QueueConfig) {
        self.lock().insert(queue.name.clone());
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeSet<String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether this queue has counted a return of `delivery`: one that another queue counted brings the header
/// along when it is dead-lettered, but has not come back here.
pub(super) fn is_counted(delivery: &Delivery) -> bool {
    let headers = || delivery.properties.headers().as_ref();
    delivery.redelivered && headers().is_some_and(|headers| headers.contains_key(COUNT))
}

/// What `delivery` is, the same each time that it comes.
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
    // The texts are quoted, so that none runs into the next.
    let mut all = format!("{exchange:?}{routing_key:?}{properties:?}").into_bytes();
    all.extend_from_slice(body);
    Fingerprint(uuid::Uuid::new_v5(&uuid::Uuid::NAMESPACE_OID, &all).as_u128())
}
