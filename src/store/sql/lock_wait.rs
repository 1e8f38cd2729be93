//! Waiting for the locks of others without blocking them.

use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{RecvTimeoutError, bounded};
use diesel::QueryResult;
use diesel::result::Error;

use super::engine::Engine;

/// A wait is explained once it lasts this long.
const FIRST_EXPLANATION: Duration = Duration::from_secs(2);
/// The time between two explanations.
const EXPLANATION_INTERVAL: Duration = Duration::from_secs(5);

/// The first and the longest pause between two attempts.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// A wait for locks.
pub(in crate::store) struct LockWait {
    began: Instant,
    explained: Option<Instant>,
    pause: Duration,
}

impl LockWait {
    pub(in crate::store) fn new() -> Self {
        Self {
            began: Instant::now(),
            explained: None,
            pause: FIRST_PAUSE,
        }
    }

    /// Whether to explain the wait now: true at most once an [`EXPLANATION_INTERVAL`].
    pub(in crate::store) fn must_explain(&mut self) -> bool {
        let is_due = match self.explained {
            None => self.began.elapsed() >= FIRST_EXPLANATION,
            Some(time) => time.elapsed() >= EXPLANATION_INTERVAL,
        };
        if is_due {
            self.explained = Some(Instant::now());
        }
        is_due
    }

    /// Pauses before the next attempt, each time longer: an attempt makes others wait, and so must become rarer.
    pub(in crate::store) fn pause(&mut self) {
        thread::sleep(self.pause);
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
    }

    /// How long the wait has lasted, if it was explained.
    pub(in crate::store) fn explained_for(&self) -> Option<Duration> {
        self.explained.map(|_| self.began.elapsed())
    }
}

/// Runs a statement in a thread of its own. While it runs, calls `explain` on this thread whenever the wait must be
/// explained.
pub(in crate::store) fn run_watched<E: Engine>(
    engine: &mut E,
    statement: &str,
    wait: &mut LockWait,
    mut explain: impl FnMut(),
) -> QueryResult<()> {
    let (result, results) = bounded(1);
    thread::scope(|scope| {
        thread::Builder::new()
            .name("migrating".to_owned())
            .spawn_scoped(scope, move || {
                // The receiver outlives this thread.
                let _taken = result.send(engine.execute_unprepared(statement));
            })
            .map_err(|error| Error::QueryBuilderError(error.into()))?;
        loop {
            match results.recv_timeout(FIRST_PAUSE) {
                Ok(done) => return done,
                Err(RecvTimeoutError::Timeout) if wait.must_explain() => explain(),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Err(Error::NotFound),
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_wait_is_not_explained_and_a_long_one_repeatedly() {
        let mut wait = LockWait::new();
        assert!(!wait.must_explain());
        assert_eq!(wait.explained_for(), None);
        wait.began -= FIRST_EXPLANATION;
        assert!(wait.must_explain());
        assert!(!wait.must_explain());
        assert!(wait.explained_for() >= Some(FIRST_EXPLANATION));
        wait.explained = wait.explained.map(|time| time - EXPLANATION_INTERVAL);
        assert!(wait.must_explain());
    }
}
