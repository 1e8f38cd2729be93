//! The messages that this process has claimed and not finished, and the deliveries that wait for
//! each.

use std::collections::HashMap;
use std::sync::Arc;

use super::Sink;
use crate::broker::DeliveryHandle;
use crate::task::RunId;

/// A delivery and who settles it.
pub(super) struct Holder {
    pub(super) sink: Arc<dyn Sink>,
    pub(super) receipt: DeliveryHandle,
}

/// By key, and by run: of a run that was given up nothing is in hand any more, whatever it still does, though
/// another of its message may be.
#[derive(Default)]
pub(super) struct RunsInFlight(HashMap<String, Run>);

struct Run {
    id: RunId,
    /// The first one's set runs the message, the others have joined.
    holders: Vec<Holder>,
}

impl RunsInFlight {
    /// A run of a message that is ours from now on.
    pub(super) fn take_up(&mut self, key: String, holder: Holder) -> RunId {
        let id = RunId::next();
        let holders = vec![holder];
        self.0.insert(key, Run { id, holders });
        id
    }

    /// Joins the run in hand, if there is one.
    pub(super) fn join(&mut self, key: &str, holder: impl FnOnce() -> Holder) -> bool {
        let Some(run) = self.0.get_mut(key) else {
            return false;
        };
        log::info!("message {key} was delivered again while it is in hand");
        run.holders.push(holder());
        true
    }

    /// Whether another run of the message is in hand: this one was given up. What neither is in hand is
    /// fenced by its row alone.
    pub(super) fn is_replaced(&self, key: &str, id: RunId) -> bool {
        self.0.get(key).is_some_and(|run| run.id != id)
    }

    /// The run is over; the deliveries that wait for it.
    pub(super) fn remove(&mut self, key: &str, id: RunId) -> Vec<Holder> {
        if self.is_replaced(key, id) {
            return Vec::new();
        }
        let run = self.0.remove(key);
        run.map(|run| run.holders).unwrap_or_default()
    }
}

/// Gathers a `T` for each set.
pub(super) struct BySink<T>(Vec<(Arc<dyn Sink>, T)>);

impl<T> Default for BySink<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T: Default> BySink<T> {
    pub(super) fn of(&mut self, sink: &Arc<dyn Sink>) -> &mut T {
        let known = self
            .0
            .iter()
            .position(|(other, _)| Arc::ptr_eq(other, sink));
        let index = known.unwrap_or_else(|| {
            self.0.push((Arc::clone(sink), T::default()));
            self.0.len() - 1
        });
        &mut self.0[index].1
    }

    pub(super) fn into_iter(self) -> impl Iterator<Item = (Arc<dyn Sink>, T)> {
        self.0.into_iter()
    }
}
