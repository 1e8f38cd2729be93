//! The thread that polls for due schedules, records their messages and advances them.

mod held_back;

use std::collections::HashMap;
use std::time::{Duration, Instant};

use chrono::TimeDelta;
use crossbeam_channel::{SendTimeoutError, Sender};

use self::held_back::{HOLD_BACK_FOR, HeldSchedule, forget_released, hold_back, log_note};
use super::clock::{self, ClockReading};
use super::decide::Note;
use super::poll_history::PollHistory;
use super::publisher::OccurrenceBatch;
use super::scheduling_batch::{SchedulingBatch, UnnotedRefusal};
use crate::failpoint;
use crate::health::outage::HealthProbe;
use crate::health::worker_thread::StopFlag;
use crate::retry::BatchSize;
use crate::store::{
    Agenda, BATCH_BYTES, Candidate, Database, OccurrenceStore, ReadySchedules, RecomputeReason,
    ScheduleRefusal, StoreError,
};

/// The longest time between two polls, in which a new or changed schedule is noticed.
const POLL_INTERVAL: Duration = Duration::from_secs(1);

/// When to poll again for schedules that another service has locked.
const RETRY_LOCKED: Duration = Duration::from_millis(20);

/// How often to look for malformed next occurrences, which no comparison of times finds.
const MALFORMED_INTERVAL: Duration = Duration::from_secs(10);

/// How many schedules one transaction advances at most.
const BATCH_SCHEDULES: usize = 500;

/// A transaction advances this many times more schedules when they are only planned, mostly without messages.
const PLANNING_FACTOR: usize = 4;

/// The bytes of messages in a transaction at least, once the database accepts messages again after a refusal.
const MIN_BATCH_BYTES: usize = 64 << 10;

/// How long to wait for a publisher whose channel is full. A slow broker must not keep other occurrences from being
/// recorded.
const PUBLISHER_WAIT: Duration = Duration::from_secs(1);

/// After so many refusals in a row, the cause is no single schedule, and the poller slows down.
const MANY_REFUSALS: u32 = 3;

/// When to poll again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum NextPoll {
    In(Duration),
    /// After the database's backoff.
    DatabaseAway,
    /// Never, because the publisher has ended.
    Never,
}

const AT_ONCE: NextPoll = NextPoll::In(Duration::ZERO);

/// Polls the schedules of a database.
pub(super) struct SchedulePoller {
    batches: Sender<OccurrenceBatch>,
    history: Option<PollHistory>,
    last_clock: Option<ClockReading>,
    /// Whether the work of the first poll is done.
    has_started: bool,
    /// When it last looked for malformed next occurrences.
    malformed_checked: Option<Instant>,
    held: HashMap<i64, HeldSchedule>,
    /// Schedules whose messages the database refuses, until their rows note that. Then they are held back.
    unnoted: HashMap<i64, UnnotedRefusal>,
    /// For each schedule, the unfinished message that was last reported to hold it back for long.
    logged_overlaps: HashMap<i64, String>,
    /// How many schedules the next transaction advances, and how many bytes of messages it may have.
    batch_limit: BatchSize,
    byte_limit: usize,
    /// How often the database has refused a single schedule, or its note, since it accepted one.
    refusals_in_a_row: u32,
}

impl SchedulePoller {
    pub(super) fn new(batches: Sender<OccurrenceBatch>) -> Self {
        Self {
            batches,
            history: None,
            last_clock: None,
            has_started: false,
            malformed_checked: None,
            held: HashMap::new(),
            unnoted: HashMap::new(),
            logged_overlaps: HashMap::new(),
            batch_limit: BatchSize::new(BATCH_SCHEDULES),
            byte_limit: BATCH_BYTES,
            refusals_in_a_row: 0,
        }
    }

    pub(super) fn run(&mut self, database: &mut Database, stop: &StopFlag) {
        loop {
            failpoint::hit("schedule.looks");
            let wait = match self.poll(database) {
                NextPoll::In(wait) => wait,
                NextPoll::DatabaseAway => database.retry_in(),
                NextPoll::Never => return,
            };
            if stop.wait(wait) {
                return;
            }
        }
    }

    fn poll(&mut self, database: &mut Database) -> NextPoll {
        match database.ask(|session, health| self.try_poll(session, health)) {
            Ok(next) => next,
            Err(StoreError::Conflict(_)) => NextPoll::In(RETRY_LOCKED),
            Err(_) => NextPoll::DatabaseAway,
        }
    }

