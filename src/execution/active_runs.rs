//! The runs that are under way in this process, so that each can be ended from outside.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::task::{RunId, Runner};

/// The runs that are under way, with what runs them.
#[derive(Default)]
pub(super) struct ActiveRuns(Mutex<HashMap<RunId, Arc<dyn Runner>>>);

/// Lists a run until it is dropped.
pub(super) struct ActiveRunGuard<'a> {
    active_runs: &'a ActiveRuns,
    run: RunId,
}

impl ActiveRuns {
    /// Lists a run that begins now.
    pub(super) fn list(&self, run: RunId, runner: &Arc<dyn Runner>) -> ActiveRunGuard<'_> {
        self.lock().insert(run, Arc::clone(runner));
        ActiveRunGuard {
            active_runs: self,
            run,
        }
    }

    /// Ends every run that its runner can end.
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
