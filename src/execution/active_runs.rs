//! Lists the runs that are under way in this process, so that they can be cancelled.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::task::{RunId, Runner};

/// The active runs, and the runner of each.
#[derive(Default)]
pub(super) struct ActiveRuns(Mutex<HashMap<RunId, Arc<dyn Runner>>>);

/// Keeps a run in the list until it is dropped.
pub(super) struct ActiveRunGuard<'a> {
    active_runs: &'a ActiveRuns,
    run: RunId,
}

impl ActiveRuns {
    /// Adds a run that begins now.
    pub(super) fn list(&self, run: RunId, runner: &Arc<dyn Runner>) -> ActiveRunGuard<'_> {
        self.lock().insert(run, Arc::clone(runner));
        ActiveRunGuard {
            active_runs: self,
            run,
        }
    }

    /// Cancels every run that its runner can cancel.
    pub(super) fn cancel_all(&self) {
        for (run, runner) in self.lock().iter() {
            runner.cancel(*run);
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<RunId, Arc<dyn Runner>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for ActiveRunGuard<'_> {
    fn drop(&mut self) {
        self.active_runs.lock().remove(&self.run);
    }
}