    fn try_poll(
        &mut self,
        session: &mut dyn OccurrenceStore,
        database: &HealthProbe,
    ) -> Result<NextPoll, StoreError> {
        let began = Instant::now();
        let held = self.held_ids(began);
        if !self.has_started {
            // An older version may have refused what this version supports.
            session.recompute(RecomputeReason::AtStart)?;
            self.has_started = true;
        }
        let asked = Instant::now();
        let agenda = session.agenda(&held)?;
        let reading = ClockReading {
            asked,
            answered: Instant::now(),
            now: agenda.now,
        };
        self.compare_clocks(reading, session)?;
        let history = self.history.get_or_insert(PollHistory::started(agenda.now));
        history.record_poll(&agenda);
        let history = *history;
        if !agenda.has_unplanned
            && !agenda.has_malformed
            && agenda.next.is_none_or(|next| next > agenda.now)
        {
            // No schedule is waiting: others have advanced the refused ones, or they are inactive.
            self.unnoted.clear();
            forget_released(&mut self.held, began);
        }
        let mut advance = |poller: &mut Self, ready| {
            poller.advance((&mut *session, database), ready, &held, history)
        };
        if self.begin_malformed_check(&agenda, began) {
            match advance(self, ReadySchedules::Malformed)? {
                NextPoll::In(wait) if wait == RETRY_LOCKED => {}
                other => return Ok(other),
            }
        }
        let mut longest_wait = POLL_INTERVAL;
        if agenda.has_unplanned {
            match advance(self, ReadySchedules::Unplanned)? {
                // If it was full, there may be more.
                NextPoll::In(wait) => longest_wait = wait,
                other => return Ok(other),
            }
        }
        let Some(next) = agenda.next else {
            // The first next occurrence is malformed, and hides when the others are due.
            return match agenda.has_malformed {
                true => advance(self, ReadySchedules::Due),
                false => Ok(NextPoll::In(longest_wait)),
            };
        };
        match (next - agenda.now).to_std() {
            Ok(wait) if !wait.is_zero() => Ok(NextPoll::In(wait.min(longest_wait))),
            _ => advance(self, ReadySchedules::Due),
        }
    }

    /// Returns whether the poll that `began` now looks for malformed next occurrences, and notes that it does.
    fn begin_malformed_check(&mut self, agenda: &Agenda, began: Instant) -> bool {
        let is_due = agenda.has_malformed
            || self
                .malformed_checked
                .is_none_or(|then| began - then >= MALFORMED_INTERVAL);
        if is_due {
            self.malformed_checked = Some(began);
        }
        is_due
    }

    /// Handles a jump of the database's clock since the previous poll.
    fn compare_clocks(
        &mut self,
        reading: ClockReading,
        session: &mut dyn OccurrenceStore,
    ) -> Result<(), StoreError> {
        let jump = self
            .last_clock
            .and_then(|before| clock::jump(before, reading));
        if let Some(jump) = jump {
            handle_clock_jump(jump, session)?;
        }
        self.last_clock = Some(reading);
        Ok(())
    }

    fn advance(
        &mut self,
        (session, database): (&mut dyn OccurrenceStore, &HealthProbe),
        ready: ReadySchedules,
        held: &[i64],
        history: PollHistory,
    ) -> Result<NextPoll, StoreError> {
        let limit = self.limit(ready);
        let before = self.held_histories();
        // A malformed schedule publishes no occurrence.
        let takes = ready != ReadySchedules::Malformed;
        if takes {
            failpoint::hit("schedule.before-take");
        }
        let mut batch = SchedulingBatch::new(
            ready,
            history,
            self.byte_limit,
            self.unnoted.clone(),
            before,
        );
        let decide = &mut |candidate: &Candidate| batch.decide(candidate);
        let advanced = session.advance_schedules(ready, limit, held, decide);
        let messages = match advanced {
            Ok((_, messages)) => messages,
            Err(
                StoreError::Refused(reason)
                | StoreError::Unclear(reason)
                | StoreError::Unreadable(reason),
            ) if !batch.decided.is_empty() => {
                return Ok(self.narrow_down(&batch, &reason));
            }
            Err(error) => return Err(error),
        };
        if takes {
            failpoint::hit("schedule.taken");
        }
        let taken_at = Instant::now();
        self.apply_notes(&batch);
        if batch.decided.is_empty() {
            return Ok(NextPoll::In(RETRY_LOCKED));
        }
        if messages.is_empty() {
            return Ok(AT_ONCE);
        }
        log::debug!("the scheduler took {} occurrences", messages.len());
        database.answered();
        let batch = OccurrenceBatch { messages, taken_at };
        match self.batches.send_timeout(batch, PUBLISHER_WAIT) {
            // The sweep publishes the messages of a batch that does not fit into the channel.
            Ok(()) | Err(SendTimeoutError::Timeout(_)) => Ok(AT_ONCE),
            Err(SendTimeoutError::Disconnected(_)) => Ok(NextPoll::Never),
        }
    }

