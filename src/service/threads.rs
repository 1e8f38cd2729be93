//! The threads outside the actor tree, which run as long as the worker is registered.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::Sender;

use crate::config::Config;
use crate::health::outage::Servers;
use crate::health::worker_thread::{DeathNotice, THREAD_STOP_TIMEOUT, ThreadLife, WorkerThread};
use crate::ledger::late_rows::CancelledWithoutRow;
use crate::ledger::{self, Ledger, LedgerSetup, LedgerThread};
use crate::maintenance::heartbeat::Lease;
use crate::maintenance::{heartbeat, prune, sweep};
use crate::store::{Database, Store, WorkerId, WorkerProcess};

/// The threads outside the actor tree.
pub(super) struct BackgroundThreads {
    pub(super) ledger: Ledger,
    ledger_thread: LedgerThread,
    heartbeat: WorkerThread,
    sweep: WorkerThread,
    /// Only if the configuration has a history.
    pruning: Option<WorkerThread>,
}

impl BackgroundThreads {
    pub(super) fn start(
        store: &Arc<dyn Store>,
        config: &Arc<Config>,
        servers: &Arc<Servers>,
        (worker, process): (WorkerId, WorkerProcess),
        lease: Lease,
        deaths: Sender<&'static str>,
    ) -> io::Result<Self> {
        let database = |name| Database::of(Arc::clone(store), servers, name);
        let cancelled = Arc::<CancelledWithoutRow>::default();
        let setup = LedgerSetup {
            database: database("the ledger"),
            owner: worker,
            counts_before_start: config.max_crashes == 1,
            namespace: process.namespace.clone(),
            cancelled: Arc::clone(&cancelled),
        };
        let (ledger, ledger_thread) = ledger::start(setup, DeathNotice::new("the ledger", deaths))?;
        let history = config.history.clone();
        let pruning = history.map(|history| prune::start(database("pruning"), history));
        let sweep = sweep::start(
            database("the sweep"),
            Arc::clone(config),
            Arc::clone(servers),
            cancelled,
        );
        Ok(Self {
            ledger,
            ledger_thread,
            heartbeat: heartbeat::start(database("the heartbeat"), worker, process, lease)?,
            sweep: sweep?,
            pruning: pruning.transpose()?,
        })
    }

    /// A check whether the vital threads respond.
    pub(super) fn check(&self) -> impl Fn(Duration) -> bool + Send + Sync + use<> {
        let ledger = self.ledger.clone();
        let lives = [self.heartbeat.life(), self.sweep.life()];
        move |time| !lives.iter().any(ThreadLife::is_over) && ledger.responds_within(time)
    }

    /// Stops the threads. When the tree has drained, the ledger has nothing left to write. A server that is away may
    /// block the other threads, which can be left at any point.
    pub(super) fn stop(self, halted: bool) {
        drop(self.ledger);
        let deadline = Instant::now() + THREAD_STOP_TIMEOUT;
        if let Some(pruning) = self.pruning {
            pruning.stop(deadline);
        }
        self.sweep.stop(deadline);
        self.heartbeat.stop(deadline);
        if !halted {
            self.ledger_thread.join();
        }
    }
}

/// Removes this worker's row, so that other workers take over its messages at once.
pub(super) fn deregister(store: &Arc<dyn Store>, worker: WorkerId) {
    let store = Arc::clone(store);
    let thread = WorkerThread::start("sign-off", move |_| {
        let deregistered = store
            .connect()
            .and_then(|mut session| session.deregister(&[worker]));
        if let Err(error) = deregistered {
            log::warn!("this worker could not be signed off: {error}");
        }
    });
    match thread {
        Ok(thread) => thread.stop(Instant::now() + THREAD_STOP_TIMEOUT),
        Err(error) => log::warn!("this worker could not be signed off: {error}"),
    }
}
