//! Logs why runs are put off: once when a reason first appears, and once when it no longer occurs.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::postponement::Postponement;

/// A reason has ended when no run was put off for it for this long: twice the longest wait between tries.
const OVER_AFTER: Duration = Duration::from_secs(60);

/// The most reasons that are tracked: they contain task names, which come from outside.
const MOST_REASONS: usize = 100;

/// The reasons for which runs are put off now.
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
    /// Records that the run of `message` is put off.
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

    /// Logs the reasons that have ended.
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

/// Tests may shorten it.
#[cfg(feature = "failpoints")]
fn over_after() -> Duration {
    super::put_off_limits::given("over").unwrap_or(OVER_AFTER)
}
