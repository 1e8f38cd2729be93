//! Connecting with a deadline, which libmariadb is not told through diesel: a host that is gone would hold
//! up its caller for the two minutes that the kernel tries, and a server that hangs for as long as it does.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use crossbeam_channel::{RecvTimeoutError, bounded};
use diesel::mysql::MysqlConnection;
use diesel::prelude::*;

use super::socket;

/// As libpq is told.
const PATIENCE: Duration = Duration::from_secs(10);

/// So many attempts may go on that nobody waits for any more: a server that hangs ends none.
const MOST_LEFT: usize = 16;

static UNDER_WAY: AtomicUsize = AtomicUsize::new(0);

/// An attempt to connect.
struct Attempt;

impl Attempt {
    /// One, unless there are too many.
    fn new() -> Option<Self> {
        let more = |count| (count < MOST_LEFT).then_some(count + 1);
        let counted = UNDER_WAY.fetch_update(Ordering::AcqRel, Ordering::Acquire, more);
        counted.ok().map(|_| Self)
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        UNDER_WAY.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Connects to `url`, whose port is `port`.
///
/// # Errors
/// Why it did not come about, within [`PATIENCE`].
pub(super) fn establish(url: &str, port: u16) -> Result<MysqlConnection, String> {
    let no_answer = || format!("no answer within {} s", PATIENCE.as_secs());
    let attempt = Attempt::new().ok_or_else(no_answer)?;
    let (result, results) = bounded(1);
    let url = url.to_owned();
    thread::Builder::new()
        .name("connecting".to_owned())
        .spawn(move || {
            let _attempt = attempt;
            // Nobody may wait for it any more.
            let _unwanted = result.send(MysqlConnection::establish(&url));
        })
        .map_err(|error| error.to_string())?;
    match results.recv_timeout(PATIENCE) {
        Ok(connected) => connected.map_err(|error| error.to_string()),
        Err(RecvTimeoutError::Timeout) => {
            // Should its host be gone, the attempt ends all the same.
            socket::give_up_when_silent(port);
            Err(no_answer())
        }
        Err(RecvTimeoutError::Disconnected) => Err("connecting panicked".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;
    use std::time::Instant;

    #[test]
    fn a_server_that_says_nothing_is_given_up() {
        let server = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = server.local_addr().unwrap().port();
        let started = Instant::now();
        let error = establish(&format!("mysql://u:p@127.0.0.1:{port}/d"), port).err();
        assert_eq!(error.as_deref(), Some("no answer within 10 s"));
        assert!(started.elapsed() < 2 * PATIENCE);
    }
}
