//! Connecting with a deadline, which diesel can't set in libmariadb. Without it, a host that is gone would block the
//! caller for the two minutes that the kernel tries, and a hung server for as long as it hangs.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use crossbeam_channel::{RecvTimeoutError, bounded};
use diesel::mysql::MysqlConnection;
use diesel::prelude::*;

use super::socket;

/// How long an attempt may take; the same as for PostgreSQL.
const TIMEOUT: Duration = Duration::from_secs(10);

/// How many attempts may be under way. An attempt whose caller has given up goes on, for ever if the server hangs.
const MOST_ATTEMPTS: usize = 16;

static ATTEMPTS: AtomicUsize = AtomicUsize::new(0);

/// Counts an attempt to connect until it is dropped.
struct ConnectAttempt;

impl ConnectAttempt {
    /// An attempt, unless too many are under way.
    fn new() -> Option<Self> {
        let more = |count| (count < MOST_ATTEMPTS).then_some(count + 1);
        let counted = ATTEMPTS.fetch_update(Ordering::AcqRel, Ordering::Acquire, more);
        counted.ok().map(|_| Self)
    }
}

impl Drop for ConnectAttempt {
    fn drop(&mut self) {
        ATTEMPTS.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Connects to `url`, whose port is `port`.
///
/// # Errors
/// Why there is no connection, within [`TIMEOUT`].
pub(super) fn establish(url: &str, port: u16) -> Result<MysqlConnection, String> {
    let no_answer = || format!("no answer within {} s", TIMEOUT.as_secs());
    let attempt = ConnectAttempt::new().ok_or_else(no_answer)?;
    let (result, results) = bounded(1);
    let url = url.to_owned();
    thread::Builder::new()
        .name("connecting".to_owned())
        .spawn(move || {
            let _attempt = attempt;
            // The caller may have given up.
            let _unwanted = result.send(MysqlConnection::establish(&url));
        })
        .map_err(|error| error.to_string())?;
    match results.recv_timeout(TIMEOUT) {
        Ok(connected) => connected.map_err(|error| error.to_string()),
        Err(RecvTimeoutError::Timeout) => {
            // If the host is gone, this ends the attempt.
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
        assert!(started.elapsed() < 2 * TIMEOUT);
    }
}
