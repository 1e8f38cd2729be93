//! Threads that wait, and are told to stop by dropping a sender.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Weak};
use std::thread::{Builder, JoinHandle, panicking, sleep};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};

use crate::retry::Backoff;

/// How long to wait for what was told to stop, where no work depends on it: a server may hold it up.
pub const THREAD_STOP_TIMEOUT: Duration = Duration::from_secs(2);

/// How a thread learns that it is to stop.
pub struct StopFlag(Receiver<()>);

impl StopFlag {
    /// Waits for `time`; `true` as soon as the thread is to stop.
    #[must_use]
    pub fn wait(&self, time: Duration) -> bool {
        !matches!(self.0.recv_timeout(time), Err(RecvTimeoutError::Timeout))
    }
}

/// Tells a thread's owner of its death: held by the thread, so that whatever ends that drops it.
pub struct DeathNotice {
    name: &'static str,
    deaths: Sender<&'static str>,
}

impl DeathNotice {
    /// Says `name` on `deaths`, if its thread panics.
    #[must_use]
    pub const fn new(name: &'static str, deaths: Sender<&'static str>) -> Self {
        Self { name, deaths }
    }
}

impl Drop for DeathNotice {
    fn drop(&mut self) {
        if panicking() && self.deaths.send(self.name).is_err() {
            log::debug!("nobody is left to hear that {} died", self.name);
        }
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
pub struct WorkerThread {
    stop: Stopper,
    handle: JoinHandle<()>,
    name: &'static str,
    life: ThreadLife,
}

/// Tells whether a thread has ended, however it did.
#[derive(Debug, Clone)]
pub struct ThreadLife(Weak<()>);

impl ThreadLife {
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

impl WorkerThread {
    /// Starts it.
    ///
    /// # Errors
    /// When the system has no thread left.
    pub fn start(
        name: &'static str,
        work: impl FnOnce(&StopFlag) + Send + 'static,
    ) -> io::Result<Self> {
        let (stop, flag) = Stopper::new();
        let (life, token) = ThreadLife::new();
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

    /// Starts a thread whose work is begun anew, after a pause, whenever it dies: it keeps nothing that
    /// matters, and the service can't do without it.
    ///
    /// # Errors
    /// When the system has no thread left.
    pub fn restarting(
        name: &'static str,
        mut work: impl FnMut(&StopFlag) + Send + 'static,
    ) -> io::Result<Self> {
        Self::start(name, move |stop| {
            let mut backoff = Backoff::for_restarts();
            loop {
                let began = Instant::now();
                if let Err(payload) = catch_unwind(AssertUnwindSafe(|| work(stop))) {
                    // Its drop may be what panicked.
                    std::mem::forget(payload);
                }
                if stop.wait(Duration::ZERO) {
                    return;
                }
                let wait = backoff.next_wait_after(began.elapsed());
                log::error!("the {name} died; it is started again in {wait:.1?}");
                if stop.wait(wait) {
                    return;
                }
            }
        })
    }

    /// Whether it lives, for others to see.
    #[must_use]
    pub fn life(&self) -> ThreadLife {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_that_dies_is_begun_anew_until_its_thread_is_told_to_stop() {
        let (began, begun) = crossbeam_channel::unbounded();
        let mut turns = 0;
        let thread = WorkerThread::restarting("work", move |stop| {
            turns += 1;
            began.send(turns).unwrap();
            match turns {
                1 => panic!("no way"),
                // Without having been told to.
                2 => {}
                _ => while !stop.wait(Duration::from_secs(1)) {},
            }
        });
        let thread = thread.unwrap();
        let turns: Vec<i32> = begun.iter().take(3).collect();
        assert_eq!(turns, [1, 2, 3]);
        assert!(!thread.life().is_over());
        let life = thread.life();
        thread.stop(Instant::now() + Duration::from_secs(10));
        assert!(life.is_over() && begun.is_empty());
    }

    #[test]
    fn a_death_is_told_and_an_end_is_not() {
        let (deaths, died) = crossbeam_channel::unbounded();
        let live = |dies: bool| {
            let mourner = DeathNotice::new("it", deaths.clone());
            let thread = std::thread::spawn(move || {
                let _mourner = mourner;
                assert!(!dies);
            });
            thread.join().is_err()
        };
        assert!(!live(false) && died.is_empty());
        assert!(live(true));
        assert_eq!(died.try_recv(), Ok("it"));
    }
}
