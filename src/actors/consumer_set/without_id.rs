//! Recognizes redelivered messages that have no id, by their fingerprints.
//!
//! Each delivery of such a message counts as a message of its own, unless the broker delivers a copy of a message
//! again whose channel ended: the copy joins the run in flight, or is acknowledged if the run is over. Copies of
//! messages with the same fingerprint are interchangeable, as long as each stands for one message: so a message is
//! matched with at most one copy per channel.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use crate::broker::{DeliveryHandle, Envelope, Fingerprint};

/// The most messages that are remembered because their run is over and their copy is still to come.
const MAX_OVER: usize = 10_000;

/// How long such a message is remembered while the connection is open: by then the copy has reached another service.
const MAX_WAIT_FOR_COPY: Duration = Duration::from_secs(600);

#[derive(Debug, Default)]
pub(super) struct WithoutId {
    /// The messages by their fingerprints.
    alike: HashMap<Fingerprint, Vec<RememberedMessage>>,
    /// The fingerprints of the unsettled deliveries.
    handles: HashMap<DeliveryHandle, Fingerprint>,
    /// The messages that are over, in the order in which they ended.
    over: VecDeque<(Fingerprint, String)>,
    /// The last channel that ended.
    ended: u64,
}

/// A message that is here, or was here and is to come again.
#[derive(Debug)]
struct RememberedMessage {
    key: String,
    /// The delivery that brought the message.
    first: DeliveryHandle,
    /// The last delivery of the message or its copy.
    last: DeliveryHandle,
    /// Whether the last delivery has gone back.
    returned: bool,
    /// Since when the message is over and its copy is to come: it could not be acknowledged, as the channel had ended.
    over: Option<Instant>,
}

impl RememberedMessage {
    /// Whether a delivery may be the message's copy.
    const fn may_come_by(&self, handle: DeliveryHandle) -> bool {
        self.returned || self.last.epoch < handle.epoch
    }
}

impl WithoutId {
    /// Gives a message without an id the key of the remembered message whose copy it is, if there is one. Otherwise
    /// remembers it.
    pub(super) fn recognize(&mut self, envelope: &mut Envelope, fingerprint: Fingerprint) {
        let handle = envelope.handle;
        self.handles.insert(handle, fingerprint);
        let alike = self.alike.entry(fingerprint).or_default();
        alike.retain(|remembered| {
            remembered
                .over
                .is_none_or(|at| at.elapsed() < MAX_WAIT_FOR_COPY)
        });
        let returned = alike
            .iter_mut()
            .filter(|remembered| envelope.redelivered && remembered.may_come_by(handle))
            // A message that is over is preferred: its entry is freed at once.
            .max_by_key(|remembered| remembered.over.is_some());
        if let Some(remembered) = returned {
            log::info!(
                "message {}, which has no id, was delivered again",
                remembered.key
            );
            remembered.last = handle;
            remembered.returned = false;
            envelope.key.clone_from(&remembered.key);
            return;
        }
        alike.push(RememberedMessage {
            key: envelope.key.clone(),
            first: handle,
            last: handle,
            returned: false,
            over: None,
        });
    }

    /// Notes that a delivery is acknowledged, as its message is over.
    pub(super) fn accepted(&mut self, handle: DeliveryHandle) {
        if self.handles.is_empty() {
            return;
        }
        let Some(fingerprint) = self.handles.remove(&handle) else {
            return;
        };
        if handle.epoch > self.ended {
            return self.remove(fingerprint, |remembered| remembered.last == handle);
        }
        // The acknowledgement is lost with its channel: the message comes again.
        let is_it = |remembered: &&mut RememberedMessage| {
            remembered.last == handle || (remembered.first == handle && remembered.returned)
        };
        let alike = self.alike.get_mut(&fingerprint).into_iter().flatten();
        if let Some(remembered) = alike.into_iter().find(is_it) {
            remembered.over = Some(Instant::now());
            self.over.push_back((fingerprint, remembered.key.clone()));
        }
        if self.over.len() > MAX_OVER
            && let Some((fingerprint, key)) = self.over.pop_front()
        {
            self.remove(fingerprint, |remembered| {
                remembered.key == key && remembered.over.is_some()
            });
        }
    }

