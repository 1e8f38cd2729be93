//! Puts a run off: the message waits in its row, or in the consumer if no row can hold it.

use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, select};

use super::{AfterRun, Worker};
use crate::execution::{Attempt, Postponement};
use crate::retry::Backoff;
use crate::state::Cause;
use crate::store::PutBack;

/// The wait of a message that its consumer keeps.
pub(super) struct LocalWait {
    /// The cause of the wait, and since when it lasts.
    since: Option<(Cause, Instant)>,
    backoff: Backoff,
}

impl LocalWait {
    pub(super) const fn new() -> Self {
        Self {
            since: None,
            backoff: Backoff::new(Duration::from_secs(1), Duration::from_secs(30)),
        }
    }

    /// The time until the next try. `None` if the message has waited for as long as allowed.
    fn next_wait(&mut self, postponed: &Postponement) -> Option<Duration> {
        if self.since.is_none_or(|(cause, _)| cause != postponed.cause) {
            self.since = Some((postponed.cause, Instant::now()));
            self.backoff.reset();
        }
        let waited = self
            .since
            .map_or(Duration::ZERO, |(_, since)| since.elapsed());
        let wait = self.backoff.next_wait();
        match postponed.limit() {
            Some(limit) if waited >= limit => None,
            Some(limit) => Some(wait.min(limit - waited)),
            None => Some(wait),
        }
    }
}

impl Worker {
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
            None => Some(PutBack::Refused),
        };
        match put_back {
            // No answer means that the service is stopping hard.
            Some(PutBack::Waits | PutBack::Already) | None => ControlFlow::Break(AfterRun::Done),
            Some(PutBack::Taken | PutBack::Gone) => {
                log::info!("message {} is no longer ours to put off", attempt.key());
                ControlFlow::Break(AfterRun::Done)
            }
            Some(PutBack::TooLong) => self.fail_after_put_offs(attempt, postponed, ran),
            Some(PutBack::Refused) => match local_wait.next_wait(postponed) {
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
        "message {} waits here for {wait:.1?}: no row carries it",
        attempt.key()
    );
    select! {
        recv(stopped) -> _ => ControlFlow::Break(AfterRun::GiveBack),
        default(wait) => ControlFlow::Continue(()),
    }
}
