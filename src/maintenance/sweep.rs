//! The sweep recovers what a dead worker left behind; any service's sweep may do so.
//!
//! It publishes PENDING messages that are due, and makes IN_PROGRESS messages of dead workers PENDING. It never
//! publishes a PUBLISHED message again because of its age: a long backlog is no fault.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::config::Config;
use crate::failpoint;
use crate::health::outage::{HealthProbe, Servers};
use crate::health::worker_thread::{StopFlag, WorkerThread};
use crate::ledger::late_rows::CancelledWithoutRow;
use crate::message::Message;
use crate::publish::TrackingOutbox;
use crate::retry::Backoff;
use crate::store::{BATCH_BYTES, Database, LateRowResult, RecoveryStore, StoreError};

/// How often the sweep looks for work while there is none.
const INTERVAL: Duration = Duration::from_millis(500);

/// How often the sweep checks for a notification, if the database sends them. It only reads what has arrived on
/// its connection, and asks the database nothing.
const LISTEN_INTERVAL: Duration = Duration::from_millis(10);

/// The longest rest after a step that took long.
const MAX_REST: Duration = Duration::from_secs(5);

/// The most messages in a step, beside about [`BATCH_BYTES`]: few enough to publish within the store's lease.
const MAX_BATCH: usize = 500;

/// The size of the first step, which shows how large the messages are.
const INITIAL_BATCH: usize = 20;

/// Starts the sweep's thread.
///
/// # Errors
/// When the system has no thread left.
pub fn start(
    mut database: Database,
    config: Arc<Config>,
    servers: Arc<Servers>,
    cancelled: Arc<CancelledWithoutRow>,
) -> std::io::Result<WorkerThread> {
    WorkerThread::restarting("sweep", move |stop| {
        let mut sweep = Sweep {
            cancelled: Arc::clone(&cancelled),
            ..Sweep::new(Arc::clone(&config), Arc::clone(&servers))
        };
        sweep.run(&mut database, stop);
    })
}

/// Sweeps on this thread until nothing is due, or a server is away.
pub fn until_done(mut database: Database, config: Arc<Config>, servers: Arc<Servers>) {
    let mut sweep = Sweep::new(config, servers);
    while sweep.step(&mut database) == SweepStep::More {}
}

/// The state of a sweep.
struct Sweep {
    outbox: TrackingOutbox,
    /// How many messages the next step takes.
    batch: usize,
    /// Whether the database notifies the sweep of work.
    is_notified: bool,
    held_queues: HeldQueues,
    /// The messages that this service has cancelled because they had no row.
    cancelled: Arc<CancelledWithoutRow>,
}

/// The queues that take no messages now. Their messages wait for the next try, and hold up no others.
struct HeldQueues {
    queues: BTreeSet<String>,
    until: Option<Instant>,
    backoff: Backoff,
}

impl HeldQueues {
    const fn none() -> Self {
        Self {
            queues: BTreeSet::new(),
            until: None,
            backoff: Backoff::for_connections(),
        }
    }

    fn hold(&mut self, queues: BTreeSet<String>) {
        if !queues.is_empty() {
            let wait = || Instant::now() + self.backoff.next_wait();
            self.until.get_or_insert_with(wait);
            self.queues.extend(queues);
        }
    }

    /// Releases the queues when it is time to try them again.
    fn release_when_due(&mut self) {
        if self.until.is_some_and(|until| until <= Instant::now()) {
            self.until = None;
            self.queues.clear();
        }
    }

    /// Resets the backoff if no queue is held after all due messages were tried.
    fn reset_backoff_if_empty(&mut self) {
        if self.queues.is_empty() {
            self.backoff.reset();
        }
    }
}

/// The result of one step of the sweep.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum SweepStep {
    /// There may be more work.
    More,
    /// No work is left.
    Done,
    /// The database is away.
    Away,
}

impl Sweep {
    fn new(config: Arc<Config>, servers: Arc<Servers>) -> Self {
        Self {
            outbox: TrackingOutbox::new(config, servers),
            batch: INITIAL_BATCH,
            is_notified: false,
            held_queues: HeldQueues::none(),
            cancelled: Arc::default(),
        }
    }

    fn run(&mut self, database: &mut Database, stop: &StopFlag) {
        loop {
            failpoint::hit("sweep.looks");
            let began = Instant::now();
            let is_over = match self.step(database) {
                SweepStep::More => stop.wait(Duration::ZERO),
                SweepStep::Done => self.rest(began.elapsed(), stop) || self.wait(database, stop),
                SweepStep::Away => stop.wait(database.retry_in()),
            };
            if is_over {
                return;
            }
        }
    }

    /// Rests after a step while queues are held: the step may have read past many of their messages, so a slow
    /// step is not repeated at once. `true` if the thread is to stop.
    fn rest(&self, spent: Duration, stop: &StopFlag) -> bool {
        !self.held_queues.queues.is_empty() && stop.wait((spent * 9).min(MAX_REST))
    }

