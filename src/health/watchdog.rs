//! Whether the vital threads and actors respond: for systemd's watchdog, which kills a service that hangs.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Whether every vital thread and actor has answered within that time.
type Check = dyn Fn(Duration) -> bool + Send + Sync;

/// Asks the vital threads and actors whether they respond, while there are any.
#[derive(Default)]
pub struct Watchdog(Mutex<Option<Arc<Check>>>);

impl Watchdog {
    /// Uses `check` until the returned guard is dropped.
    pub fn set_check(
        self: &Arc<Self>,
        check: impl Fn(Duration) -> bool + Send + Sync + 'static,
    ) -> WatchdogGuard {
        self.set(Some(Arc::new(check)));
        WatchdogGuard(Arc::clone(self))
    }

    /// Whether every vital thread and actor answers within `time`. True without a check, that is before the
    /// actor tree starts and after it ends: then one thread waits for a server, or for the other threads.
    #[must_use]
    pub fn is_alive(&self, time: Duration) -> bool {
        let check = self
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        check.is_none_or(|check| check(time))
    }

    fn set(&self, check: Option<Arc<Check>>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = check;
    }
}

impl fmt::Debug for Watchdog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Watchdog")
    }
}

/// Removes the watchdog's check when it is dropped.
#[must_use]
#[derive(Debug)]
pub struct WatchdogGuard(Arc<Watchdog>);

impl Drop for WatchdogGuard {
    fn drop(&mut self) {
        self.0.set(None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_without_a_check_is_alive() {
        let watchdog = Arc::new(Watchdog::default());
        assert!(watchdog.is_alive(Duration::ZERO));
        let guard = watchdog.set_check(|_| false);
        assert!(!watchdog.is_alive(Duration::ZERO));
        drop(guard);
        assert!(watchdog.is_alive(Duration::ZERO));
    }
}
