//! The ids of runs.

use std::sync::atomic::{AtomicU64, Ordering};

/// Identifies a run within this process. Two runs of one message have different ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RunId(u64);

impl RunId {
    /// The id as a number.
    pub(super) const fn number(self) -> u64 {
        self.0
    }

    /// A new id, which no other run of this process has.
    pub(crate) fn next() -> Self {
        static LAST: AtomicU64 = AtomicU64::new(0);
        Self(LAST.fetch_add(1, Ordering::Relaxed))
    }
}
