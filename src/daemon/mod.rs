//! The daemon: its pidfile, which it keeps locked for as long as it runs, its control socket, its fork into the
//! background and its restart in the same process.
//!
//! The lock tells whether a service runs. The number in the file tells only which process it is, and is
//! believed only if that process is seen to hold the lock. So neither a stale pidfile nor a reused pid is ever
//! taken for the service. A daemon that restarts itself keeps both the lock and the pid.

mod control;
mod detach;
mod holder;
mod pidfile;
mod restart;

pub use self::control::{ControlServer, ControlSocket, ControlSocketError, request_status};
pub use self::detach::{
    DetachError, ForkSide, StartReport, StartReporter, detach, ensure_single_threaded,
    handle_sigpipe, set_umask,
};
pub use self::holder::PidfileHolder;
pub use self::pidfile::{
    HeldPidfile, PidfileClaim, PidfileError, PidfileState, StopTurn, claim, ensure_folder_writable,
    inspect, remove_stale,
};
pub use self::restart::{DaemonHistory, LeftoverChildren, ResumedDaemon, reexecute, take_resumed};
