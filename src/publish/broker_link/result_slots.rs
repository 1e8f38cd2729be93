//! Groups of messages, and a slot for the result of each message.

use std::collections::BTreeMap;

use crate::message::Message;
use crate::publish::publish_result::PublishResult;

/// Messages that the broker permits or refuses together, each with its index among all messages.
pub(super) type MessageGroup<'a> = Vec<(usize, &'a Message)>;

/// The messages in groups of equal `key`, each with its index.
pub(super) fn groups<'a, K: Ord>(
    messages: &[&'a Message],
    key: impl Fn(&'a Message) -> K,
) -> BTreeMap<K, MessageGroup<'a>> {
    let mut groups: BTreeMap<K, MessageGroup<'a>> = BTreeMap::new();
    for (nth, message) in messages.iter().enumerate() {
        groups.entry(key(message)).or_default().push((nth, message));
    }
    groups
}

/// A slot for the result of each message, filled one after the other.
pub(super) struct ResultSlots(Vec<Option<PublishResult>>);

impl ResultSlots {
    pub(super) fn for_messages(messages: &[&Message]) -> Self {
        Self(messages.iter().map(|_| None).collect())
    }

    pub(super) fn set_all(
        &mut self,
        group: &[(usize, &Message)],
        result: impl Fn(&Message) -> PublishResult,
    ) {
        for (nth, message) in group {
            self.0[*nth] = Some(result(message));
        }
    }

    pub(super) fn set_each(&mut self, group: &[(usize, &Message)], results: Vec<PublishResult>) {
        for ((nth, _), result) in group.iter().zip(results) {
            self.0[*nth] = Some(result);
        }
    }

    pub(super) fn set_one(&mut self, index: usize, result: PublishResult) {
        self.0[index] = Some(result);
    }

    pub(super) fn into_results(self) -> Vec<PublishResult> {
        let unknown = || PublishResult::Waiting("it is not known yet".to_owned());
        let results = self.0.into_iter();
        results
            .map(|result| result.unwrap_or_else(unknown))
            .collect()
    }
}
