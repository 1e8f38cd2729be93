//! The thread that publishes what was taken.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::Receiver;

use super::Setup;
use crate::publish::{NextWork, TrackingOutbox};
use crate::store::{Database, PUBLISH_LEASE, Recorded, StoreError};

/// What was taken so long ago is left to the sweep: it may be at it by the time it is published.
const FRESH: Duration = PUBLISH_LEASE.saturating_sub(Duration::from_millis(2500));

/// So many messages are published together at most.
const TOGETHER: usize = 1000;

/// Messages that were taken in one transaction.
pub(super) struct Batch {
    pub(super) messages: Recorded<'static>,
    pub(super) taken: Instant,
}

pub(super) struct Publisher {
    database: Database,
    door: TrackingOutbox,
}

impl Publisher {
    pub(super) fn new(setup: &Setup) -> Self {
        let (store, servers) = (Arc::clone(&setup.store), Arc::clone(&setup.servers));
        Self {
            database: Database::of(store, &servers, "the scheduler's publishing"),
            door: TrackingOutbox::beside_sweep(Arc::clone(&setup.config), servers),
        }
    }

    /// Until nobody takes any more, and nothing waits.
    pub(super) fn run(&mut self, waiting: &Receiver<Batch>) {
        loop {
            let first = match self.door.next(waiting) {
                NextWork::Received(first) => first,
                NextWork::FollowUp => {
                    self.publish(Recorded::default());
                    continue;
                }
                // Others know better by now how the database is: it asks for nothing.
                NextWork::Idle => {
                    self.database.health().succeeded();
                    continue;
                }
                NextWork::Closed => return,
            };
            let mut messages = fresh(first);
            while messages.len() < TOGETHER
                && let Ok(batch) = waiting.try_recv()
            {
                messages = messages.and(fresh(batch));
            }
            if !messages.is_empty() {
                self.publish(messages);
            }
        }
    }

    /// What this can't publish is recorded, and the sweep's.
    fn publish(&mut self, messages: Recorded<'_>) {
        // It does not ask again.
        let is_answer = |error: &StoreError| matches!(error, StoreError::Conflict(_));
        let flushed = self.database.ask_expecting(is_answer, |session, health| {
            // The broker may take its time; that is not the database's.
            health.answered();
            self.door.follow_up_unconfirmed(session)?;
            self.door.flush(health, session, messages)
        });
        for (key, reason) in flushed.iter().flat_map(|flushed| &flushed.failed) {
            log::error!("message {key} of a schedule can't be published: {reason}");
        }
    }
}

fn fresh(batch: Batch) -> Recorded<'static> {
    if batch.taken.elapsed() < FRESH {
        batch.messages
    } else {
        Recorded::default()
    }
}
