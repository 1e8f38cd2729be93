//! The thread that publishes what was taken.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError};

use super::Setup;
use crate::message::Message;
use crate::publish::{Door, LATE_LOOK, NOTHING_WAITS};
use crate::store::{Database, PUBLISH_LEASE, StoreError};

/// What was taken so long ago is left to the sweep: it may be at it by the time it is published.
const FRESH: Duration = PUBLISH_LEASE.saturating_sub(Duration::from_millis(2500));

/// So many messages are published together at most.
const TOGETHER: usize = 1000;

/// Messages that were taken in one transaction.
pub(super) struct Batch {
    pub(super) messages: Vec<Message>,
    pub(super) taken: Instant,
}

pub(super) struct Publisher {
    database: Database,
    door: Door,
}

impl Publisher {
    pub(super) fn new(setup: &Setup) -> Self {
        let (store, servers) = (Arc::clone(&setup.store), Arc::clone(&setup.servers));
        Self {
            database: Database::of(store, &servers, "the scheduler's publishing"),
            door: Door::of(Arc::clone(&setup.config), servers),
        }
    }

    /// Until nobody takes any more, and nothing waits.
    pub(super) fn run(&mut self, waiting: &Receiver<Batch>) {
        loop {
            // Others know better by now how the servers are: it asks for nothing.
            self.door.leave_the_away();
            let patience = match self.door.has_late() {
                true => LATE_LOOK,
                false => NOTHING_WAITS,
            };
            let first = match waiting.recv_timeout(patience) {
                Ok(first) => first,
                Err(RecvTimeoutError::Timeout) => {
                    if self.door.has_late() {
                        self.publish(&[]);
                    } else {
                        self.database.health().is_served();
                    }
                    continue;
                }
                Err(RecvTimeoutError::Disconnected) => return,
            };
            let mut messages = fresh(first);
            while messages.len() < TOGETHER
                && let Ok(batch) = waiting.try_recv()
            {
                messages.extend(fresh(batch));
            }
            if !messages.is_empty() {
                self.publish(&messages);
            }
        }
    }

    /// What this can't publish is recorded, and the sweep's.
    fn publish(&mut self, messages: &[Message]) {
        // It does not ask again.
        let is_answer = |error: &StoreError| matches!(error, StoreError::Conflict(_));
        let door = &mut self.door;
        let flushed = self.database.ask_expecting(is_answer, |session, health| {
            // The broker may take its time; that is not the database's.
            health.is_answered();
            door.look_after_the_late(session)?;
            door.flush_for(Some(health), session, messages)
        });
        for (key, reason) in flushed.iter().flat_map(|flushed| &flushed.failed) {
            log::error!("message {key} of a schedule can't be published: {reason}");
        }
    }
}

fn fresh(batch: Batch) -> Vec<Message> {
    if batch.taken.elapsed() < FRESH {
        batch.messages
    } else {
        Vec::new()
    }
}
