//! The thread that publishes the messages of occurrences.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::Receiver;

use super::setup::Setup;
use crate::publish::{NextWork, TrackingOutbox};
use crate::store::{Database, PUBLISH_LEASE, RecordedMessages, StoreError};

/// The messages of older batches are left to the sweep, which may publish them at the same time.
const FRESH: Duration = PUBLISH_LEASE.saturating_sub(Duration::from_millis(2500));

/// How many messages are published together at most.
const MAX_MESSAGES: usize = 1000;

/// The messages that were recorded in one transaction.
pub(super) struct OccurrenceBatch {
    pub(super) messages: RecordedMessages<'static>,
    pub(super) taken_at: Instant,
}

pub(super) struct OccurrencePublisher {
    database: Database,
    outbox: TrackingOutbox,
}

impl OccurrencePublisher {
    pub(super) fn new(setup: &Setup) -> Self {
        let (store, servers) = (Arc::clone(&setup.store), Arc::clone(&setup.servers));
        Self {
            database: Database::of(store, &servers, "the scheduler's publishing"),
            outbox: TrackingOutbox::beside_sweep(Arc::clone(&setup.config), servers),
        }
    }

    /// Publishes until the poller has ended and no batch waits.
    pub(super) fn run(&mut self, waiting: &Receiver<OccurrenceBatch>) {
        loop {
            let first = match self.outbox.next(waiting) {
                NextWork::Received(first) => first,
                NextWork::FollowUp => {
                    self.publish(RecordedMessages::default());
                    continue;
                }
                // This thread needs nothing of the database, so it no longer reports it as failed.
                NextWork::Idle => {
                    self.database.health().succeeded();
                    continue;
                }
                NextWork::Closed => return,
            };
            let mut messages = fresh(first);
            while messages.len() < MAX_MESSAGES
                && let Ok(batch) = waiting.try_recv()
            {
                messages = messages.append(fresh(batch));
            }
            if !messages.is_empty() {
                self.publish(messages);
            }
        }
    }

    /// Publishes messages. The sweep publishes those that fail here, since they are recorded.
    fn publish(&mut self, messages: RecordedMessages<'_>) {
        // A conflict is not retried.
        let is_answer = |error: &StoreError| matches!(error, StoreError::Conflict(_));
        let flushed = self.database.ask_expecting(is_answer, |session, health| {
            // From here on, a delay is the broker's and not the database's.
            health.answered();
            self.outbox.follow_up_unconfirmed(session)?;
            self.outbox.flush(health, session, messages)
        });
        for (key, reason) in flushed.iter().flat_map(|flushed| &flushed.failed) {
            log::error!("message {key} of a schedule can't be published: {reason}");
        }
    }
}

fn fresh(batch: OccurrenceBatch) -> RecordedMessages<'static> {
    if batch.taken_at.elapsed() < FRESH {
        batch.messages
    } else {
        RecordedMessages::default()
    }
}
