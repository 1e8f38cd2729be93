//! Threads that wait, and are told to stop by dropping a sender.

use std::io;
use std::thread::Builder;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};

/// How a thread learns that it is to stop.
pub struct StopFlag(Receiver<()>);

impl StopFlag {
    /// Waits for `time`; `true` as soon as the thread is to stop.
    #[must_use]
    pub fn wait(&self, time: Duration) -> bool {
        !matches!(self.0.recv_timeout(time), Err(RecvTimeoutError::Timeout))
    }
}

/// A thread that runs until it is stopped.
pub struct Thread {
    stop: Sender<()>,
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
        let (stop, stopped) = bounded(0);
        Builder::new()
            .name(name.to_owned())
            .spawn(move || work(&StopFlag(stopped)))?;
        Ok(Self { stop })
    }

    /// Tells it to stop, and does not wait: it may be held up by a server.
    pub fn stop(self) {
        drop(self.stop);
    }
}
