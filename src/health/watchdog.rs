//! Whether the threads and actors work that a service can't do without: for whoever would rather end
//! the process than have it stand still (systemd's watchdog).

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Whether all that is vital has answered within that time.
type Check = dyn Fn(Duration) -> bool + Send + Sync;

/// Felt by asking those who are vital, while there are any.
#[derive(Default)]
pub struct Watchdog(Mutex<Option<Arc<Check>>>);

impl Watchdog {
    /// Has `check` asked until the returned guard is dropped.
    pub fn of(
        self: &Arc<Self>,
        check: impl Fn(Duration) -> bool + Send + Sync + 'static,
    ) -> WatchdogGuard {
        self.set(Some(Arc::new(check)));
        WatchdogGuard(Arc::clone(self))
    }

    /// Whether all that is vital answers within `time`. Nothing is before the tree has grown and after
    /// its end, when one thread waits for a server, or for the others.
    #[must_use]
    pub fn beats(&self, time: Duration) -> bool {
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

/// Something vital is at work until this is dropped.
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
    fn what_is_not_at_work_can_not_stand_still() {
        let pulse = Arc::new(Watchdog::default());
        assert!(pulse.beats(Duration::ZERO));
        let beating = pulse.of(|_| false);
        assert!(!pulse.beats(Duration::ZERO));
        drop(beating);
        assert!(pulse.beats(Duration::ZERO));
    }
}
