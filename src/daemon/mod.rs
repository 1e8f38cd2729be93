//! The daemon, seen by its controller: a pidfile that is held by a lock for the service's life, a
//! control socket beside it, and the way into the background.
//!
//! The lock says whether a service lives; the number in the file only which one it is, and it is
//! believed when that process is seen to have the lock. So neither a file that was left behind
//! nor a pid that is used again is ever taken for the service. A daemon that begins again by itself keeps
//! both.

mod control;
mod detach;
mod holder;
mod pidfile;
mod resume;

pub use self::control::{Control, Socket, SocketError, ask};
pub use self::detach::{
    DetachError, Launch, Side, StartReport, detach, is_alone, outlive_broken_pipes, set_umask,
};
pub use self::holder::Holder;
pub use self::pidfile::{Claim, Found, Held, PidfileError, Turn, claim, clear, has_room, look};
pub use self::resume::{Children, Past, Resumed, execute_again, resumed};
