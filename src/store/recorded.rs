//! The messages that may be sent to a broker.

use std::borrow::Cow;
use std::ops::Deref;

use super::Requeued;
use crate::message::Message;

/// Messages whose rows are committed and PENDING, on a lease of [`PUBLISH_LEASE`](super::PUBLISH_LEASE) for the
/// caller to publish; the sweep publishes the rest. Only the store can make this type, and the outbox sends nothing
/// else to the broker.
#[must_use = "messages that are not flushed wait for the sweep"]
#[derive(Debug, Default)]
pub struct RecordedMessages<'a>(Cow<'a, [Message]>);

impl<'a> RecordedMessages<'a> {
    /// Messages that the caller has just recorded in a committed transaction.
    pub(super) const fn borrowed(messages: &'a [Message]) -> Self {
        Self(Cow::Borrowed(messages))
    }

    /// These and `others`.
    pub(crate) fn append(self, others: Self) -> Self {
        let mut all = self.0.into_owned();
        all.append(&mut others.0.into_owned());
        Self(Cow::Owned(all))
    }
}

impl RecordedMessages<'static> {
    /// The messages that a committed transaction of the store has recorded or taken.
    pub(super) const fn committed(messages: Vec<Message>) -> Self {
        Self(Cow::Owned(messages))
    }

    /// The new messages of a requeue.
    pub(crate) fn of_requeued(requeued: &[Requeued]) -> Self {
        let new = requeued.iter().filter_map(|requeued| match requeued {
            Requeued::Replaced { new, .. } => Some(new.as_ref().clone()),
            _ => None,
        });
        Self::committed(new.collect())
    }
}

impl RecordedMessages<'_> {
    /// The messages.
    #[must_use]
    pub fn into_messages(self) -> Vec<Message> {
        self.0.into_owned()
    }
}

impl Deref for RecordedMessages<'_> {
    type Target = [Message];

    fn deref(&self) -> &[Message] {
        &self.0
    }
}
