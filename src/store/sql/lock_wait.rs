//! Waiting for others without standing in anybody's way.

use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{RecvTimeoutError, bounded};
use diesel::QueryResult;
use diesel::result::Error;

use super::engine::Engine;

/// A wait that lasts longer is explained.
const UNEXPLAINED: Duration = Duration::from_secs(2);
/// So often it is explained again.
const AGAIN: Duration = Duration::from_secs(5);

/// The first and the longest pause between two attempts.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// A wait for others.
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

    /// Whether to explain the wait now. Says so once a while.
    pub(in crate::store) fn must_explain(&mut self) -> bool {
        let is_due = match self.explained {
            None => self.began.elapsed() >= UNEXPLAINED,
            Some(time) => time.elapsed() >= AGAIN,
        };
        if is_due {
            self.explained = Some(Instant::now());
        }
        is_due
    }

    /// Pauses before the next attempt; each time longer, so that an attempt that makes others wait is
    /// ever rarer.
    pub(in crate::store) fn pause(&mut self) {
        thread::sleep(self.pause);
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
    }

    /// So long it has lasted, if somebody was told of it.
    pub(in crate::store) fn explained_for(&self) -> Option<Duration> {
        self.explained.map(|_| self.began.elapsed())
    }
}

/// Runs a statement in a thread of its own. While it takes long, `explain` is called once a while, on this
/// thread.
pub(in crate::store) fn run_watched<E: Engine>(
    engine: &mut E,
    statement: &str,
    patience: &mut LockWait,
    mut explain: impl FnMut(),
) -> QueryResult<()> {
    let (result, results) = bounded(1);
    thread::scope(|scope| {
        thread::Builder::new()
            .name("migrating".to_owned())
            .spawn_scoped(scope, move || {
                // This function waits for it.
                let _taken = result.send(engine.execute_unprepared(statement));
            })
            .map_err(|error| Error::QueryBuilderError(error.into()))?;
        loop {
            match results.recv_timeout(FIRST_PAUSE) {
                Ok(done) => return done,
                Err(RecvTimeoutError::Timeout) if patience.must_explain() => explain(),
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
    fn a_short_wait_is_not_explained_and_a_long_one_once_a_while() {
        let mut patience = LockWait::new();
        assert!(!patience.must_explain());
        assert_eq!(patience.explained_for(), None);
        patience.began -= UNEXPLAINED;
        assert!(patience.must_explain());
        assert!(!patience.must_explain());
        assert!(patience.explained_for() >= Some(UNEXPLAINED));
        patience.explained = patience.explained.map(|time| time - AGAIN);
        assert!(patience.must_explain());
    }
}
