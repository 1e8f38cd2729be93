//! How long a consumer keeps a message that no row can hold.

use std::time::{Duration, Instant};

use crate::execution::Postponement;
use crate::retry::Backoff;
use crate::state::Cause;

/// The wait of a message that its consumer keeps.
pub(super) struct LocalWait {
    /// The cause of the wait, and since when it lasts.
    since: Option<(Cause, Instant)>,
    backoff: Backoff,
}

impl LocalWait {
    pub(super) const fn new() -> Self {
        Self {
            since: None,
            backoff: Backoff::new(Duration::from_secs(1), Duration::from_secs(30)),
        }
    }

    /// The time until the next try. `None` if the message has waited for as long as allowed.
    pub(super) fn next_wait(&mut self, postponed: &Postponement) -> Option<Duration> {
        if self.since.is_none_or(|(cause, _)| cause != postponed.cause) {
            self.since = Some((postponed.cause, Instant::now()));
            self.backoff.reset();
        }
        let waited = self
            .since
            .map_or(Duration::ZERO, |(_, since)| since.elapsed());
        let wait = self.backoff.next_wait();
        match postponed.limit() {
            Some(limit) if waited >= limit => None,
            Some(limit) => Some(wait.min(limit - waited)),
            None => Some(wait),
        }
    }
}
