//! Why a command could not be started, and whether the cause may be temporary.

use std::io;

use rustix::io::Errno;

use crate::state::Cause;
use crate::task::TaskError;

/// The system did not start a command: there is no such program, or no process, pipe or memory left.
#[derive(Debug, thiserror::Error)]
#[error("{program:?} can't be started")]
pub(super) struct StartError {
    /// The program without its arguments, which may hold a secret.
    pub(super) program: String,
    /// The system's error.
    pub(super) source: io::Error,
}

impl StartError {
    /// Converts it into the run's outcome. If the cause may be temporary, the message is put off.
    pub(super) fn into_task_error(self) -> TaskError {
        match temporary_cause(&self.source) {
            Some(cause) => TaskError::not_started(cause, TaskError::from(self).exception),
            None => self.into(),
        }
    }
}

/// The cause of an error that may be temporary. An error is permanent if the configured program can't be
/// executed, or this user may not execute it.
fn temporary_cause(error: &io::Error) -> Option<Cause> {
    match Errno::from_io_error(error)? {
        // Too many files, pipes, processes or threads, or too little memory for them or for the program.
        Errno::MFILE
        | Errno::NFILE
        | Errno::AGAIN
        | Errno::NOMEM
        | Errno::NOBUFS
        | Errno::DQUOT
        | Errno::NOSPC
        | Errno::USERS => Some(Cause::Resources),
        // The program, its interpreter or its directory is missing, or the program is being written: a
        // deployment may be replacing it.
        Errno::NOENT | Errno::TXTBSY | Errno::STALE => Some(Cause::Program),
        _ => None,
    }
}
