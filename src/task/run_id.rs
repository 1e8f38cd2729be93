//! The ids of runs.

use std::sync::atomic::{AtomicU64, Ordering};

/// Tells the runs of this process apart, also those of the same message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RunId(u64);

impl RunId {
    /// The same as a number.
    pub(super) const fn number(self) -> u64 {
        self.0
    }

    /// One that no other run of this process has.
    pub(crate) fn next() -> Self {
        static LAST: AtomicU64 = AtomicU64::new(0);
        Self(LAST.fetch_add(1, Ordering::Relaxed))
    }
}
