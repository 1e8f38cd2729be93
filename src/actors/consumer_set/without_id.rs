//! Messages without an id, which are known by what they look like alone.
//!
//! Each delivery of one is a message of its own, unless it is the copy of a message whose channel ended,
//! that the broker delivers again: that one joins the run in hand, or is done with if the run is over. Of
//! messages that look the same, any copy is as good as any other, as long as each stands for one message:
//! a message is taken for at most one copy a channel.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use crate::broker::{DeliveryHandle, Envelope, Fingerprint};

/// So many messages are remembered at most whose run is over and whose copy is to come.
const MOST_OVER: usize = 10_000;

/// And for so long of a connection that is open: by then the copy has reached another service.
const COPY_COMES_WITHIN: Duration = Duration::from_secs(600);

#[derive(Debug, Default)]
pub(super) struct WithoutId {
    /// By what they look like.
    alike: HashMap<Fingerprint, Vec<RememberedMessage>>,
    /// What the deliveries that are to be settled look like.
    receipts: HashMap<DeliveryHandle, Fingerprint>,
    /// Those that are over, the first one first.
    over: VecDeque<(Fingerprint, String)>,
    /// The last channel that has ended.
    ended: u64,
}

/// A message that is here, or was.
#[derive(Debug)]
struct RememberedMessage {
    key: String,
    /// The delivery that it came by.
    first: DeliveryHandle,
    /// The last copy of it.
    last: DeliveryHandle,
    /// That copy has gone back.
    returned: bool,
    /// Since when it is over, and a copy is to come: it could not be acknowledged, as the channel had ended.
    over: Option<Instant>,
}

impl RememberedMessage {
    /// Whether a delivery may be its copy.
    const fn may_come_by(&self, receipt: DeliveryHandle) -> bool {
        self.returned || self.last.epoch < receipt.epoch
    }
}

impl WithoutId {
    /// Gives a message that has come without an id the key that it had before, if it is known to come again.
    pub(super) fn recognize(&mut self, envelope: &mut Envelope, fingerprint: Fingerprint) {
        let receipt = envelope.receipt;
        self.receipts.insert(receipt, fingerprint);
        let alike = self.alike.entry(fingerprint).or_default();
        alike.retain(|known| known.over.is_none_or(|at| at.elapsed() < COPY_COMES_WITHIN));
        let returned = alike
            .iter_mut()
            .filter(|known| envelope.redelivered && known.may_come_by(receipt))
            // What is over frees its place at once.
            .max_by_key(|known| known.over.is_some());
        if let Some(known) = returned {
            log::info!(
                "message {}, which has no id, was delivered again",
                known.key
            );
            known.last = receipt;
            known.returned = false;
            envelope.key.clone_from(&known.key);
            return;
        }
        alike.push(RememberedMessage {
            key: envelope.key.clone(),
            first: receipt,
            last: receipt,
            returned: false,
            over: None,
        });
    }

    /// A delivery is done with: its message is over.
    pub(super) fn accepted(&mut self, receipt: DeliveryHandle) {
        if self.receipts.is_empty() {
            return;
        }
        let Some(fingerprint) = self.receipts.remove(&receipt) else {
            return;
        };
        if receipt.epoch > self.ended {
            return self.remove(fingerprint, |known| known.last == receipt);
        }
        // It could not be acknowledged: it comes again.
        let is_it = |known: &&mut RememberedMessage| {
            known.last == receipt || (known.first == receipt && known.returned)
        };
        let alike = self.alike.get_mut(&fingerprint).into_iter().flatten();
        if let Some(known) = alike.into_iter().find(is_it) {
            known.over = Some(Instant::now());
            self.over.push_back((fingerprint, known.key.clone()));
        }
        if self.over.len() > MOST_OVER
            && let Some((fingerprint, key)) = self.over.pop_front()
        {
            self.remove(fingerprint, |known| {
                known.key == key && known.over.is_some()
            });
        }
    }

    /// A delivery that was not claimed goes back, or is dropped. Its message is not here any more, unless it
    /// had come before.
    pub(super) fn forget(&mut self, receipt: DeliveryHandle) {
        if let Some(fingerprint) = self.receipts.remove(&receipt) {
            self.remove(fingerprint, |known| known.first == receipt);
            let alike = self.alike.get_mut(&fingerprint).into_iter().flatten();
            alike
                .filter(|known| known.last == receipt)
                .for_each(|known| known.returned = true);
        }
    }

    fn remove(&mut self, fingerprint: Fingerprint, is_it: impl Fn(&RememberedMessage) -> bool) {
        if let Some(alike) = self.alike.get_mut(&fingerprint) {
            alike.retain(|known| !is_it(known));
            if alike.is_empty() {
                self.alike.remove(&fingerprint);
            }
        }
    }

    /// The channel has ended; `with_its_queue`, none of its copies comes again.
    pub(super) fn channel_ended(&mut self, epoch: u64, with_its_queue: bool) {
        self.ended = epoch;
        if with_its_queue {
            self.alike.clear();
            self.receipts.clear();
            self.over.clear();
        }
    }

