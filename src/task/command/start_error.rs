//! Why a command could not be started, and whether that may pass.

use std::io;

use rustix::io::Errno;

use crate::state::Cause;
use crate::task::TaskError;

/// The system did not start a command: it has no program of that name, or no process, pipe or memory left.
#[derive(Debug, thiserror::Error)]
#[error("{program:?} can't be started")]
pub(super) struct StartError {
    /// The program alone: an argument may be a secret.
    pub(super) program: String,
    /// What the system said.
    pub(super) source: io::Error,
}

impl StartError {
    /// As the outcome of the run, which could not begin.
    pub(super) fn into_task_error(self) -> TaskError {
        match temporary_cause(&self.source) {
            Some(cause) => TaskError::not_started(cause, TaskError::from(self).exception),
            None => self.into(),
        }
    }
}

/// Why the system did not start a command, if that may pass. What does not: the configuration names a
/// program that can't be run, or may not be.
fn temporary_cause(error: &io::Error) -> Option<Cause> {
    match Errno::from_io_error(error)? {
        // Too many files or pipes, processes or threads; too little memory, for these or for the program.
        Errno::MFILE
        | Errno::NFILE
        | Errno::AGAIN
        | Errno::NOMEM
        | Errno::NOBUFS
        | Errno::DQUOT
        | Errno::NOSPC
        | Errno::USERS => Some(Cause::Resources),
        // The program, its interpreter or its directory is gone, or somebody writes to it: it may be about
        // to be replaced.
        Errno::NOENT | Errno::TXTBSY | Errno::STALE => Some(Cause::Program),
        _ => None,
    }
}
