//! Pruning deletes finished messages that are older than the configuration allows.
//!
//! It walks over the messages in the order of their ids, in small transactions with a pause after each. Any
//! number of services may prune at once: each skips the rows that another one is deleting.

use std::collections::HashMap;
use std::thread;
use std::time::{Duration, Instant};

use crate::config::{self, History};
use crate::failpoint;
use crate::health::worker_thread::{StopFlag, WorkerThread};
use crate::retry::Backoff;
use crate::state::Status;
use crate::store::{Database, PruneRange, Pruned, RetentionStore, StoreError};

/// Messages per transaction, which takes a few milliseconds.
const BATCH: usize = 1000;

/// A service pauses this many times as long as its last transaction took, as pruning must not hold up other work.
const PAUSE_FACTOR: u32 = 4;

/// How often the command retries a transaction that conflicts with another.
const CONFLICT_RETRIES: u32 = 5;

/// One in this many walks begins at the first message again: a slow transaction can add a row among ids that
/// were already passed, and ids restart when a table is emptied.
const WALKS_PER_FULL_WALK: u32 = 24;

/// Starts a service's pruning thread.
///
/// # Errors
/// When the system has no thread left.
pub fn start(database: Database, history: History) -> std::io::Result<WorkerThread> {
    let ages: Vec<String> = history
        .ages()
        .map(|(status, age)| format!("{status} after {}", config::format_duration(age)))
        .collect();
    log::info!("messages are deleted when they are {}", ages.join(", "));
    let mut pruning = Pruning {
        database,
        history,
        settled: 0,
    };
    WorkerThread::restarting("pruning", move |stop| {
        pruning.run(stop);
    })
}

/// Deletes all messages that are too old, or only counts them. `counts` has the messages done so far, also after an
/// error.
///
/// # Errors
/// When the database is away.
pub fn prune_all(
    session: &mut dyn RetentionStore,
    history: &History,
    delete: bool,
    counts: &mut PrunedCounts,
) -> Result<(), StoreError> {
    let mut after = Some(0);
    let mut backoff = Backoff::for_connections();
    let mut conflicts = 0;
    while let Some(from) = after {
        let began = Instant::now();
        match session.prune(&PruneRange {
            after: from,
            limit: BATCH,
            history,
            delete,
        }) {
            Ok(pruned) => {
                counts.add(&pruned);
                after = pruned.next;
                backoff.reset();
                conflicts = 0;
                // A user waits for this command, so it leaves only half of the time to others.
                thread::sleep(began.elapsed());
            }
            Err(StoreError::Conflict(_)) if conflicts < CONFLICT_RETRIES => {
                conflicts += 1;
                thread::sleep(backoff.next_wait());
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// How many messages of each state were deleted.
#[derive(Debug, Default)]
pub struct PrunedCounts(HashMap<Status, usize>);

impl PrunedCounts {
    /// How many messages of this state were deleted.
    #[must_use]
    pub fn of(&self, status: Status) -> usize {
        self.0.get(&status).copied().unwrap_or_default()
    }

    fn add(&mut self, pruned: &Pruned) {
        for (status, count) in &pruned.counts {
            *self.0.entry(*status).or_default() += count;
        }
    }

    fn report(&self) {
        for status in Status::ALL {
            match self.of(status) {
                0 => {}
                count => log::info!("deleted {count} {status} messages that had grown too old"),
            }
        }
    }
}

/// The state of a service's pruning thread.
struct Pruning {
    database: Database,
    history: History,
    /// No message up to this id is left to grow too old.
    settled: i64,
}

impl Pruning {
    fn run(&mut self, stop: &StopFlag) {
        let mut walks = 0_u32;
        // The first walk waits: if a service died right after it recorded a message's end, the message is
        // delivered again, and only its row shows that it has run.
        while !stop.wait(self.pause()) {
            if walks.is_multiple_of(WALKS_PER_FULL_WALK) {
                self.settled = 0;
            }
            walks = walks.wrapping_add(1);
            let mut counts = PrunedCounts::default();
            let stopped = self.walk(stop, &mut counts);
            counts.report();
            if stopped {
                return;
            }
            self.database.close();
        }
    }

    /// The wait until the next walk: between 0.5 and 1.5 intervals, so that services that were started together
    /// do not walk together.
    fn pause(&self) -> Duration {
        self.history.every.mul_f64(0.5 + fastrand::f64())
    }

    /// Walks until the messages are too young. `true` if the thread was told to stop on the way.
    fn walk(&mut self, stop: &StopFlag, counts: &mut PrunedCounts) -> bool {
        let mut after = self.settled;
        failpoint::hit("prune.walks");
        loop {
            let began = Instant::now();
            let wait = match self.step(after) {
                Ok(pruned) => {
                    counts.add(&pruned);
                    match pruned.next {
                        Some(next) if !pruned.recent => {
                            if pruned.settled && after == self.settled {
                                self.settled = next;
                            }
                            after = next;
                        }
                        _ => return false,
                    }
                    began.elapsed() * PAUSE_FACTOR
                }
                // A missing privilege, or a foreign key in a user's table: no outage.
                Err(
                    StoreError::Refused(error)
                    | StoreError::Unclear(error)
                    | StoreError::Unreadable(error),
                ) => {
                    log::error!(
                        "old messages can't be deleted: {error}; the next try is the next walk"
                    );
                    return false;
                }
                Err(_) => self.database.retry_in(),
            };
            if stop.wait(wait) {
                return true;
            }
        }
    }

    fn step(&mut self, after: i64) -> Result<Pruned, StoreError> {
        let stretch = PruneRange {
            after,
            limit: BATCH,
            history: &self.history,
            delete: true,
        };
        let is_answer =
            |error: &StoreError| error.is_refusal() || matches!(error, StoreError::Conflict(_));
        self.database
            .ask_expecting(is_answer, |session, _| session.prune(&stretch))
    }
}
