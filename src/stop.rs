//! Threads that wait, and are told to stop by dropping a sender.

use std::io;
use std::sync::{Arc, Weak};
use std::thread::{Builder, JoinHandle, sleep};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};

/// How long to wait for what was told to stop, where no work depends on it: a server may hold it up.
pub const WIND_UP: Duration = Duration::from_secs(2);

/// How a thread learns that it is to stop.
pub struct StopFlag(Receiver<()>);

impl StopFlag {
    /// Waits for `time`; `true` as soon as the thread is to stop.
    #[must_use]
    pub fn wait(&self, time: Duration) -> bool {
        !matches!(self.0.recv_timeout(time), Err(RecvTimeoutError::Timeout))
    }
}

/// What tells a thread to stop, when it is dropped.
pub struct Stopper(#[expect(dead_code, reason = "dropped")] Sender<()>);

impl Stopper {
    /// One, and how its thread learns of it.
    #[must_use]
    pub fn new() -> (Self, StopFlag) {
        let (stop, stopped) = bounded(0);
        (Self(stop), StopFlag(stopped))
    }
}

/// A thread that runs until it is stopped.
pub struct Thread {
    stop: Stopper,
    handle: JoinHandle<()>,
    name: &'static str,
    life: Life,
}

/// Tells whether a thread has ended, however it did.
#[derive(Debug, Clone)]
pub struct Life(Weak<()>);

impl Life {
    /// Of what lives as long as the second value.
    #[must_use]
    pub fn new() -> (Self, Arc<()>) {
        let token = Arc::new(());
        (Self(Arc::downgrade(&token)), token)
    }

    /// Whether it has ended.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.0.strong_count() == 0
    }
}

impl Thread {
    /// Starts it.
    ///
    /// # Errors
    /// When the system has no thread left.
    pub fn start(
        name: &'static str,
        work: impl FnOnce(&StopFlag) + Send + 'static,
    ) -> io::Result<Self> {
        let (stop, flag) = Stopper::new();
        let (life, token) = Life::new();
        let handle = Builder::new().name(name.to_owned()).spawn(move || {
            let _token = token;
            work(&flag);
        })?;
        Ok(Self {
            stop,
            handle,
            name,
            life,
        })
    }

    /// Whether it lives, for others to see.
    #[must_use]
    pub fn life(&self) -> Life {
        self.life.clone()
    }

    /// Tells it to stop and waits until it has, but not past `deadline`: it may be held up by a
    /// server.
    pub fn stop(self, deadline: Instant) {
        drop(self.stop);
        // A process that ends under a thread that is at work in a client library may crash.
        while !self.handle.is_finished() {
            if Instant::now() > deadline {
                log::warn!(
                    "the {} does not stop: a server does not answer it; the end comes without it",
                    self.name
                );
                return;
            }
            sleep(Duration::from_millis(1));
        }
        if self.handle.join().is_err() {
            log::error!("the {} panicked", self.name);
        }
    }
}
