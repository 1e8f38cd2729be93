//! The messages that this process has claimed and not finished, and the deliveries that wait for
//! each.

use std::collections::HashMap;
use std::sync::Arc;

use super::Sink;
use crate::broker::Receipt;

/// A delivery and who settles it.
pub(super) struct Holder {
    pub(super) sink: Arc<dyn Sink>,
    pub(super) receipt: Receipt,
}

/// By key; the first holder's set runs the message, the others have joined.
#[derive(Default)]
pub(super) struct InHand(HashMap<String, Vec<Holder>>);

impl InHand {
    pub(super) fn take_up(&mut self, key: String, holder: Holder) {
        self.0.insert(key, vec![holder]);
    }

    /// Joins the run in hand, if there is one.
    pub(super) fn join(&mut self, key: &str, holder: impl FnOnce() -> Holder) -> bool {
        let Some(holders) = self.0.get_mut(key) else {
            return false;
        };
        log::info!("message {key} was delivered again while it is in hand");
        holders.push(holder());
        true
    }

    pub(super) fn remove(&mut self, key: &str) -> Vec<Holder> {
        self.0.remove(key).unwrap_or_default()
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