    /// Notes that an unclaimed delivery goes back or is dropped. Its message is forgotten, unless an earlier delivery
    /// brought it.
    pub(super) fn forget(&mut self, handle: DeliveryHandle) {
        if let Some(fingerprint) = self.handles.remove(&handle) {
            self.remove(fingerprint, |remembered| remembered.first == handle);
            let alike = self.alike.get_mut(&fingerprint).into_iter().flatten();
            alike
                .filter(|remembered| remembered.last == handle)
                .for_each(|remembered| remembered.returned = true);
        }
    }

    fn remove(&mut self, fingerprint: Fingerprint, is_it: impl Fn(&RememberedMessage) -> bool) {
        if let Some(alike) = self.alike.get_mut(&fingerprint) {
            alike.retain(|remembered| !is_it(remembered));
            if alike.is_empty() {
                self.alike.remove(&fingerprint);
            }
        }
    }

    /// Notes that a channel has ended. If it ended `with_its_queue`, no copy comes again.
    pub(super) fn channel_ended(&mut self, epoch: u64, with_its_queue: bool) {
        self.ended = epoch;
        if with_its_queue {
            self.alike.clear();
            self.handles.clear();
            self.over.clear();
        }
    }

    /// Notes that a new channel is open, by which the copies come.
    pub(super) fn channel_opened(&mut self) {
        let now = Instant::now();
        let remembered = self.alike.values_mut().flatten();
        remembered.for_each(|remembered| remembered.over = remembered.over.map(|_| now));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::names;

    /// A message without an id, as a broker delivers it.
    fn delivery(fingerprint: u128, epoch: u64, tag: u64, redelivered: bool) -> Envelope {
        Envelope {
            handle: DeliveryHandle { epoch, tag },
            redelivered,
            key: names::new_key(),
            fingerprint: Some(Fingerprint(fingerprint)),
            publisher_writes_row: false,
            task: None,
            headers_fault: None,
            priority: 0,
            exchange: String::new(),
            routing_key: String::new(),
            body: Vec::new().into(),
        }
    }

    impl WithoutId {
        /// The key that the message gets.
        fn key_of(&mut self, mut envelope: Envelope) -> String {
            if let Some(fingerprint) = envelope.fingerprint {
                self.recognize(&mut envelope, fingerprint);
            }
            envelope.key
        }
    }

    fn is_empty(without_id: &WithoutId) -> bool {
        without_id.alike.is_empty() && without_id.handles.is_empty()
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
        // A fourth delivery matches none of them, nor does one that is not a redelivery.
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
        // The acknowledgement fails once more, and then succeeds.
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
        // The copy comes again by the same channel, and by another.
        without_id.forget(DeliveryHandle { epoch: 2, tag: 1 });
        assert_eq!(without_id.key_of(delivery(7, 2, 2, true)), key);
        without_id.channel_ended(2, false);
        without_id.forget(DeliveryHandle { epoch: 2, tag: 2 });
        // Meanwhile the run ends.
        without_id.accepted(DeliveryHandle { epoch: 1, tag: 1 });
        assert_eq!(without_id.key_of(delivery(7, 3, 1, true)), key);
        without_id.accepted(DeliveryHandle { epoch: 3, tag: 1 });
        assert!(is_empty(&without_id));
    }

    #[test]
    fn no_more_are_remembered_than_a_bound_and_none_of_a_deleted_queue() {
        let mut without_id = WithoutId::default();
        let tags = || 1..=MAX_OVER as u64 + 10;
        for tag in tags() {
            without_id.key_of(delivery(u128::from(tag), 1, tag, false));
        }
        without_id.channel_ended(1, false);
        tags().for_each(|tag| without_id.accepted(DeliveryHandle { epoch: 1, tag }));
        assert_eq!(without_id.alike.len(), MAX_OVER);
        assert!(without_id.handles.is_empty());
        without_id.key_of(delivery(u128::MAX, 2, 1, false));
        without_id.channel_ended(2, true);
        assert!(is_empty(&without_id) && without_id.over.is_empty());
    }
}
