//! Messages that the broker was sent and has not said a batch of, on connections that live. They are not sent again
//! while their connection does: their copies are on the link.

use std::collections::{BTreeSet, HashMap};

use crate::broker::{Confirmation, LateConfirmations};

/// The connections of one link that such messages were sent on, by their numbers, and the queues.
#[derive(Default)]
pub(super) struct UnconfirmedMessages {
    /// By their keys.
    messages: HashMap<String, (u64, String)>,
    /// What has become known and is not written yet.
    followed_up: FollowedUp,
}

/// What has become of messages that the broker was late with.
#[derive(Default)]
pub(super) struct FollowedUp {
    /// Their keys.
    pub(super) published: Vec<String>,
    /// Those that are to be sent again.
    pub(super) lost: Vec<String>,
}

impl FollowedUp {
    pub(super) const fn is_empty(&self) -> bool {
        self.published.is_empty() && self.lost.is_empty()
    }
}

impl UnconfirmedMessages {
    /// Whether there are none, and nothing is to be written of any.
    pub(super) fn is_empty(&self) -> bool {
        self.messages.is_empty() && self.followed_up.is_empty()
    }

    pub(super) fn add(&mut self, connection: u64, key: &str, queue: &str) {
        let of = (connection, queue.to_owned());
        self.messages.insert(key.to_owned(), of);
    }

    /// The queues that have some on another connection than that: they are sent no more.
    pub(super) fn silent_queues(&self, current: Option<u64>) -> BTreeSet<&str> {
        let late = self.messages.values();
        late.filter(|(connection, _)| Some(*connection) != current)
            .map(|(_, queue)| queue.as_str())
            .collect()
    }

    /// The queues that have some.
    pub(super) fn queues(&self) -> BTreeSet<String> {
        let queues = self.messages.values().map(|(_, queue)| queue.clone());
        queues.collect()
    }

    /// The keys of all.
    pub(super) fn keys(&self) -> Vec<String> {
        self.messages.keys().cloned().collect()
    }

    /// Notes what the broker said on a connection.
    pub(super) fn record_late(&mut self, connection: u64, late: LateConfirmations) {
        for (key, confirmation) in late.confirmations {
            if self.messages.remove(&key).is_none() {
                continue;
            }
            match confirmation {
                Confirmation::Confirmed => self.followed_up.published.push(key),
                _ => self.followed_up.lost.push(key),
            }
        }
        if late.has_ended {
            let gone = self
                .messages
                .extract_if(|_, (of, _)| *of == connection)
                .map(|(key, _)| key);
            self.followed_up.lost.extend(gone);
        }
    }

    /// What is to be written; it is asked for until that is done.
    pub(super) const fn followed_up(&self) -> &FollowedUp {
        &self.followed_up
    }

    /// That is written.
    pub(super) fn clear_followed_up(&mut self) {
        self.followed_up = FollowedUp::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_connection_takes_with_it_is_sent_again_and_what_it_confirmed_is_not() {
        let mut late = UnconfirmedMessages::default();
        for (connection, key) in [(1, "a"), (1, "b"), (2, "c")] {
            late.add(connection, key, "q");
        }
        assert_eq!(late.silent_queues(Some(1)), BTreeSet::from(["q"]));
        let said = vec![
            ("a".to_owned(), Confirmation::Confirmed),
            ("unknown".to_owned(), Confirmation::Confirmed),
        ];
        late.record_late(
            1,
            LateConfirmations {
                confirmations: said,
                has_ended: true,
            },
        );
        assert_eq!(late.followed_up().published, ["a"]);
        assert_eq!(late.followed_up().lost, ["b"]);
        assert_eq!(late.keys(), ["c"]);
        assert!(late.silent_queues(Some(2)).is_empty());
        late.clear_followed_up();
        assert!(late.followed_up().is_empty() && !late.is_empty());
    }
}
