//! What libmariadb is not told through diesel: to notice that the other host is gone.
//!
//! Its connections are found among our own by the port at their other end. Where the system does not
//! let us, its own patience holds: some 15 minutes for what was sent, two hours for an idle
//! connection.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::net::{getpeername, sockopt};
use rustix::process::{PidfdFlags, PidfdGetfdFlags, getpid, pidfd_getfd, pidfd_open};

/// The same as libpq is told: some 20 s.
const IDLE: Duration = Duration::from_secs(10);
const INTERVAL: Duration = Duration::from_secs(5);
const PROBES: u32 = 2;
const USER_TIMEOUT_MILLISECONDS: u32 = 20_000;

/// Has the system give up our connections to this port when nobody answers at the other end.
pub(super) fn give_up_when_silent(port: u16) {
    if let Err(error) = try_all(port) {
        log::debug!("connections to the database have the system's patience: {error}");
    }
}

fn try_all(port: u16) -> io::Result<()> {
    let this = pidfd_open(getpid(), PidfdFlags::empty())?;
    for entry in fs::read_dir("/proc/self/fd")? {
        let name = entry?.file_name();
        let Some(fd) = name.to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        // Another thread may close it meanwhile.
        if let Ok(socket) = pidfd_getfd(&this, fd, PidfdGetfdFlags::empty())
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

fn leads_to(socket: &OwnedFd, port: u16) -> bool {
    let Ok(Some(peer)) = getpeername(socket) else {
        return false;
    };
    SocketAddr::try_from(peer).is_ok_and(|peer| peer.port() == port)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, TcpStream};

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
}
