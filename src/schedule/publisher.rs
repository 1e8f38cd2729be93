//! The thread that publishes what was taken.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError};

use super::Setup;
use crate::message::Message;
use crate::outage::Client;
use crate::publish::{Door, LATE_LOOK, NOTHING_WAITS};
use crate::store::{PUBLISH_LEASE, Session, Store, StoreError};

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
    store: Arc<dyn Store>,
    session: Option<Box<dyn Session>>,
    door: Door,
    database: Client,
}

impl Publisher {
    pub(super) fn new(setup: &Setup) -> Self {
        let health = setup.servers.database(&setup.store.describe());
        Self {
            store: Arc::clone(&setup.store),
            session: None,
            door: Door::of(Arc::clone(&setup.config), Arc::clone(&setup.servers)),
            database: health.client("the scheduler's publishing"),
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
                        self.database.is_served();
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
        self.database.asks();
        match self.try_publish(messages) {
            Ok(()) => self.database.is_served(),
            Err(StoreError::Conflict(reason)) => {
                log::debug!("the scheduler's publishing met another transaction: {reason}");
                self.database.is_answered();
            }
            Err(error) => {
                if error.is_of_values() {
                    self.database.is_refused(&error);
                } else {
                    self.database.fails(&error);
                }
                self.session = None;
            }
        }
    }

    fn try_publish(&mut self, messages: &[Message]) -> Result<(), StoreError> {
        let session = match self.session.take() {
            Some(session) => session,
            None => self.store.connect()?,
        };
        let session = self.session.insert(session).as_mut();
        // The broker may take its time; that is not the database's.
        self.database.is_answered();
        self.door.look_after_the_late(session)?;
        let flushed = self
            .door
            .flush_for(Some(&self.database), session, messages)?;
        for (key, reason) in &flushed.failed {
            log::error!("message {key} of a schedule can't be published: {reason}");
        }
        Ok(())
    }
}

fn fresh(batch: Batch) -> Vec<Message> {
    if batch.taken.elapsed() < FRESH {
        batch.messages
    } else {
        Vec::new()
    }
}
