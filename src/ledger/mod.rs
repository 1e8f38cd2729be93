//! The ledger: the one thread of a service that writes claims and ends of runs.
//!
//! It writes in batches of whatever has gathered while the last commit was under way: no timer, so a
//! lone message waits for nothing, and a flood is written in hundreds. It knows which runs this
//! process has in hand, so a second copy of a message joins its run, whatever queue it came by; and a run
//! that was given up, and returns when another of its message is under way, changes nothing.

mod bisect;
mod in_flight;
pub(crate) mod late_rows;
mod pending_batch;
mod superseded;
#[cfg(test)]
mod tests;
mod writer;

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use std::{io, thread};

use crossbeam_channel::{Sender, bounded, unbounded};

use self::late_rows::CancelledWithoutRow;
use crate::broker::{DeliveryHandle, Envelope};
use crate::execution::Attempt;
use crate::health::worker_thread::{DeathNotice, ThreadLife};
use crate::state::Status;
use crate::store::{Begin, ClaimRequest, Database, Finish, PutBack, PutOff, Republish, WorkerId};
use crate::task::RunId;

/// What the ledger tells a set of consumers. Each call is made after the commit that it speaks of,
/// which took `commit`.
pub trait Sink: Send + Sync {
    /// Of so many claims the message is in hand already: they have joined its run, and are settled with that,
    /// which is told later than this.
    fn joined(&self, count: usize);

    /// What became of claims.
    fn claimed(&self, answers: Vec<Answer>, commit: Duration);

    /// Deliveries to be settled, `finished` of them by the end of a run of this set.
    fn settle(&self, settlement: Settlement, commit: Duration);

    /// The messages that [`Ledger::look`] was asked for, and whether each has a row.
    fn looked(&self, looked: HashMap<String, bool>);
}

/// What became of a message that was claimed.
#[derive(Debug)]
pub enum Answer {
    /// It is ours to run.
    Ours(Attempt),
    /// It is over.
    Final(Envelope, Status),
    /// A live worker has it.
    Owned(Envelope, WorkerId),
    /// It has no row.
    NoRow(Envelope),
}

/// Deliveries to be settled.
#[derive(Debug, Default)]
pub struct Settlement {
    /// They are done with.
    pub accept: Vec<DeliveryHandle>,
    /// They go back to the broker.
    pub give_back: Vec<DeliveryHandle>,
    /// How many runs of the set are over.
    pub finished: usize,
    /// How many of its runs were given back before they began.
    pub released: usize,
    /// How long the runs took, together.
    pub ran: Duration,
}

/// Claims that a set has asked for together.
struct Claims {
    claims: VecDeque<(Envelope, ClaimRequest)>,
    queue: Arc<str>,
    asked: Instant,
    sink: Arc<dyn Sink>,
}

enum Request {
    Claim(Claims),
    Begin {
        run: RunId,
        begin: Begin,
        reply: Sender<bool>,
    },
    Finish {
        run: RunId,
        finish: Finish,
        ran: Duration,
    },
    PutOff {
        run: RunId,
        put_off: Box<PutOff>,
        ran: Duration,
        reply: Sender<PutBack>,
    },
    /// The run of a message that another worker has now.
    Drop {
        run: RunId,
        key: String,
    },
    Release {
        releases: Vec<(RunId, String)>,
    },
    Republish {
        republishes: Vec<(RunId, Republish)>,
    },
    Look {
        keys: Vec<String>,
        sink: Arc<dyn Sink>,
    },
    /// Answer.
    Probe {
        reply: Sender<()>,
    },
}

/// The way to the ledger.
#[derive(Clone)]
pub struct Ledger {
    requests: Sender<Request>,
    halted: Arc<AtomicBool>,
    writing: Arc<AtomicBool>,
    life: ThreadLife,
}

/// The ledger's thread.
pub struct LedgerThread {
    thread: JoinHandle<()>,
}

/// What the ledger needs to know of its service.
pub struct LedgerSetup {
    /// The database.
    pub(crate) database: Database,
    /// Who claims.
    pub owner: WorkerId,
    /// Whether each run is counted before it starts, a fresh message's too.
    pub counts_before_start: bool,
    /// Where this process's pid means something.
    pub namespace: String,
    /// Who remembers what it cancels because it has no row.
    pub cancelled: Arc<CancelledWithoutRow>,
}

