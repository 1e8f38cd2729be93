//! The scheduler's actor: starts the scheduler's threads, restarts them if they die, and stops them.

use std::time::Instant;

use actix::prelude::*;

use super::messages::SchedulerNotice;
use crate::failpoint;
use crate::health::worker_thread::{Stopper, THREAD_STOP_TIMEOUT};
use crate::retry::Backoff;
use crate::schedule::{self, Setup};

/// Supervises the threads that publish the occurrences of `carrot_scheduledtask`.
pub(super) struct SchedulerActor {
    owner: Recipient<SchedulerNotice>,
    setup: Setup,
    /// Dropped to tell the threads to stop.
    threads: Option<Stopper>,
    stopping: bool,
    /// When the threads were started.
    started_at: Instant,
    backoff: Backoff,
}

impl SchedulerActor {
    pub(super) fn new(owner: Recipient<SchedulerNotice>, setup: Setup) -> Self {
        Self {
            owner,
            setup,
            threads: None,
            stopping: false,
            started_at: Instant::now(),
            backoff: Backoff::for_restarts(),
        }
    }

    fn start_threads(&mut self, context: &mut Context<Self>) {
        if self.stopping {
            return;
        }
        self.started_at = Instant::now();
        let this = context.address();
        match schedule::start(self.setup.clone(), move |_| this.do_send(ThreadsDown)) {
            Ok(threads) => self.threads = Some(threads),
            Err(error) => {
                log::error!("no thread for the scheduler: {error}");
                context.notify(ThreadsDown);
            }
        }
    }

    fn report_stopped(&mut self, context: &mut Context<Self>) {
        self.owner.do_send(SchedulerNotice::Stopped);
        context.stop();
    }
}

impl Actor for SchedulerActor {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Context<Self>) {
        self.start_threads(context);
        failpoint::hit("scheduler.started");
    }
}

/// Reports the end of the actor, whatever its cause: actix drops the actor in each case.
impl Drop for SchedulerActor {
    fn drop(&mut self) {
        self.owner.do_send(SchedulerNotice::Gone);
    }
}

/// Tells the scheduler to publish nothing more.
#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct StopScheduler;

/// The threads have ended, because they were told to or because they died.
#[derive(Message)]
#[rtype(result = "()")]
struct ThreadsDown;

impl Handler<StopScheduler> for SchedulerActor {
    type Result = ();

    fn handle(&mut self, _: StopScheduler, context: &mut Context<Self>) {
        self.stopping = true;
        if self.threads.take().is_none() {
            return self.report_stopped(context);
        }
        // A server may hold the threads up. The sweep publishes what they have recorded by then.
        context.run_later(THREAD_STOP_TIMEOUT, |scheduler, context| {
            log::warn!("the scheduler is held up; the consumers are stopped meanwhile");
            scheduler.report_stopped(context);
        });
    }
}

impl Handler<ThreadsDown> for SchedulerActor {
    type Result = ();

    fn handle(&mut self, _: ThreadsDown, context: &mut Context<Self>) {
        if self.stopping {
            log::info!("the scheduler is stopped");
            return self.report_stopped(context);
        }
        self.threads = None;
        let wait = self.backoff.next_wait_after(self.started_at.elapsed());
        log::error!("the scheduler died; it is started again in {wait:.1?}");
        context.run_later(wait, Self::start_threads);
    }
}