    /// A new channel is open: what is to come again comes now.
    pub(super) fn channel_opened(&mut self) {
        let now = Instant::now();
        let known = self.alike.values_mut().flatten();
        known.for_each(|known| known.over = known.over.map(|_| now));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::names;

    /// One without an id, as a broker delivers it.
    fn delivery(looks: u128, epoch: u64, tag: u64, redelivered: bool) -> Envelope {
        Envelope {
            receipt: DeliveryHandle { epoch, tag },
            redelivered,
            key: names::new_key(),
            fingerprint: Some(Fingerprint(looks)),
            has_recorder: false,
            task: None,
            fault: None,
            priority: 0,
            exchange: String::new(),
            routing_key: String::new(),
            body: Vec::new().into(),
        }
    }

    impl WithoutId {
        /// The key that it has then.
        fn key_of(&mut self, mut envelope: Envelope) -> String {
            if let Some(fingerprint) = envelope.fingerprint {
                self.recognize(&mut envelope, fingerprint);
            }
            envelope.key
        }
    }

    fn is_empty(without_id: &WithoutId) -> bool {
        without_id.alike.is_empty() && without_id.receipts.is_empty()
    }

    #[test]
    fn those_that_look_the_same_are_each_known_again_once_a_channel() {
        let mut without_id = WithoutId::default();
        let mut keys = [1, 2, 3].map(|tag| without_id.key_of(delivery(7, 1, tag, false)));
        let other = without_id.key_of(delivery(8, 1, 4, false));
        without_id.channel_ended(1, false);
        let mut again = [1, 2, 3].map(|tag| without_id.key_of(delivery(7, 2, tag, true)));
        keys.sort();
        again.sort();
        assert_eq!(keys, again);
        // A fourth is not one of them, nor is one that has never been delivered.
        let fourth = without_id.key_of(delivery(7, 2, 4, true));
        assert!(!keys.contains(&fourth) && fourth != other);
        assert_ne!(without_id.key_of(delivery(8, 2, 5, false)), other);
        assert_eq!(without_id.key_of(delivery(8, 2, 6, true)), other);
    }

    #[test]
    fn what_was_acknowledged_is_forgotten() {
        let mut without_id = WithoutId::default();
        let key = without_id.key_of(delivery(7, 1, 1, false));
        without_id.accepted(DeliveryHandle { epoch: 1, tag: 1 });
        assert!(is_empty(&without_id));
        without_id.channel_ended(1, false);
        assert_ne!(without_id.key_of(delivery(7, 2, 1, true)), key);
    }

    #[test]
    fn what_ends_after_its_channel_is_known_by_one_copy() {
        let mut without_id = WithoutId::default();
        let key = without_id.key_of(delivery(7, 1, 1, false));
        without_id.channel_ended(1, false);
        without_id.accepted(DeliveryHandle { epoch: 1, tag: 1 });
        without_id.channel_opened();
        assert_eq!(without_id.key_of(delivery(7, 2, 1, true)), key);
        assert_ne!(without_id.key_of(delivery(7, 2, 2, true)), key);
        // The acknowledgment fails once more, and then it does not.
        without_id.channel_ended(2, false);
        without_id.accepted(DeliveryHandle { epoch: 2, tag: 1 });
        without_id.forget(DeliveryHandle { epoch: 2, tag: 2 });
        assert_eq!(without_id.key_of(delivery(7, 3, 1, true)), key);
        without_id.accepted(DeliveryHandle { epoch: 3, tag: 1 });
        assert!(is_empty(&without_id));
    }

    #[test]
    fn a_joined_run_is_over_with_its_last_delivery() {
        let mut without_id = WithoutId::default();
        let key = without_id.key_of(delivery(7, 1, 1, false));
        without_id.channel_ended(1, false);
        assert_eq!(without_id.key_of(delivery(7, 2, 9, true)), key);
        without_id.accepted(DeliveryHandle { epoch: 1, tag: 1 });
        assert_eq!(without_id.alike.len(), 1);
        without_id.accepted(DeliveryHandle { epoch: 2, tag: 9 });
        assert!(is_empty(&without_id));
    }

    #[test]
    fn a_copy_that_goes_back_unclaimed_is_known_when_it_comes_again() {
        let mut without_id = WithoutId::default();
        let key = without_id.key_of(delivery(7, 1, 1, false));
        without_id.channel_ended(1, false);
        assert_eq!(without_id.key_of(delivery(7, 2, 1, true)), key);
        // By the same channel, and by another.
        without_id.forget(DeliveryHandle { epoch: 2, tag: 1 });
        assert_eq!(without_id.key_of(delivery(7, 2, 2, true)), key);
        without_id.channel_ended(2, false);
        without_id.forget(DeliveryHandle { epoch: 2, tag: 2 });
        // The run ends meanwhile.
        without_id.accepted(DeliveryHandle { epoch: 1, tag: 1 });
        assert_eq!(without_id.key_of(delivery(7, 3, 1, true)), key);
        without_id.accepted(DeliveryHandle { epoch: 3, tag: 1 });
        assert!(is_empty(&without_id));
    }

    #[test]
    fn no_more_are_remembered_than_a_bound_and_none_of_a_deleted_queue() {
        let mut without_id = WithoutId::default();
        let tags = || 1..=MOST_OVER as u64 + 10;
        for tag in tags() {
            without_id.key_of(delivery(u128::from(tag), 1, tag, false));
        }
        without_id.channel_ended(1, false);
        tags().for_each(|tag| without_id.accepted(DeliveryHandle { epoch: 1, tag }));
        assert_eq!(without_id.alike.len(), MOST_OVER);
        assert!(without_id.receipts.is_empty());
        without_id.key_of(delivery(u128::MAX, 2, 1, false));
        without_id.channel_ended(2, true);
        assert!(is_empty(&without_id) && without_id.over.is_empty());
    }
}
