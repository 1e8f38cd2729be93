//! The runs that are under way in this process, so that each can be ended from outside.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::task::{RunId, Runner};

/// The runs that are under way, with what runs them.
#[derive(Default)]
pub(super) struct Running(Mutex<HashMap<RunId, Arc<dyn Runner>>>);

/// Lists a run until it is dropped.
pub(super) struct Listed<'a> {
    running: &'a Running,
    run: RunId,
}

impl Running {
    /// Lists a run that begins now.
    pub(super) fn list(&self, run: RunId, runner: &Arc<dyn Runner>) -> Listed<'_> {
        self.lock().insert(run, Arc::clone(runner));
        Listed { running: self, run }
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

impl Drop for Listed<'_> {
    fn drop(&mut self) {
        self.running.lock().remove(&self.run);
    }
}
