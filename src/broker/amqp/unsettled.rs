//! The unsettled deliveries of a channel, and how to acknowledge them with few acks.

use std::collections::{BTreeMap, BTreeSet};

/// The deliveries of one channel by their tags, which RabbitMQ counts from 1. If several consumers share the
/// channel, tags may arrive out of order. Settled deliveries are dropped: while one long task runs, millions
/// after it may be acknowledged.
pub(super) struct UnsettledDeliveries<D> {
    /// Deliveries that have arrived and are not settled.
    held: BTreeMap<u64, UnsettledDelivery<D>>,
    /// Tags that have not arrived, below one that has.
    expected: BTreeSet<u64>,
    /// The highest tag that has arrived.
    highest: u64,
}

struct UnsettledDelivery<D> {
    delivery: D,
    accepted: bool,
}

/// The acks to send for a batch of accepted deliveries.
pub(super) struct Acks<D> {
    /// All deliveries up to this one, with one multiple ack.
    pub(super) up_to: Option<D>,
    /// Deliveries to acknowledge one by one: an earlier one is still running.
    pub(super) singly: Vec<D>,
}

impl<D> UnsettledDeliveries<D> {
    pub(super) const fn new() -> Self {
        Self {
            held: BTreeMap::new(),
            expected: BTreeSet::new(),
            highest: 0,
        }
    }

    /// Adds a delivery that has arrived.
    pub(super) fn push(&mut self, tag: u64, delivery: D) {
        if tag > self.highest {
            self.expected.extend(self.highest + 1..tag);
            self.highest = tag;
        } else if !self.expected.remove(&tag) {
            debug_assert!(false, "tag {tag} has come before");
            return;
        }
        let accepted = false;
        self.held
            .insert(tag, UnsettledDelivery { delivery, accepted });
    }

    /// Accepts deliveries; ignores unknown tags.
    pub(super) fn accept(&mut self, tags: &[u64]) -> Acks<D> {
        for tag in tags {
            if let Some(held) = self.held.get_mut(tag) {
                held.accepted = true;
            }
        }
        let mut up_to = None;
        while let Some(front) = self.held.first_entry()
            && front.get().accepted
            && self.expected.first().is_none_or(|tag| tag > front.key())
        {
            up_to = Some(front.remove().delivery);
        }
        let singly = tags.iter().filter_map(|tag| self.take(*tag)).collect();
        Acks { up_to, singly }
    }

    /// Removes a delivery, which the caller settles by itself.
    pub(super) fn take(&mut self, tag: u64) -> Option<D> {
        self.held.remove(&tag).map(|held| held.delivery)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(tags: u64) -> UnsettledDeliveries<u64> {
        let mut unsettled = UnsettledDeliveries::new();
        (1..=tags).for_each(|tag| unsettled.push(tag, tag));
        unsettled
    }

    fn acks(unsettled: &mut UnsettledDeliveries<u64>, tags: &[u64]) -> (Option<u64>, Vec<u64>) {
        let acks = unsettled.accept(tags);
        (acks.up_to, acks.singly)
    }

    #[test]
    fn a_run_from_the_front_is_one_ack() {
        assert_eq!(acks(&mut with(5), &[3, 1, 2]), (Some(3), vec![]));
    }

    #[test]
    fn deliveries_after_a_running_message_are_acknowledged_singly_and_once() {
        let mut unsettled = with(5);
        assert_eq!(acks(&mut unsettled, &[2, 4]), (None, vec![2, 4]));
        assert_eq!(acks(&mut unsettled, &[1]), (Some(1), vec![]));
        assert_eq!(acks(&mut unsettled, &[5]), (None, vec![5]));
        assert_eq!(acks(&mut unsettled, &[3]), (Some(3), vec![]));
        assert_eq!(acks(&mut unsettled, &[3, 9]), (None, vec![]));
        unsettled.push(6, 6);
        assert_eq!(acks(&mut unsettled, &[6]), (Some(6), vec![]));
    }

    #[test]
    fn deliveries_settled_after_a_running_message_are_dropped() {
        let mut unsettled = with(1);
        for tag in 2..100_000 {
            unsettled.push(tag, tag);
            assert_eq!(acks(&mut unsettled, &[tag]), (None, vec![tag]));
        }
        assert_eq!((unsettled.held.len(), unsettled.expected.len()), (1, 0));
        assert_eq!(acks(&mut unsettled, &[1]), (Some(1), vec![]));
    }

    #[test]
    fn a_delivery_that_was_put_back_is_not_acknowledged() {
        let mut unsettled = with(3);
        assert_eq!(unsettled.take(2), Some(2));
        assert_eq!(unsettled.take(2), None);
        assert_eq!(acks(&mut unsettled, &[1]), (Some(1), vec![]));
        assert_eq!(acks(&mut unsettled, &[2, 3]), (Some(3), vec![]));
    }

    #[test]
    fn a_multiple_ack_never_covers_a_delivery_that_has_not_arrived() {
        let mut unsettled = UnsettledDeliveries::new();
        unsettled.push(2, 2);
        unsettled.push(3, 3);
        assert_eq!(acks(&mut unsettled, &[2]), (None, vec![2]));
        unsettled.push(1, 1);
        assert_eq!(acks(&mut unsettled, &[3]), (None, vec![3]));
        assert_eq!(acks(&mut unsettled, &[1]), (Some(1), vec![]));
        unsettled.push(5, 5);
        assert_eq!(acks(&mut unsettled, &[5]), (None, vec![5]));
        unsettled.push(4, 4);
        assert_eq!(acks(&mut unsettled, &[4]), (Some(4), vec![]));
    }
}
