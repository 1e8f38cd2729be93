//! Pruning: what is over and has grown too old is deleted, if the configuration says how old that is.
//!
//! It walks over the messages in the order of their ids, in small transactions with a pause after
//! each. Any number of services may do so at once; they pass over what another one is deleting.

use std::collections::HashMap;
use std::thread;
use std::time::{Duration, Instant};

use crate::config::{self, History};
use crate::failpoint;
use crate::health::worker_thread::{StopFlag, WorkerThread};
use crate::retry::Backoff;
use crate::state::Status;
use crate::store::{Database, Pruned, RetentionStore, StoreError, Stretch};

/// So many messages a transaction: a few milliseconds.
const BATCH: usize = 1000;

/// A service that prunes pauses so many times as long as its last transaction took: it is there for
/// other work.
const PAUSE_FACTOR: u32 = 4;

/// So often the command tries again what met another transaction.
const CONFLICT_RETRIES: u32 = 5;

/// Every so many walks, one begins at the first message again: a row can still appear where all was
/// settled, from a transaction that took long, and ids begin again when a table is emptied.
const WALKS_PER_FULL_WALK: u32 = 24;

/// Starts the thread of a service that prunes.
///
/// # Errors
/// When the system has no thread left.
pub fn start(database: Database, history: History) -> std::io::Result<WorkerThread> {
    let ages: Vec<String> = history
        .ages()
        .map(|(status, age)| format!("{status} after {}", config::shown(age)))
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

/// Deletes what is too old in the whole table, or counts it. What was done is in `counts`, also after
/// an error.
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
        match session.prune(&Stretch {
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
                // Somebody waits for it, so that half of the time is enough for the others.
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

/// How many messages of each state.
#[derive(Debug, Default)]
pub struct PrunedCounts(HashMap<Status, usize>);

impl PrunedCounts {
    /// How many of this state.
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

/// A service's part in it.
struct Pruning {
    database: Database,
    history: History,
    /// No message up to this id will ever be too old.
    settled: i64,
}

impl Pruning {
    fn run(&mut self, stop: &StopFlag) {
        let mut walks = 0_u32;
        // Not at once: a message whose end was recorded as its service died comes again, and is known
        // by its row.
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
            self.database.rest();
        }
    }

    /// Until the next walk: between half and one and a half of the interval, so that services that were
    /// started together do not walk together.
    fn pause(&self) -> Duration {
        self.history.every.mul_f64(0.5 + fastrand::f64())
    }

    /// Walks to where messages are too young; whether it was told to stop on the way.
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
                // A right that is missing, or a table of the user's that refers to a message: no outage.
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
        let stretch = Stretch {
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
