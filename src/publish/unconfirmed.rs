//! Messages that were sent and are not confirmed yet, on open connections. They are not sent again while their
//! connection is open: the broker may still be taking them.

use std::collections::{BTreeSet, HashMap};

use crate::broker::{Confirmation, LateConfirmations};

/// The unconfirmed messages of one link.
#[derive(Default)]
pub(super) struct UnconfirmedMessages {
    /// The number of its connection and its queue, by the message's key.
    messages: HashMap<String, (u64, String)>,
    /// Results that are not written yet.
    followed_up: FollowedUp,
}

/// The results of messages that were unconfirmed.
#[derive(Default)]
pub(super) struct FollowedUp {
    /// The keys of messages that the broker has.
    pub(super) published: Vec<String>,
    /// The keys of messages that must be sent again.
    pub(super) lost: Vec<String>,
}

impl FollowedUp {
    pub(super) const fn is_empty(&self) -> bool {
        self.published.is_empty() && self.lost.is_empty()
    }
}

impl UnconfirmedMessages {
    /// Whether no message is unconfirmed, and no result is to be written.
    pub(super) fn is_empty(&self) -> bool {
        self.messages.is_empty() && self.followed_up.is_empty()
    }

    pub(super) fn add(&mut self, connection: u64, key: &str, queue: &str) {
        let of = (connection, queue.to_owned());
        self.messages.insert(key.to_owned(), of);
    }

    /// The queues with unconfirmed messages on another connection than `current`: they are sent no more messages.
    pub(super) fn silent_queues(&self, current: Option<u64>) -> BTreeSet<&str> {
        let late = self.messages.values();
        late.filter(|(connection, _)| Some(*connection) != current)
            .map(|(_, queue)| queue.as_str())
            .collect()
    }

    /// The queues with unconfirmed messages.
    pub(super) fn queues(&self) -> BTreeSet<String> {
        let queues = self.messages.values().map(|(_, queue)| queue.clone());
        queues.collect()
    }

    /// The keys of all unconfirmed messages.
    pub(super) fn keys(&self) -> Vec<String> {
        self.messages.keys().cloned().collect()
    }

    /// Records the late confirmations of a connection.
    pub(super) fn record_confirmations(&mut self, connection: u64, late: LateConfirmations) {
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

    /// The results to write. They are kept until [`Self::clear_followed_up`].
    pub(super) const fn followed_up(&self) -> &FollowedUp {
        &self.followed_up
    }

    /// Drops the results, which are written.
    pub(super) fn clear_followed_up(&mut self) {
        self.followed_up = FollowedUp::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unconfirmed_messages_of_an_ended_connection_are_sent_again() {
        let mut late = UnconfirmedMessages::default();
        for (connection, key) in [(1, "a"), (1, "b"), (2, "c")] {
            late.add(connection, key, "q");
        }
        assert_eq!(late.silent_queues(Some(1)), BTreeSet::from(["q"]));
        let said = vec![
            ("a".to_owned(), Confirmation::Confirmed),
            ("unknown".to_owned(), Confirmation::Confirmed),
        ];
        late.record_confirmations(
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
