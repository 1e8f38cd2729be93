//! What runs are put off for, said once while it lasts.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::postponement::Postponement;

/// It is over when no run has been put off for it for so long: twice the longest wait until the next try.
const OVER_AFTER: Duration = Duration::from_secs(60);

/// So many different reasons are told apart; names of tasks come from outside.
const MOST_REASONS: usize = 100;

/// What runs are put off for now.
#[derive(Default)]
pub(super) struct PutOffNotices {
    any: AtomicBool,
    known: Mutex<HashMap<String, PutOffNotice>>,
}

struct PutOffNotice {
    since: Instant,
    last: Instant,
    runs: usize,
}

impl PutOffNotices {
    /// A run is put off; what its message is.
    pub(super) fn note(&self, postponed: &Postponement, message: &str) {
        let now = Instant::now();
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        self.any.store(true, Ordering::Relaxed);
        if let Some(lack) = known.get_mut(&postponed.reason) {
            lack.last = now;
            lack.runs += 1;
        } else if known.len() < MOST_REASONS {
            log::warn!(
                "message {message} is put off, and others like it: {}{}",
                postponed.told,
                postponed.limit_in_words()
            );
            let lack = PutOffNotice {
                since: now,
                last: now,
                runs: 1,
            };
            known.insert(postponed.reason.clone(), lack);
            return;
        }
        drop(known);
        log::trace!("message {message} is put off: {}", postponed.reason);
    }

    /// Says what is over.
    pub(super) fn log_ended(&self) {
        if !self.any.load(Ordering::Relaxed) {
            return;
        }
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|reason, lack| {
            let lasts = lack.last.elapsed() < over_after();
            if !lasts {
                let time = lack.last.duration_since(lack.since).as_secs();
                let runs = lack.runs;
                log::warn!(
                    "no message is put off any more for {reason} ({runs} runs were, over {time} s)"
                );
            }
            lasts
        });
        self.any.store(!known.is_empty(), Ordering::Relaxed);
    }
}

#[cfg(not(feature = "failpoints"))]
const fn over_after() -> Duration {
    OVER_AFTER
}

/// A test does not wait for a minute.
#[cfg(feature = "failpoints")]
fn over_after() -> Duration {
    super::put_off_limits::given("over").unwrap_or(OVER_AFTER)
}
