//! The tokio runtime of a service's tasks.
//!
//! A consumer drives its task's future on its own thread, so the future need not be `Send`. The I/O and timers
//! that the future uses belong to one runtime with threads of its own, which never stops while the service runs:
//! so a connection that one task has opened also serves later tasks, whichever thread runs them.

use std::panic::resume_unwind;
use std::{io, mem, thread};

use tokio::runtime::{Builder, EnterGuard, Handle};

use crate::health::worker_thread::THREAD_STOP_TIMEOUT;

/// The minimum and maximum number of threads. They run what tasks spawn; the tasks themselves run on the consumers'
/// threads.
const THREADS: (usize, usize) = (2, 4);

/// The runtime of a service's tasks, which ends when it is dropped. It starts threads, so the process must not
/// fork afterwards.
pub struct Runtime {
    running: Option<tokio::runtime::Runtime>,
    reactor: RuntimeHandle,
}

/// Lets a thread enter a [`Runtime`].
#[derive(Clone)]
pub struct RuntimeHandle(Handle);

impl Runtime {
    /// Starts the runtime's threads.
    ///
    /// # Errors
    /// When the system has none.
    pub fn start() -> io::Result<Self> {
        let (least, most) = THREADS;
        let cores = thread::available_parallelism().map_or(least, usize::from);
        let running = Builder::new_multi_thread()
            .worker_threads(cores.clamp(least, most))
            .thread_name("runtime")
            .enable_all()
            .build()?;
        Ok(Self {
            reactor: RuntimeHandle(running.handle().clone()),
            running: Some(running),
        })
    }

    /// The handle by which threads enter the runtime.
    #[must_use]
    pub const fn handle(&self) -> &RuntimeHandle {
        &self.reactor
    }

    /// Keeps the runtime alive until the process ends: tasks that are left running would fail without it.
    pub fn leave_running(mut self) {
        mem::forget(self.running.take());
    }
}

impl Drop for Runtime {
    fn drop(&mut self) {
        match self.running.take() {
            // A drop in async code must not block.
            Some(runtime) if Handle::try_current().is_ok() => runtime.shutdown_background(),
            Some(runtime) => runtime.shutdown_timeout(THREAD_STOP_TIMEOUT),
            None => {}
        }
    }
}

impl RuntimeHandle {
    /// Makes the runtime current on this thread, so that code here can spawn in it or ask for its handle.
    pub fn enter(&self) -> EnterGuard<'_> {
        self.0.enter()
    }
}

/// Runs `work`, which may block on futures. If this thread is inside a runtime, which forbids that, `work` runs on a
/// new thread.
///
/// # Errors
/// When the system has no thread.
pub(crate) fn outside_runtime<T: Send>(work: impl FnOnce() -> T + Send) -> io::Result<T> {
    if Handle::try_current().is_err() {
        return Ok(work());
    }
    let mut builder = thread::Builder::new();
    if let Some(name) = thread::current().name() {
        builder = builder.name(name.to_owned());
    }
    thread::scope(|scope| {
        let done = builder.spawn_scoped(scope, work)?.join();
        Ok(done.unwrap_or_else(|payload| resume_unwind(payload)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_done_apart_may_run_futures_inside_of_a_runtime() {
        let outer = Builder::new_current_thread().build().unwrap();
        let inner = Runtime::start().unwrap();
        let done = outer.block_on(async {
            let reactor = inner.handle().clone();
            let name = thread::current().name().map(str::to_owned);
            let done = outside_runtime(|| {
                assert_eq!(thread::current().name().map(str::to_owned), name);
                let _entered = reactor.enter();
                Handle::current().block_on(async { 7 })
            });
            drop(inner);
            done.unwrap()
        });
        assert_eq!(done, 7);
    }

    #[test]
    fn what_panics_in_it_leaves_its_threads_at_work() {
        let runtime = Runtime::start().unwrap();
        let _entered = runtime.handle().enter();
        let (panicked, goes_on) = Handle::current().block_on(async {
            let panics = (0..4 * THREADS.1).map(|_| tokio::spawn(async { panic!("no way") }));
            let mut panicked = 0;
            for spawned in panics.collect::<Vec<tokio::task::JoinHandle<()>>>() {
                panicked += usize::from(spawned.await.is_err());
            }
            (panicked, tokio::spawn(async { 7 }).await.unwrap())
        });
        assert_eq!((panicked, goes_on), (4 * THREADS.1, 7));
    }

    #[test]
    fn a_panic_apart_is_the_callers() {
        let outer = Builder::new_current_thread().build().unwrap();
        let _entered = outer.enter();
        let panicked = std::panic::catch_unwind(|| outside_runtime(|| panic!("no way")));
        assert!(panicked.is_err());
    }
}
