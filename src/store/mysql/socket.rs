//! Has connections notice that the other host is gone, which diesel can't set in libmariadb.
//!
//! Its connections are found among this process's sockets by the port at their other end. Where the system forbids
//! that, its own timeouts hold: some 15 minutes for data that was sent, two hours for an idle connection.
//!
//! Descriptors of files are never closed here: closing any descriptor of a file, even a copy, releases all locks
//! that this process has on that file (`fcntl`), such as those on an open SQLite database.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::fs::{FileType, fstat};
use rustix::net::{getpeername, sockopt};
use rustix::process::{PidfdFlags, PidfdGetfdFlags, getpid, pidfd_getfd, pidfd_open};

/// Together some 20 s, the same as for PostgreSQL.
const IDLE: Duration = Duration::from_secs(10);
const INTERVAL: Duration = Duration::from_secs(5);
const PROBES: u32 = 2;
const USER_TIMEOUT_MILLISECONDS: u32 = 20_000;

/// Has the system end this process's connections to `port` when the other end no longer answers.
pub(super) fn give_up_when_silent(port: u16) {
    if let Err(error) = try_all(port) {
        log::debug!("connections to the database keep the system's timeouts: {error}");
    }
}

fn try_all(port: u16) -> io::Result<()> {
    let this = pidfd_open(getpid(), PidfdFlags::empty())?;
    for entry in fs::read_dir("/proc/self/fd")? {
        let entry = entry?;
        let name = entry.file_name();
        let Some(fd) = name.to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        // Another thread may close the descriptor at any moment.
        let Ok(target) = fs::read_link(entry.path()) else {
            continue;
        };
        if !target.to_string_lossy().starts_with("socket:") {
            continue;
        }
        if let Ok(copy) = pidfd_getfd(&this, fd, PidfdGetfdFlags::empty())
            && let Some(socket) = only_a_socket(copy)
            && leads_to(&socket, port)
        {
            sockopt::set_socket_keepalive(&socket, true)?;
            sockopt::set_tcp_keepidle(&socket, IDLE)?;
            sockopt::set_tcp_keepintvl(&socket, INTERVAL)?;
            sockopt::set_tcp_keepcnt(&socket, PROBES)?;
            sockopt::set_tcp_user_timeout(&socket, USER_TIMEOUT_MILLISECONDS)?;
        }
    }
    Ok(())
}

/// The copy, if it is a socket. Another thread may have reused the descriptor for a file meanwhile; a copy of that
/// is never closed.
fn only_a_socket(copy: OwnedFd) -> Option<OwnedFd> {
    let is_socket =
        fstat(&copy).is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Socket);
    if is_socket {
        return Some(copy);
    }
    std::mem::forget(copy);
    None
}

fn leads_to(socket: &OwnedFd, port: u16) -> bool {
    let Ok(Some(peer)) = getpeername(socket) else {
        return false;
    };
    SocketAddr::try_from(peer).is_ok_and(|peer| peer.port() == port)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::{FlockOperation, fcntl_lock};
    use std::net::{TcpListener, TcpStream};
    use std::os::unix::fs::MetadataExt;

    #[test]
    fn a_connection_to_the_port_is_given_up_when_silent_and_another_is_not() {
        let servers = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
        let ours = TcpStream::connect(servers[0].local_addr().unwrap()).unwrap();
        let other = TcpStream::connect(servers[1].local_addr().unwrap()).unwrap();
        give_up_when_silent(servers[0].local_addr().unwrap().port());
        assert_eq!(
            sockopt::tcp_user_timeout(&ours).unwrap(),
            USER_TIMEOUT_MILLISECONDS
        );
        assert!(sockopt::socket_keepalive(&ours).unwrap());
        assert_eq!(sockopt::tcp_user_timeout(&other).unwrap(), 0);
    }

    /// The kernel's list of locks names the process and the file's inode. A list that is read while
    /// others lock and unlock may lack lines, so it is read more than once.
    fn is_locked_by_us(file: &fs::File) -> bool {
        let ours = format!(" {} ", std::process::id());
        let inode = format!(":{} ", file.metadata().unwrap().ino());
        (0..1000).any(|_| {
            let locks = fs::read_to_string("/proc/locks").unwrap();
            locks
                .lines()
                .any(|lock| lock.contains(&ours) && lock.contains(&inode))
        })
    }

    #[test]
    fn the_locks_on_a_file_are_kept() {
        let file = tempfile::tempfile().unwrap();
        fcntl_lock(&file, FlockOperation::NonBlockingLockExclusive).unwrap();
        assert!(is_locked_by_us(&file));
        give_up_when_silent(1);
        assert!(is_locked_by_us(&file));
    }
}
