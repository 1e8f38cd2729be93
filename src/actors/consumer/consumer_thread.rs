//! A consumer's thread.

use std::cell::RefCell;
use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use actix::prelude::*;
use crossbeam_channel::{Receiver, TryRecvError, select};

use super::super::messages::{ConsumerDeath, ConsumerNotice};
use super::local_wait::LocalWait;
use crate::execution::{Attempt, Executor, RowChange};
use crate::failpoint;
use crate::health::queue_status_handle::QueueStatusHandle;
use crate::ledger::Ledger;
use crate::maintenance::heartbeat::Lease;

/// The consumer's thread.
pub(in crate::actors) struct ConsumerThread {
    pub(in crate::actors) set: Recipient<ConsumerNotice>,
    pub(in crate::actors) name: String,
    /// From 1.
    pub(in crate::actors) number: usize,
    pub(in crate::actors) attempts: Receiver<Attempt>,
    pub(in crate::actors) executor: Arc<Executor>,
    pub(in crate::actors) ledger: Ledger,
    pub(in crate::actors) lease: Lease,
    pub(in crate::actors) queue_status: QueueStatusHandle,
}

/// What is left to do with a message when its consumer has dealt with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AfterRun {
    /// Nothing: the ledger has its outcome.
    Done,
    /// The message goes back unrun.
    GiveBack,
}

impl ConsumerThread {
    /// Runs messages until the consumer is stopped. `Some` if the thread died instead.
    pub(super) fn run_until_stopped(&self, stopped: &Receiver<()>) -> Option<ConsumerDeath> {
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
        let running = self.queue_status.count_running();
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