    /// Forgets the refusals of schedules that the next transaction of the same kind does not meet again: another
    /// service has advanced them.
    fn forget_handled(&mut self, batch: &SchedulingBatch) {
        let is_there = |id: &i64| batch.decided.iter().any(|(seen, ..)| seen == id);
        self.unnoted
            .retain(|id, refusal| refusal.ready != batch.ready || is_there(id));
    }

    /// Logs the notes of a committed batch, and holds back the schedules that it could not advance.
    fn apply_notes(&mut self, batch: &SchedulingBatch) {
        self.forget_handled(batch);
        let is_noted = |note: &Option<Note>| matches!(note, Some(Note::CannotRecord(_)));
        if !batch.decided.iter().all(|(_, _, note)| is_noted(note)) {
            self.refusals_in_a_row = 0;
            self.batch_limit.grow();
            self.byte_limit = (self.byte_limit.max(MIN_BATCH_BYTES) * 2).min(BATCH_BYTES);
        }
        for (id, title, note) in &batch.decided {
            if let Some(note @ (Note::HeldBack(reason) | Note::CannotRecord(reason))) = note {
                self.unnoted.remove(id);
                let line = format!("schedule {title} {note}");
                hold_back(&mut self.held, *id, reason, batch.history, &line);
                continue;
            }
            self.held.remove(id);
            log_note(&mut self.logged_overlaps, *id, title, note.as_ref());
        }
    }

    /// How many schedules a transaction advances. Unplanned ones get the usual limit while a refused schedule is being
    /// narrowed down, since they may have messages too.
    const fn limit(&self, ready: ReadySchedules) -> usize {
        match ready {
            ReadySchedules::Unplanned if self.batch_limit.is_full() => {
                BATCH_SCHEDULES * PLANNING_FACTOR
            }
            _ => self.batch_limit.get(),
        }
    }

    /// Shrinks the batches after a refusal, until one has only the schedule that the database refuses.
    fn narrow_down(&mut self, batch: &SchedulingBatch, reason: &str) -> NextPoll {
        self.forget_handled(batch);
        if batch.messages > 0 {
            self.byte_limit = batch.bytes / 2;
        }
        if batch.messages > 1 && batch.len() == 1 {
            return AT_ONCE;
        }
        self.batch_limit.halve(batch.len());
        if let ([(id, title, _)], 1) = (batch.decided.as_slice(), batch.len()) {
            self.refusals_in_a_row += 1;
            match self.unnoted.remove(id) {
                None => {
                    let refusal = UnnotedRefusal {
                        ready: batch.ready,
                        refusal: ScheduleRefusal::NotRecorded(reason.to_owned()),
                    };
                    self.unnoted.insert(*id, refusal);
                }
                // The database refuses the note, too.
                Some(UnnotedRefusal { refusal, .. }) => {
                    let reason = refusal.to_string();
                    let line = format!("schedule {title} is held back: {reason}");
                    hold_back(&mut self.held, *id, &reason, batch.history, &line);
                }
            }
        }
        if self.refusals_in_a_row < MANY_REFUSALS {
            AT_ONCE
        } else {
            NextPoll::In(self.refusal_delay())
        }
    }

    /// The delay after a refusal. Retrying all schedules that are held back, which may be many and come first, then
    /// takes at most half of the time.
    fn refusal_delay(&self) -> Duration {
        let held = u32::try_from(self.held.len()).unwrap_or(u32::MAX);
        POLL_INTERVAL.min(HOLD_BACK_FOR / 2 / held.max(1))
    }

    fn held_ids(&self, now: Instant) -> Vec<i64> {
        let held = self.held.iter().filter(|(_, held)| held.until > now);
        held.map(|(id, _)| *id).collect()
    }

    fn held_histories(&self) -> HashMap<i64, PollHistory> {
        let held = self.held.iter();
        held.filter_map(|(id, held)| Some((*id, held.before?)))
            .collect()
    }
}

/// Handles a database clock that was set. Ahead: the occurrences in between follow their policies, as if nobody had
/// polled. Back: the next occurrences are recomputed, because they would come too late.
fn handle_clock_jump(jump: TimeDelta, session: &mut dyn OccurrenceStore) -> Result<(), StoreError> {
    let seconds = jump.num_seconds().abs();
    if jump > TimeDelta::zero() {
        log::warn!(
            "the database's clock has gone {seconds} s further than this host's: it was set, or this host \
             stood still; the runs in between are late or missed"
        );
        return Ok(());
    }
    log::warn!(
        "the database's clock was set back by {seconds} s: the next runs of all schedules are recomputed, \
         and no planned time runs twice"
    );
    session.recompute(RecomputeReason::ClockSetBack).map(drop)
}

#[cfg(test)]
mod tests;
