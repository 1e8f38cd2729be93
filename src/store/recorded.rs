//! What may be sent to a broker.

use std::borrow::Cow;
use std::ops::Deref;

use super::{NewRow, OutboxStore, Requeued, StoreError};
use crate::message::Message;

/// Messages whose rows are committed and PENDING, and that are the caller's to publish for
/// [`PUBLISH_LEASE`](super::PUBLISH_LEASE); what it does not publish by then, the sweep does. The store alone makes
/// it, and the door to the broker lets nothing else through.
#[must_use = "who does not flush it leaves it to the sweep"]
#[derive(Debug, Default)]
pub struct RecordedMessages<'a>(Cow<'a, [Message]>);

impl<'a> RecordedMessages<'a> {
    /// Records messages, all or none.
    ///
    /// # Errors
    /// When the database is away or refuses one.
    pub(crate) fn record(
        session: &mut dyn OutboxStore,
        messages: &'a [Message],
    ) -> Result<Self, StoreError> {
        let rows: Vec<NewRow> = messages.iter().map(NewRow::pending).collect();
        session.record(&rows)?;
        Ok(Self(Cow::Borrowed(messages)))
    }

    /// These and `others`.
    pub(crate) fn and(self, others: Self) -> Self {
        let mut all = self.0.into_owned();
        all.append(&mut others.0.into_owned());
        Self(Cow::Owned(all))
    }
}

impl RecordedMessages<'static> {
    /// Those that a transaction of the store's has recorded or taken.
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
