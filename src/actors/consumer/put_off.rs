//! A consumer whose run is put off: the message waits in its row, or here if no row carries it.

use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, select};

use super::{Left, Worker};
use crate::execution::{Attempt, Postponed};
use crate::retry::Backoff;
use crate::state::Cause;
use crate::store::PutOffResult;

/// Since when a message is kept here, and for which cause.
pub(super) struct Held {
    since: Option<(Cause, Instant)>,
    backoff: Backoff,
}

impl Held {
    pub(super) const fn new() -> Self {
        Self {
            since: None,
            backoff: Backoff::new(Duration::from_secs(1), Duration::from_secs(30)),
        }
    }

    /// When it is tried again; `None` if it has been kept for long enough.
    fn next(&mut self, postponed: &Postponed) -> Option<Duration> {
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
    /// Puts the message off, whose run took `ran`; goes on if it was kept here, and is to be tried again.
    pub(super) fn put_off(
        &self,
        attempt: &Attempt,
        postponed: &Postponed,
        ran: Duration,
        held: &mut Held,
        stopped: &Receiver<()>,
    ) -> ControlFlow<Left> {
        let put_back = match attempt.put_off(postponed) {
            Some(put_off) => self.ledger.put_off(attempt.run, put_off, ran),
            None => Some(PutOffResult::Refused),
        };
        match put_back {
            // Without an answer: the service is stopping hard.
            Some(PutOffResult::Waits | PutOffResult::Already) | None => {
                ControlFlow::Break(Left::Nothing)
            }
            Some(PutOffResult::Taken | PutOffResult::Gone) => {
                log::info!("message {} is no longer ours to put off", attempt.key());
                ControlFlow::Break(Left::Nothing)
            }
            Some(PutOffResult::TooLong) => self.give_up_waiting(attempt, postponed, ran),
            Some(PutOffResult::Refused) => match held.next(postponed) {
                Some(wait) => hold(attempt, wait, stopped),
                None => self.give_up_waiting(attempt, postponed, ran),
            },
        }
    }

    fn give_up_waiting(
        &self,
        attempt: &Attempt,
        postponed: &Postponed,
        ran: Duration,
    ) -> ControlFlow<Left> {
        let finish = self.executor.give_up_waiting(attempt, postponed);
        self.ledger.finish(attempt.run, finish, ran);
        ControlFlow::Break(Left::Nothing)
    }
}

/// Keeps the message for so long, or until the service stops.
fn hold(attempt: &Attempt, wait: Duration, stopped: &Receiver<()>) -> ControlFlow<Left> {
    log::debug!(
        "message {} waits here for {wait:.1?}: no row carries it",
        attempt.key()
    );
    select! {
        recv(stopped) -> _ => ControlFlow::Break(Left::ToGiveBack),
        default(wait) => ControlFlow::Continue(()),
    }
}