    /// Waits until it is time to look again, or the database reports work. `true` if the thread is to stop.
    fn wait(&mut self, database: &mut Database, stop: &StopFlag) -> bool {
        let end = Instant::now() + INTERVAL;
        let end = self.held_queues.until.map_or(end, |until| until.min(end));
        loop {
            let left = end.saturating_duration_since(Instant::now());
            if !self.is_notified {
                return stop.wait(left);
            }
            if stop.wait(left.min(LISTEN_INTERVAL)) {
                return true;
            }
            if left <= LISTEN_INTERVAL || self.has_news(database) {
                return false;
            }
        }
    }

    fn has_news(&mut self, database: &mut Database) -> bool {
        match database.session().map(|session| session.was_notified()) {
            Some(Ok(Some(is_told))) => is_told,
            // The next step reports what is wrong.
            Some(Err(_)) | None => {
                self.is_notified = false;
                false
            }
            Some(Ok(None)) => false,
        }
    }

    fn step(&mut self, database: &mut Database) -> SweepStep {
        match database.ask(|session, health| self.try_step(session, health)) {
            Ok(step) => step,
            Err(StoreError::Conflict(_)) => SweepStep::Done,
            Err(_) => {
                self.is_notified = false;
                SweepStep::Away
            }
        }
    }

    fn try_step(
        &mut self,
        session: &mut dyn RecoveryStore,
        database: &HealthProbe,
    ) -> Result<SweepStep, StoreError> {
        // Asked before the look, so that work that arrives after the look is notified.
        self.is_notified = session.was_notified()?.is_some();
        let recovered = session.recover(MAX_BATCH)?;
        if recovered > 0 {
            log::warn!("{recovered} messages of workers that vanished are published again");
        }
        failpoint::hit("sweep.recovered");
        self.outbox.follow_up_unconfirmed(session)?;
        publish_late_rows(session, &self.cancelled)?;
        self.held_queues.release_when_due();
        let (due, undecodable) = session.take_due_except(self.batch, &self.held_queues.queues)?;
        self.batch = next_batch(&due);
        failpoint::hit("sweep.taken");
        if !undecodable.is_empty() {
            for row in &undecodable {
                log::error!("message {} can't be published: {}", row.key, row.reason);
            }
            match session.fail_undecodable(&undecodable) {
                // These messages come again when their lease expires; the others are published now.
                Err(error) if error.is_refusal() => {
                    database.refused(&error);
                }
                other => other?,
            }
        }
        // The time that the broker takes from here on must not count as the database's.
        database.answered();
        if due.is_empty() {
            self.held_queues.reset_backoff_if_empty();
            self.outbox.probe_away_brokers();
            return Ok(if recovered == MAX_BATCH || !undecodable.is_empty() {
                SweepStep::More
            } else {
                SweepStep::Done
            });
        }
        let flushed = self.outbox.flush(database, session, due)?;
        log::debug!("the sweep published {} messages", flushed.published);
        log_failures(&flushed.failed);
        self.held_queues.hold(flushed.waiting_queues);
        Ok(SweepStep::More)
    }
}

/// Publishes messages again that were cancelled for lack of a row, and whose rows have come after all.
fn publish_late_rows(
    session: &mut dyn RecoveryStore,
    cancelled: &CancelledWithoutRow,
) -> Result<(), StoreError> {
    let keys = cancelled.due();
    if keys.is_empty() {
        return Ok(());
    }
    let verdicts = match session.publish_late_rows(&keys) {
        Err(StoreError::Refused(reason) | StoreError::Unclear(reason)) => {
            // The sweep goes on to publish other messages.
            log::warn!("rows that may come late can't be looked for: {reason}");
            keys.into_iter()
                .map(|key| (key, LateRowResult::StillMissing))
                .collect()
        }
        verdicts => verdicts?,
    };
    for (key, late) in verdicts {
        match late {
            LateRowResult::StillMissing => cancelled.reschedule(&key),
            LateRowResult::Republished => {
                log::warn!("message {key}: its row has come late; it is published again");
                cancelled.forget(&key);
            }
            LateRowResult::Settled => cancelled.forget(&key),
        }
    }
    failpoint::hit("sweep.late");
    Ok(())
}

/// How many messages of the average size of these make up about [`BATCH_BYTES`].
fn next_batch(taken: &[Message]) -> usize {
    if taken.is_empty() {
        return INITIAL_BATCH;
    }
    let bytes: usize = taken.iter().map(|message| message.arguments.size()).sum();
    (BATCH_BYTES * taken.len() / bytes.max(1)).clamp(1, MAX_BATCH)
}

fn log_failures(failures: &[(String, String)]) {
    for (key, reason) in failures {
        log::error!("message {key} can't be published: {reason}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::Arguments;
    use serde_json::json;

    #[test]
    fn a_step_takes_few_large_messages_and_many_small_ones() {
        let like = |text: String| {
            let arguments = Arguments {
                args: vec![json!({ "in": [text] })],
                ..Arguments::default()
            };
            vec![Message::new("t", arguments, "q"); 20]
        };
        assert_eq!(next_batch(&like(String::new())), MAX_BATCH);
        let half = next_batch(&like("x".repeat(BATCH_BYTES / 4)));
        assert!((2..=4).contains(&half), "{half}");
        assert_eq!(next_batch(&like("x".repeat(2 * BATCH_BYTES))), 1);
        assert_eq!(next_batch(&[]), INITIAL_BATCH);
    }
}
