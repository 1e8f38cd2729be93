//! Decides when a refused batch is searched for its bad record.

use crate::store::StoreError;

/// How often a refused batch is tried again, at least 100 ms apart, before the bad record is searched for.
const RETRIES_BEFORE_BISECT: u32 = 5;

/// How often the database has refused a batch.
#[derive(Default)]
pub(super) struct Refusals(u32);

impl Refusals {
    /// Whether to search for the bad record now.
    pub(super) const fn require_bisecting(&self) -> bool {
        self.0 >= RETRIES_BEFORE_BISECT
    }

    /// Counts the error if the batch is to be tried again on the same session. `false` for any other error.
    pub(super) fn count(&mut self, error: &StoreError) -> bool {
        match error {
            // The whole batch is tried once more first: a passing error must not cost a record.
            StoreError::Refused(_) | StoreError::Unreadable(_) if self.0 == 0 => {
                self.0 = RETRIES_BEFORE_BISECT
            }
            StoreError::Unclear(reason) if self.0 < RETRIES_BEFORE_BISECT => {
                log::debug!("the database refuses a batch: {reason}");
                self.0 += 1;
            }
            _ => return false,
        }
        true
    }
}
