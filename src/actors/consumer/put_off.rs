//! Puts a run off: the message waits in its row, or in the consumer if no row can hold it.

use std::ops::ControlFlow;
use std::time::Duration;

use crossbeam_channel::{Receiver, select};

use super::consumer_thread::{AfterRun, ConsumerThread};
use super::local_wait::LocalWait;
use crate::execution::{Attempt, Postponement};
use crate::store::PutOffResult;

impl ConsumerThread {
    /// Puts off the message, whose run took `ran`. `Continue` if the message was kept here, and is to be tried again.
    pub(super) fn put_off(
        &self,
        attempt: &Attempt,
        postponed: &Postponement,
        ran: Duration,
        local_wait: &mut LocalWait,
        stopped: &Receiver<()>,
    ) -> ControlFlow<AfterRun> {
        let put_back = match attempt.put_off(postponed) {
            Some(put_off) => self.ledger.put_off(attempt.run, put_off, ran),
            None => Some(PutOffResult::Refused),
        };
        match put_back {
            // No answer means that the service is stopping hard.
            Some(PutOffResult::Waits | PutOffResult::Already) | None => {
                ControlFlow::Break(AfterRun::Done)
            }
            Some(PutOffResult::Taken | PutOffResult::Gone) => {
                log::info!("message {} is no longer ours to put off", attempt.key());
                ControlFlow::Break(AfterRun::Done)
            }
            Some(PutOffResult::TooLong) => self.fail_after_put_offs(attempt, postponed, ran),
            Some(PutOffResult::Refused) => match local_wait.next_wait(postponed) {
                Some(wait) => wait_locally(attempt, wait, stopped),
                None => self.fail_after_put_offs(attempt, postponed, ran),
            },
        }
    }

    fn fail_after_put_offs(
        &self,
        attempt: &Attempt,
        postponed: &Postponement,
        ran: Duration,
    ) -> ControlFlow<AfterRun> {
        let finish = self.executor.fail_after_put_offs(attempt, postponed);
        self.ledger.finish(attempt.run, finish, ran);
        ControlFlow::Break(AfterRun::Done)
    }
}

/// Keeps the message for `wait`, or until the service stops.
fn wait_locally(
    attempt: &Attempt,
    wait: Duration,
    stopped: &Receiver<()>,
) -> ControlFlow<AfterRun> {
    log::debug!(
        "message {} waits in its consumer for {wait:.1?}: no row can hold it",
        attempt.key()
    );
    select! {
        recv(stopped) -> _ => ControlFlow::Break(AfterRun::GiveBack),
        default(wait) => ControlFlow::Continue(()),
    }
}