/// Starts the ledger. It ends when all its handles are dropped and all is written. What it has in hand is
/// lost if it dies, so that it can't be begun anew: `mourner` tells of that.
///
/// # Errors
/// When the system has no thread left.
pub fn start(setup: LedgerSetup, mourner: DeathNotice) -> io::Result<(Ledger, LedgerThread)> {
    // Bounded by the prefetch of the queues: every request is about a delivery that is not settled.
    // A bound of its own would have actors wait for the database.
    let (requests, receiver) = unbounded();
    let halted = Arc::new(AtomicBool::new(false));
    let writing = Arc::new(AtomicBool::new(false));
    let writer = writer::Writer::new(setup, receiver, Arc::clone(&halted), Arc::clone(&writing));
    let (life, token) = ThreadLife::new();
    let thread = thread::Builder::new()
        .name("ledger".to_owned())
        .spawn(move || {
            let _ended = (token, mourner);
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
    /// Claims messages that came by `queue` for `sink`.
    pub fn claim(
        &self,
        queue: &Arc<str>,
        claims: Vec<(Envelope, ClaimRequest)>,
        sink: Arc<dyn Sink>,
    ) {
        self.request(Request::Claim(Claims {
            claims: claims.into(),
            queue: Arc::clone(queue),
            asked: Instant::now(),
            sink,
        }));
    }

    /// Counts a run before it starts; whether the message is still ours to run.
    #[must_use]
    pub fn begin(&self, run: RunId, begin: Begin) -> bool {
        let (reply, answer) = bounded(1);
        self.request(Request::Begin { run, begin, reply });
        // No answer: the service is stopping hard.
        answer.recv().unwrap_or(false)
    }

    /// Records the end of a run that took `ran`.
    pub fn finish(&self, run: RunId, finish: Finish, ran: Duration) {
        self.request(Request::Finish { run, finish, ran });
    }

    /// Puts a run off that took `ran`. Unless the message is [ours still](PutBack::TooLong), or its row is
    /// [refused](PutBack::Refused), its deliveries are done with. `None`: the service is stopping hard.
    #[must_use]
    pub fn put_off(&self, run: RunId, put_off: PutOff, ran: Duration) -> Option<PutBack> {
        let (reply, answer) = bounded(1);
        let put_off = Box::new(put_off);
        self.request(Request::PutOff {
            run,
            put_off,
            ran,
            reply,
        });
        answer.recv().ok()
    }

    /// Lets go of a message that another worker has now.
    pub fn abandon(&self, run: RunId, key: String) {
        self.request(Request::Drop { run, key });
    }

    /// Gives back messages that were claimed and not started.
    pub fn release(&self, releases: Vec<(RunId, String)>) {
        self.request(Request::Release { releases });
    }

    /// Leaves messages that were claimed and not started to the sweep, as the broker can't be relied on to
    /// deliver them again. Deliveries of those that [may be dropped](crate::store::BrokerCopy::MayBeDropped) go back; of
    /// others they are done with.
    pub fn republish(&self, republishes: Vec<(RunId, Republish)>) {
        self.request(Request::Republish { republishes });
    }

    /// Looks whether messages have rows, and claims none.
    pub fn look(&self, keys: Vec<String>, sink: Arc<dyn Sink>) {
        self.request(Request::Look { keys, sink });
    }

    /// Writes nothing more: what is not written by now is left for redelivery.
    pub fn halt(&self) {
        self.halted.store(true, Ordering::Release);
    }

    /// Whether [`Ledger::halt`] was called.
    #[must_use]
    pub fn is_halted(&self) -> bool {
        self.halted.load(Ordering::Acquire)
    }

    /// Whether its thread answers within `time`, or is writing: how long that takes is the database's
    /// affair, and is said where it takes long.
    #[must_use]
    pub fn responds_within(&self, time: Duration) -> bool {
        let is_writing = || self.writing.load(Ordering::Acquire) && !self.life.is_over();
        let (reply, answer) = bounded(1);
        // Nothing is heaped up before a ledger that writes for long.
        is_writing()
            || (self.requests.send(Request::Probe { reply }).is_ok()
                && (answer.recv_timeout(time).is_ok() || is_writing()))
    }

    fn request(&self, request: Request) {
        // The ledger outlives its handles unless it was halted, and then nothing is written.
        if self.is_halted() || self.requests.send(request).is_err() {
            log::debug!("the ledger is closed");
        }
    }
}

impl LedgerThread {
    /// Waits until all is written.
    pub fn join(self) {
        if self.thread.join().is_err() {
            log::error!("the ledger panicked; what it had not written is run again");
        }
    }
}
