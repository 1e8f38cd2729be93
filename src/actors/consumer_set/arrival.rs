//! A delivery before it is claimed: its key, and the row that it gets if it has none.

use std::time::Instant;

use super::unnamed::Unnamed;
use crate::broker::Delivery;
use crate::execution::{NO_ROW, message_of};
use crate::ledger::Claimable;
use crate::message::{Payload, wire};
use crate::names;
use crate::state::End;
use crate::store::NewRow;

/// A delivery that waits to be claimed.
#[derive(Debug)]
pub(super) struct Arrival {
    key: String,
    delivery: Delivery,
    adopt: Adopt,
    /// Its row was there at a look.
    has_row: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Adopt {
    /// See first whether there is a row.
    No,
    /// There is none, and none is to be expected.
    ToRun,
    /// There is none, and there should be.
    AsCancelled,
}

impl Arrival {
    /// A delivery as it came.
    pub(super) fn new(delivery: Delivery, unnamed: &mut Unnamed) -> Self {
        // An empty id would make all that have one the same message.
        let id = delivery.message_id.as_deref().filter(|id| !id.is_empty());
        match id {
            Some(id) => Self {
                key: names::key_of(id),
                delivery,
                adopt: Adopt::No,
                has_row: false,
            },
            // No key: each delivery is a message of its own, unless it is known to come again.
            None => Self {
                key: unnamed.key_of(&delivery),
                delivery,
                adopt: Adopt::ToRun,
                has_row: false,
            },
        }
    }

    /// After a claim that found no row: the same delivery, which gets one at once if its publisher
    /// writes none.
    pub(super) fn without_row(claimed: Claimable) -> Self {
        let Claimable { key, delivery, .. } = claimed;
        let adopt = if expects_row(&delivery) {
            Adopt::No
        } else {
            Adopt::ToRun
        };
        Self {
            key,
            delivery,
            adopt,
            has_row: false,
        }
    }

    /// The same delivery, whose row was there at a look.
    pub(super) fn with_row(self) -> Self {
        Self {
            has_row: true,
            ..self
        }
    }

    /// The same delivery, whose row has not come in time.
    pub(super) fn given_up(self) -> Self {
        Self {
            adopt: Adopt::AsCancelled,
            ..self
        }
    }

    /// Whether its publisher writes its row, which nobody has seen yet.
    pub(super) fn may_lack_its_row(&self) -> bool {
        self.adopt == Adopt::No && !self.has_row && expects_row(&self.delivery)
    }

    pub(super) const fn delivery(&self) -> &Delivery {
        &self.delivery
    }

    /// The connection that it came by.
    pub(super) const fn epoch(&self) -> u64 {
        self.delivery.receipt.epoch
    }

    pub(super) fn key(&self) -> &str {
        &self.key
    }

    /// What the ledger is asked for.
    pub(super) fn into_claimable(self, queue: &str) -> Claimable {
        let adopt = match self.adopt {
            Adopt::No => None,
            Adopt::ToRun => Some(row(&self.key, &self.delivery, queue)),
            Adopt::AsCancelled => {
                log::warn!("message {}: {}", self.key, NO_ROW.1);
                let row = row(&self.key, &self.delivery, queue);
                Some(row.ended(NO_ROW.0, NO_ROW.1.to_owned()))
            }
        };
        Claimable {
            key: self.key,
            delivery: self.delivery,
            asked: Instant::now(),
            adopt,
        }
    }
}

/// Whether the publisher writes the message's row, as django-carrot does.
fn expects_row(delivery: &Delivery) -> bool {
    delivery.kind.as_deref() == Some(names::MESSAGE_TYPE)
}

/// The row of a message that has none. What can't be read is kept as it is, and is over: as text in a
/// row it might read as something else, and be published as that after a death.
fn row(key: &str, delivery: &Delivery, queue: &str) -> NewRow {
    let (arguments, unreadable) = match wire::decode(&delivery.body) {
        Ok(arguments) => (arguments, None),
        Err(error) => (Payload::default(), Some(error.to_string())),
    };
    let message = message_of(key, delivery, queue, arguments);
    let row = NewRow::pending(&message).published();
    let Some(reason) = delivery.fault.as_ref().or(unreadable.as_ref()) else {
        return row;
    };
    log::error!("message {key} from queue {queue}: {reason}");
    let reason = reason.clone();
    if unreadable.is_none() {
        return row.ended(End::Failed, reason);
    }
    let body = String::from_utf8_lossy(&delivery.body).into_owned();
    NewRow {
        content: Some(names::storable(body)),
        task_args: None,
        ..row.ended(End::Failed, reason)
    }
}
