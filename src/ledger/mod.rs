//! The ledger: the one thread of a service that writes claims and the ends of runs.
//!
//! Each batch holds the requests that arrived while the last commit was under way. No timer is involved: a
//! lone message is written at once, and a flood is written by the hundred. The ledger knows which runs are in
//! flight in this process, so a second copy of a message joins the run of the first, whichever queue delivered
//! it. A run that was given up, and ends while another run of its message is in flight, changes nothing.

mod batch_write;
mod bisect;
mod in_flight;
pub(crate) mod late_rows;
mod listener;
mod pending_batch;
mod refusals;
mod request;
mod superseded;
#[cfg(test)]
mod tests;
mod writer;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use std::{io, thread};

use crossbeam_channel::{Sender, bounded, unbounded};

pub use self::listener::{ClaimOutcome, LedgerListener, Settlement};
use self::request::{ClaimGroup, LedgerRequest};
pub use self::writer::LedgerSetup;
use crate::broker::Envelope;
use crate::health::worker_thread::{DeathNotice, ThreadLife};
use crate::store::{Begin, ClaimRequest, Finish, PutOff, PutOffResult, Republish};
use crate::task::RunId;

/// A handle to the ledger.
#[derive(Clone)]
pub struct Ledger {
    requests: Sender<LedgerRequest>,
    halted: Arc<AtomicBool>,
    writing: Arc<AtomicBool>,
    life: ThreadLife,
}

/// The ledger's thread.
pub struct LedgerThread {
    thread: JoinHandle<()>,
}

/// Starts the ledger. It ends when all its handles are dropped and all requests are written. Its death loses
/// the record of what is in flight, so it can't be restarted: `death_notice` reports the death.
///
/// # Errors
/// When the system has no thread left.
pub fn start(setup: LedgerSetup, death_notice: DeathNotice) -> io::Result<(Ledger, LedgerThread)> {
    // The prefetch of the queues bounds this channel: every request concerns an unsettled delivery. A bound
    // on the channel itself would make actors wait for the database.
    let (requests, receiver) = unbounded();
    let halted = Arc::new(AtomicBool::new(false));
    let writing = Arc::new(AtomicBool::new(false));
    let writer = writer::Writer::new(setup, receiver, Arc::clone(&halted), Arc::clone(&writing));
    let (life, token) = ThreadLife::new();
    let thread = thread::Builder::new()
        .name("ledger".to_owned())
        .spawn(move || {
            let _ended = (token, death_notice);
            writer.run();
        })?;
    let ledger = Ledger {
        requests,
        halted,
        writing,
        life,
    };
    Ok((ledger, LedgerThread { thread }))
}

impl Ledger {
    /// Claims messages that `queue` delivered, for `listener`.
    pub fn claim(
        &self,
        queue: &Arc<str>,
        claims: Vec<(Envelope, ClaimRequest)>,
        listener: Arc<dyn LedgerListener>,
    ) {
        self.request(LedgerRequest::Claim(ClaimGroup {
            claims: claims.into(),
            queue: Arc::clone(queue),
            requested_at: Instant::now(),
            listener,
        }));
    }

    /// Counts a run before it starts. `true` if this worker may still run the message.
    #[must_use]
    pub fn begin(&self, run: RunId, begin: Begin) -> bool {
        let (reply, answer) = bounded(1);
        self.request(LedgerRequest::Begin { run, begin, reply });
        // No answer: the service is stopping hard.
        answer.recv().unwrap_or(false)
    }

    /// Records the end of a run that took `ran`.
    pub fn finish(&self, run: RunId, finish: Finish, ran: Duration) {
        self.request(LedgerRequest::Finish { run, finish, ran });
    }

    /// Puts off a message whose run took `ran`. The message's deliveries are then acknowledged, unless the answer is
    /// [`PutOffResult::TooLong`] or [`PutOffResult::Refused`]: the message stays ours. `None` if the service is stopping hard.
    #[must_use]
    pub fn put_off(&self, run: RunId, put_off: PutOff, ran: Duration) -> Option<PutOffResult> {
        let (reply, answer) = bounded(1);
        let put_off = Box::new(put_off);
        self.request(LedgerRequest::PutOff {
            run,
            put_off,
            ran,
            reply,
        });
        answer.recv().ok()
    }

    /// Abandons a message that another worker owns now: its deliveries are acknowledged.
    pub fn abandon(&self, run: RunId, key: String) {
        self.request(LedgerRequest::Abandon { run, key });
    }

    /// Gives back messages that were claimed and not started, for the broker to deliver again.
    pub fn release(&self, releases: Vec<(RunId, String)>) {
        self.request(LedgerRequest::Release { releases });
    }

    /// Gives back messages that were claimed and not started, for the sweep to publish again, as the broker may
    /// not deliver them again. The deliveries go back if the broker
    /// [may drop them](crate::store::BrokerCopy::MayBeDropped); others are acknowledged.
    pub fn republish(&self, republishes: Vec<(RunId, Republish)>) {
        self.request(LedgerRequest::Republish { republishes });
    }

    /// Looks up which messages have rows, without claiming them.
    pub fn look_up_rows(&self, keys: Vec<String>, listener: Arc<dyn LedgerListener>) {
        self.request(LedgerRequest::LookUpRows { keys, listener });
    }

    /// Stops all writing: messages whose ends are not written yet are delivered again.
    pub fn halt(&self) {
        self.halted.store(true, Ordering::Release);
    }

    /// Whether [`Ledger::halt`] was called.
    #[must_use]
    pub fn is_halted(&self) -> bool {
        self.halted.load(Ordering::Acquire)
    }

    /// Whether the ledger's thread answers within `time`, or is writing. A slow write is the database's fault, and
    /// is logged elsewhere.
    #[must_use]
    pub fn responds_within(&self, time: Duration) -> bool {
        let is_writing = || self.writing.load(Ordering::Acquire) && !self.life.is_over();
        let (reply, answer) = bounded(1);
        // While the ledger writes, no probes pile up in its channel.
        is_writing()
            || (self.requests.send(LedgerRequest::Probe { reply }).is_ok()
                && (answer.recv_timeout(time).is_ok() || is_writing()))
    }

    fn request(&self, request: LedgerRequest) {
        // The thread outlives the handles unless the ledger was halted, and then nothing is written.
        if self.is_halted() || self.requests.send(request).is_err() {
            log::debug!("the ledger is closed");
        }
    }
}

impl LedgerThread {
    /// Waits until all requests are written.
    pub fn join(self) {
        if self.thread.join().is_err() {
            log::error!("the ledger panicked; what it had not written is run again");
        }
    }
}
