//! The messages that this process has claimed and not finished, and the deliveries of each.

use std::collections::HashMap;
use std::sync::Arc;

use super::listener::LedgerListener;
use crate::broker::DeliveryHandle;
use crate::task::RunId;

/// An unsettled delivery, and the set that settles it.
pub(super) struct HeldDelivery {
    pub(super) listener: Arc<dyn LedgerListener>,
    pub(super) handle: DeliveryHandle,
}

/// The runs in flight by their message's key. A run that was given up is not in flight, whatever it still does,
/// although another run of its message may be.
#[derive(Default)]
pub(super) struct RunsInFlight(HashMap<String, InFlightRun>);

struct InFlightRun {
    id: RunId,
    /// The set of the first delivery runs the message; the others have joined.
    holders: Vec<HeldDelivery>,
}

impl RunsInFlight {
    /// Adds a run of a message that this worker has just claimed.
    pub(super) fn start(&mut self, key: String, holder: HeldDelivery) -> RunId {
        let id = RunId::next();
        let holders = vec![holder];
        self.0.insert(key, InFlightRun { id, holders });
        id
    }

    /// Joins the run of the message that is in flight. `false` if there is none.
    pub(super) fn join(&mut self, key: &str, holder: impl FnOnce() -> HeldDelivery) -> bool {
        let Some(run) = self.0.get_mut(key) else {
            return false;
        };
        log::info!("message {key} was delivered again while it is in hand");
        run.holders.push(holder());
        true
    }

    /// Whether another run of the message is in flight, so that this one was given up. If no run of the message
    /// is in flight, only the row fences this one off.
    pub(super) fn has_successor(&self, key: &str, id: RunId) -> bool {
        self.0.get(key).is_some_and(|run| run.id != id)
    }

    /// Removes a run that is over, and returns the deliveries that wait for it.
    pub(super) fn remove(&mut self, key: &str, id: RunId) -> Vec<HeldDelivery> {
        if self.has_successor(key, id) {
            return Vec::new();
        }
        let run = self.0.remove(key);
        run.map(|run| run.holders).unwrap_or_default()
    }
}

/// Collects a `T` for each listener.
pub(super) struct PerListener<T>(Vec<(Arc<dyn LedgerListener>, T)>);

impl<T> Default for PerListener<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T: Default> PerListener<T> {
    pub(super) fn entry_for(&mut self, listener: &Arc<dyn LedgerListener>) -> &mut T {
        let known = self
            .0
            .iter()
            .position(|(other, _)| Arc::ptr_eq(other, listener));
        let index = known.unwrap_or_else(|| {
            self.0.push((Arc::clone(listener), T::default()));
            self.0.len() - 1
        });
        &mut self.0[index].1
    }

    pub(super) fn into_iter(self) -> impl Iterator<Item = (Arc<dyn LedgerListener>, T)> {
        self.0.into_iter()
    }
}
