//! A consumer: one thread, which runs one task at a time.

mod put_off;

use std::cell::RefCell;
use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use actix::prelude::*;
use crossbeam_channel::{Receiver, Sender, TryRecvError, bounded, select};

use self::put_off::LocalWait;
use super::messages::{ConsumerDeath, ConsumerNotice};
use crate::execution::{Attempt, Executor, RowChange};
use crate::failpoint;
use crate::health::service_status::QueueStatusHandle;
use crate::ledger::Ledger;
use crate::maintenance::heartbeat::Lease;

/// The actor of consumer `<queue>-consumer-<n>`. Its thread stops when the actor ends, and reports that to the set.
pub(super) struct ConsumerActor {
    worker: Option<Worker>,
    /// Dropped to tell the thread to stop.
    stop: Option<Sender<()>>,
}

/// The consumer's thread.
pub(super) struct Worker {
    pub(super) set: Recipient<ConsumerNotice>,
    pub(super) name: String,
    /// From 1.
    pub(super) number: usize,
    pub(super) attempts: Receiver<Attempt>,
    pub(super) executor: Arc<Executor>,
    pub(super) ledger: Ledger,
    pub(super) lease: Lease,
    pub(super) queue_status: QueueStatusHandle,
}

/// Tells a consumer to finish what it is running and stop.
#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct StopConsumer;

/// What is left to do with a message when its consumer has dealt with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AfterRun {
    /// Nothing: the ledger has its outcome.
    Done,
    /// The message goes back unrun.
    GiveBack,
}

impl ConsumerActor {
    pub(super) const fn new(worker: Worker) -> Self {
        Self {
            worker: Some(worker),
            stop: None,
        }
    }
}

impl Actor for ConsumerActor {
    type Context = Context<Self>;

    fn started(&mut self, _: &mut Context<Self>) {
        let Some(worker) = self.worker.take() else {
            return;
        };
        let (stop, stopped) = bounded(0);
        self.stop = Some(stop);
        let number = worker.number;
        let set = worker.set.clone();
        let spawned = thread::Builder::new()
            .name(worker.name.clone())
            .spawn(move || {
                let death = worker.run_until_stopped(&stopped);
                worker.set.do_send(ConsumerNotice::Down { number, death });
            });
        if let Err(error) = spawned {
            log::error!("no thread for a consumer: {error}");
            let death = Some(ConsumerDeath { attempt: None });
            set.do_send(ConsumerNotice::Down { number, death });
        }
    }
}

impl Handler<StopConsumer> for ConsumerActor {
    type Result = ();

    fn handle(&mut self, _: StopConsumer, _: &mut Context<Self>) {
        self.stop = None;
    }
}

impl Worker {
    /// Runs messages until the consumer is stopped. `Some` if the thread died instead.
    fn run_until_stopped(&self, stopped: &Receiver<()>) -> Option<ConsumerDeath> {
        let running = RefCell::new(None);
        let lived = catch_unwind(AssertUnwindSafe(|| {
            while let Some(attempt) = self.next_attempt(stopped) {
                *running.borrow_mut() = Some(attempt);
                let left = running
                    .borrow()
                    .as_ref()
                    .map(|attempt| self.run(attempt, stopped));
                let attempt = running.take();
                if let (Some(AfterRun::GiveBack), Some(attempt)) = (left, attempt) {
                    self.set.do_send(ConsumerNotice::GiveBack(attempt));
                }
            }
        }));
        lived.err().map(|payload| {
            // The payload's drop may panic.
            std::mem::forget(payload);
            ConsumerDeath {
                attempt: running.take(),
            }
        })
    }

    fn next_attempt(&self, stopped: &Receiver<()>) -> Option<Attempt> {
        if stopped.try_recv() == Err(TryRecvError::Disconnected) {
            return None;
        }
        select! {
            recv(self.attempts) -> attempt => attempt.ok(),
            recv(stopped) -> _ => None,
        }
    }

    fn run(&self, attempt: &Attempt, stopped: &Receiver<()>) -> AfterRun {
        if self.executor.is_exhausted(attempt) {
            let finish = self.executor.fail_after_crashes(attempt);
            self.ledger.finish(attempt.run, finish, Duration::ZERO);
            return AfterRun::Done;
        }
        let mut local_wait = LocalWait::new();
        loop {
            if let ControlFlow::Break(left) = self.try_once(attempt, &mut local_wait, stopped) {
                return left;
            }
        }
    }

    /// Runs the message and records the outcome. `Continue` means that the run could not begin and no row can hold the
    /// message: it was kept here for a wait, and is to be tried again.
    fn try_once(
        &self,
        attempt: &Attempt,
        local_wait: &mut LocalWait,
        stopped: &Receiver<()>,
    ) -> ControlFlow<AfterRun> {
        let in_doubt = attempt.is_counted_first() || !self.lease.covers(attempt.requested_at);
        if in_doubt && !self.ledger.begin(attempt.run, attempt.begin()) {
            log::info!("message {} is no longer ours to run", attempt.key());
            self.ledger.abandon(attempt.run, attempt.key().to_owned());
            return ControlFlow::Break(AfterRun::Done);
        }
        failpoint::hit("consumer.before-run");
        let started = Instant::now();
        let running = self.queue_status.task();
        let change = self.executor.execute(attempt, &self.name);
        drop(running);
        failpoint::hit("consumer.ran");
        match change {
            RowChange::Finish(finish) => {
                self.ledger.finish(attempt.run, finish, started.elapsed());
                ControlFlow::Break(AfterRun::Done)
            }
            RowChange::PutOff(postponed) => {
                self.put_off(attempt, &postponed, started.elapsed(), local_wait, stopped)
            }
        }
    }
}
