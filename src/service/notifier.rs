//! systemd's protocol for services (sd_notify(3)): a service manager that has asked for it is told when
//! the service is up, what it is at, that it stops, and again and again that it works.

use std::ffi::OsString;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::health::service_status::{ServiceState, ServiceStatus, StatusReport, StatusVersion};
use crate::names::SYSTEMD_VARIABLES;

/// A service manager that does not read must not hold us up for longer.
const SENDING: Duration = Duration::from_secs(1);

/// So often it is looked how many tasks a service still waits for that stops, and what was not taken is
/// told again.
const AGAIN: Duration = Duration::from_secs(1);

/// The longest status: what a line of `systemctl status` shows, and some.
const STATUS_CHARS: usize = 300;

/// Starts the thread that tells systemd how the service is, if systemd has asked for it.
///
/// # Errors
/// When the system has no thread left.
pub fn start(service_status: &Arc<ServiceStatus>) -> io::Result<()> {
    let [socket, period, pid] = SYSTEMD_VARIABLES.map(std::env::var_os);
    let Some(socket) = socket else {
        return Ok(());
    };
    let manager = match Manager::at(&socket) {
        Ok(manager) => manager,
        Err(error) => {
            log::error!("systemd can't be told how the service is, at {socket:?}: {error}");
            return Ok(());
        }
    };
    let herald = Notifier {
        manager,
        watchdog: watchdog(period, pid),
        service_status: Arc::clone(service_status),
        was_up: false,
        was_stopping: false,
        is_behind: false,
        status: String::new(),
    };
    let thread = std::thread::Builder::new().name("systemd".to_owned());
    thread.spawn(move || herald.run()).map(drop)
}

/// How often systemd wants to hear that this process works, if it does.
fn watchdog(period: Option<OsString>, pid: Option<OsString>) -> Option<Duration> {
    let text = |value: OsString| value.into_string().ok();
    // The variables may be meant for a process that has started us.
    let is_ours = pid.is_none_or(|pid| text(pid) == Some(std::process::id().to_string()));
    let period = period.and_then(text)?.parse().ok();
    period
        .filter(|period| is_ours && *period > 0)
        .map(Duration::from_micros)
}

/// The socket on which systemd listens.
struct Manager(UnixDatagram);

impl Manager {
    fn at(path: &OsString) -> io::Result<Self> {
        let address = match path.as_bytes() {
            [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
            _ => SocketAddr::from_pathname(path)?,
        };
        let socket = UnixDatagram::unbound()?;
        socket.connect_addr(&address)?;
        socket.set_write_timeout(Some(SENDING))?;
        Ok(Self(socket))
    }

    /// Whether it took it.
    fn tell(&self, what: &str) -> bool {
        let sent = self.0.send(what.as_bytes());
        if let Err(error) = &sent {
            log::warn!("systemd was not told {what:?}: {error}");
        }
        sent.is_ok()
    }
}

struct Notifier {
    manager: Manager,
    /// It wants to hear from us at least so often.
    watchdog: Option<Duration>,
    service_status: Arc<ServiceStatus>,
    was_up: bool,
    was_stopping: bool,
    /// It was not told the latest.
    is_behind: bool,
    status: String,
}

impl Notifier {
    /// Until the process ends.
    fn run(mut self) {
        let mut seen = StatusVersion::default();
        let mut next_beat = self.watchdog.map(|_| Instant::now());
        loop {
            if next_beat.is_some_and(|next| Instant::now() >= next) {
                next_beat = self.beat();
            }
            let until_beat = next_beat.map(|next| next.saturating_duration_since(Instant::now()));
            let again = (self.was_stopping || self.is_behind).then_some(AGAIN);
            let timeout = until_beat.into_iter().chain(again).min();
            let (now, report) = self.service_status.follow(seen, timeout);
            seen = now;
            self.tell(&report);
        }
    }

    /// Says that the service works, if it does: else systemd makes an end of it. When to do so again.
    fn beat(&self) -> Option<Instant> {
        let period = self.watchdog?;
        // Those who are asked may take so long one after the other, and the next beat is not before that.
        let patience = period / 8;
        if !self.service_status.pulse().beats(patience) {
            log::error!(
                "a vital part of the service is gone, or has not answered for {patience:?}: systemd is not told that it works"
            );
        } else if self.manager.tell("WATCHDOG=1") {
            return Instant::now().checked_add(period / 2);
        }
        Instant::now().checked_add(patience)
    }

    fn tell(&mut self, report: &StatusReport) {
        let mut lines = Vec::new();
        if report.is_up() && !self.was_up {
            lines.push("READY=1".to_owned());
        }
        if ends(report) && !self.was_stopping {
            lines.push("STOPPING=1".to_owned());
        }
        let status = status(report);
        if status != self.status {
            lines.push(format!("STATUS={status}"));
        }
        self.is_behind = !lines.is_empty() && !self.manager.tell(&lines.join("\n"));
        if self.is_behind {
            return;
        }
        self.was_up |= report.is_up();
        self.was_stopping |= ends(report);
        self.status = status;
    }
}

/// Whether it ends, in order or not.
const fn ends(report: &StatusReport) -> bool {
    matches!(
        report.state,
        ServiceState::Stopping | ServiceState::Restarting
    )
}

/// The service in one line.
fn status(report: &StatusReport) -> String {
    let waits = report.waiting_for.join("; ");
    let text = match report.state {
        ServiceState::Starting => "Starting".to_owned(),
        ServiceState::Waiting if waits.is_empty() => "Waiting for a broker".to_owned(),
        ServiceState::Waiting => format!("Waiting: {waits}"),
        ServiceState::Consuming => {
            let names = report.queues.iter().map(|queue| queue.name.as_str());
            format!("Consuming {}", names.collect::<Vec<_>>().join(", "))
        }
        ServiceState::Stopping | ServiceState::Restarting => match &report.failure {
            Some(what) => format!("Failed: {what} died"),
            None => format!("Stopping; tasks still running: {}", report.running_tasks),
        },
    };
    // One line is one assignment.
    let in_one_line = text
        .chars()
        .map(|char| if char.is_control() { ' ' } else { char });
    in_one_line.take(STATUS_CHARS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn os(text: &str) -> Option<OsString> {
        Some(text.into())
    }

    #[test]
    fn the_watchdog_is_ours_if_it_names_this_process_or_none() {
        let second = Some(Duration::from_secs(1));
        assert_eq!(watchdog(os("1000000"), None), second);
        let this = std::process::id().to_string();
        assert_eq!(watchdog(os("1000000"), os(&this)), second);
        assert_eq!(watchdog(os("1000000"), os("1")), None);
        for nothing in [None, os(""), os("0"), os("soon")] {
            assert_eq!(watchdog(nothing, None), None);
        }
    }

    #[test]
    fn a_status_is_one_short_line() {
        let mut report = ServiceStatus::new().look();
        report.state = ServiceState::Waiting;
        report.waiting_for = vec!["the broker is away:\nrefused".to_owned(), "x".repeat(400)];
        let status = status(&report);
        assert!(
            status.starts_with("Waiting: the broker is away: refused; xxx"),
            "{status}"
        );
        assert_eq!(status.chars().count(), STATUS_CHARS);
    }
}
