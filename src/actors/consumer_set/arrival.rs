//! A delivery before it is claimed: its key, and the row that it gets if it has none.

use std::time::{Duration, Instant};

use super::unnamed::Unnamed;
use crate::broker::Delivery;
use crate::execution::{NO_ROW, message_of};
use crate::ledger::Claimable;
use crate::message::{Payload, wire};
use crate::names;
use crate::state::End;
use crate::store::NewRow;

/// For so long django-carrot's row may come after its message: its transaction may not have
/// committed.
pub(super) const ROW_GRACE: Duration = Duration::from_secs(5);

/// A delivery that waits to be claimed.
#[derive(Debug)]
pub(super) struct Arrival {
    key: String,
    delivery: Delivery,
    adopt: Adopt,
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
            },
            // No key: each delivery is a message of its own, unless it is known to come again.
            None => Self {
                key: unnamed.key_of(&delivery),
                delivery,
                adopt: Adopt::ToRun,
            },
        }
    }

    /// After a claim that found no row: what to do next, and after which wait.
    pub(super) fn without_row(claimed: Claimable, first_missed: Instant) -> (Self, Duration) {
        let Claimable { key, delivery, .. } = claimed;
        let from_django = delivery.kind.as_deref() == Some(names::MESSAGE_TYPE);
        let missed_for = first_missed.elapsed();
        let (adopt, wait) = if !from_django {
            (Adopt::ToRun, Duration::ZERO)
        } else if missed_for >= ROW_GRACE {
            (Adopt::AsCancelled, Duration::ZERO)
        } else {
            let wait =
                (missed_for / 2).clamp(Duration::from_millis(20), Duration::from_millis(500));
            (Adopt::No, wait.min(ROW_GRACE - missed_for))
        };
        let arrival = Self {
            key,
            delivery,
            adopt,
        };
        (arrival, wait)
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
