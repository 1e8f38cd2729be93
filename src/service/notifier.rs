//! systemd's protocol for services (sd_notify(3)): tells a service manager that asks for it when the service is up,
//! what its status is, that it stops, and regularly that it is alive.

use std::ffi::OsString;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::health::service_status::{ServiceState, ServiceStatus, StatusReport, StatusVersion};
use crate::names::SYSTEMD_VARIABLES;

/// How long a service manager that does not read may block the thread.
const SEND_TIMEOUT: Duration = Duration::from_secs(1);

/// How often a stopping service reports how many tasks still run, and how often a failed send is repeated.
const REPEAT_INTERVAL: Duration = Duration::from_secs(1);

/// The longest status text: somewhat more than a line of `systemctl status` shows.
const STATUS_CHARS: usize = 300;

/// Starts the thread that reports the service's status to systemd, if systemd asks for it.
///
/// # Errors
/// When the system has no thread left.
pub fn start(service_status: &Arc<ServiceStatus>) -> io::Result<()> {
    let [socket, period, pid] = SYSTEMD_VARIABLES.map(std::env::var_os);
    let Some(socket) = socket else {
        return Ok(());
    };
    let manager = match ServiceManager::connect(&socket) {
        Ok(manager) => manager,
        Err(error) => {
            log::error!("systemd can't be told how the service is, at {socket:?}: {error}");
            return Ok(());
        }
    };
    let notifier = Notifier {
        manager,
        watchdog: watchdog_period(period, pid),
        service_status: Arc::clone(service_status),
        was_up: false,
        was_stopping: false,
        is_outdated: false,
        status: String::new(),
    };
    let thread = std::thread::Builder::new().name("systemd".to_owned());
    thread.spawn(move || notifier.run()).map(drop)
}

/// The longest time between two pings that systemd's watchdog allows, if it watches this process.
fn watchdog_period(period: Option<OsString>, pid: Option<OsString>) -> Option<Duration> {
    let text = |value: OsString| value.into_string().ok();
    // The variables may be meant for the process that started us.
    let is_ours = pid.is_none_or(|pid| text(pid) == Some(std::process::id().to_string()));
    let period = period.and_then(text)?.parse().ok();
    period
        .filter(|period| is_ours && *period > 0)
        .map(Duration::from_micros)
}

/// The socket on which systemd listens.
struct ServiceManager(UnixDatagram);

impl ServiceManager {
    fn connect(path: &OsString) -> io::Result<Self> {
        let address = match path.as_bytes() {
            [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
            _ => SocketAddr::from_pathname(path)?,
        };
        let socket = UnixDatagram::unbound()?;
        socket.connect_addr(&address)?;
        socket.set_write_timeout(Some(SEND_TIMEOUT))?;
        Ok(Self(socket))
    }

    /// Sends a message. Returns whether that succeeded.
    fn send(&self, what: &str) -> bool {
        let sent = self.0.send(what.as_bytes());
        if let Err(error) = &sent {
            log::warn!("systemd was not told {what:?}: {error}");
        }
        sent.is_ok()
    }
}

struct Notifier {
    manager: ServiceManager,
    /// The longest time between two pings.
    watchdog: Option<Duration>,
    service_status: Arc<ServiceStatus>,
    was_up: bool,
    was_stopping: bool,
    /// Whether the last send failed.
    is_outdated: bool,
    status: String,
}

impl Notifier {
    /// Runs until the process ends.
    fn run(mut self) {
        let mut seen = StatusVersion::default();
        let mut next_ping = self.watchdog.map(|_| Instant::now());
        loop {
            if next_ping.is_some_and(|next| Instant::now() >= next) {
                next_ping = self.ping_watchdog();
            }
            let until_ping = next_ping.map(|next| next.saturating_duration_since(Instant::now()));
            let again = (self.was_stopping || self.is_outdated).then_some(REPEAT_INTERVAL);
            let timeout = until_ping.into_iter().chain(again).min();
            let (now, report) = self.service_status.wait_for_change(seen, timeout);
            seen = now;
            self.send_changes(&report);
        }
    }

    /// Tells systemd that the service is alive, if it is; otherwise systemd kills it. Returns when to ping next.
    fn ping_watchdog(&self) -> Option<Instant> {
        let period = self.watchdog?;
        // The checked parts may take so long one after another, which delays the next ping.
        let timeout = period / 8;
        if !self.service_status.watchdog().is_alive(timeout) {
            log::error!(
                "a vital part of the service is gone, or has not answered for {timeout:?}: systemd is not told that it works"
            );
        } else if self.manager.send("WATCHDOG=1") {
            return Instant::now().checked_add(period / 2);
        }
        Instant::now().checked_add(timeout)
    }

    fn send_changes(&mut self, report: &StatusReport) {
        let mut lines = Vec::new();
        if report.is_up() && !self.was_up {
            lines.push("READY=1".to_owned());
        }
        if is_ending(report) && !self.was_stopping {
            lines.push("STOPPING=1".to_owned());
        }
        let status = status(report);
        if status != self.status {
            lines.push(format!("STATUS={status}"));
        }
        self.is_outdated = !lines.is_empty() && !self.manager.send(&lines.join("\n"));
        if self.is_outdated {
            return;
        }
        self.was_up |= report.is_up();
        self.was_stopping |= is_ending(report);
        self.status = status;
    }
}

/// Whether the process ends, in order or not.
const fn is_ending(report: &StatusReport) -> bool {
    matches!(
        report.state,
        ServiceState::Stopping | ServiceState::Restarting
    )
}

/// The status of the service in one line.
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
    // A newline would end the assignment.
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
    fn the_watchdog_watches_this_process_if_it_names_it_or_no_process() {
        let second = Some(Duration::from_secs(1));
        assert_eq!(watchdog_period(os("1000000"), None), second);
        let this = std::process::id().to_string();
        assert_eq!(watchdog_period(os("1000000"), os(&this)), second);
        assert_eq!(watchdog_period(os("1000000"), os("1")), None);
        for nothing in [None, os(""), os("0"), os("soon")] {
            assert_eq!(watchdog_period(nothing, None), None);
        }
    }

    #[test]
    fn a_status_is_one_short_line() {
        let mut report = ServiceStatus::new().report();
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
