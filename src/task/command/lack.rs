//! Why a command could not be started, and whether that may pass.

use std::io;

use rustix::io::Errno;

use crate::state::Cause;

/// Why the system did not start a command, if that may pass. What does not: the configuration names a
/// program that can't be run, or may not be.
pub(super) fn cause_of(error: &io::Error) -> Option<Cause> {
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
