//! The thread that takes occurrences.

mod held;

use std::collections::HashMap;
use std::time::{Duration, Instant};

use chrono::TimeDelta;
use crossbeam_channel::{SendTimeoutError, Sender};

use self::held::{HOLD, Held, forget_those_free, hold, say};
use super::clock::{self, Told};
use super::decide::Note;
use super::poll_history::Watch;
use super::publisher::Batch;
use super::scheduling_batch::{Blame, SchedulingBatch};
use crate::failpoint;
use crate::health::outage::HealthProbe;
use crate::health::worker_thread::StopFlag;
use crate::retry::BatchSize;
use crate::store::{
    Anew, BATCH_BYTES, Candidate, Database, OccurrenceStore, Ready, ScheduleRefusal, StoreError,
};

/// It is looked at least so often whether a schedule is new or changed.
const LOOK: Duration = Duration::from_secs(1);

/// What is due and in the hands of another service is looked at again after this.
const ANOTHER_HAS_IT: Duration = Duration::from_millis(20);

/// It is looked so often for next occurrences that no comparison finds.
const MEND: Duration = Duration::from_secs(10);

/// So many schedules are advanced together at most.
const BATCH: usize = 500;

/// So many times as many where no message is made.
const PLANNED: usize = 4;

/// After the database has refused messages and taken some again, so many bytes of them are made at least.
const FEW_BYTES: usize = 64 << 10;

/// The publisher has as many as it can hold: it is waited for so long. One that is held up by a broker is
/// not to hold up others' occurrences, which are recorded at least.
const ROOM: Duration = Duration::from_secs(1);

/// After so many refusals in a row it is no schedule's fault, and there is no hurry.
const MANY: u32 = 3;

/// When to look again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Look {
    In(Duration),
    /// When the database is back.
    Away,
    /// Never: the publisher is gone.
    Never,
}

const AT_ONCE: Look = Look::In(Duration::ZERO);

pub(super) struct SchedulePoller {
    batches: Sender<Batch>,
    watch: Option<Watch>,
    clock: Option<Told>,
    /// Whether it is done what is done once.
    begun: bool,
    /// When it has looked for those that no comparison finds.
    mended: Option<Instant>,
    held: HashMap<i64, Held>,
    /// Those that will be, once it is noted in the row why.
    blamed: HashMap<i64, Blame>,
    /// The messages that hold schedules back for long, of which that has been said.
    said: HashMap<i64, String>,
    /// How many schedules the next transaction advances, and how many bytes of messages it has.
    batch: BatchSize,
    bytes: usize,
    /// How often a single schedule was refused, or the note of that, since one was advanced.
    refused: u32,
}

impl SchedulePoller {
    pub(super) fn new(batches: Sender<Batch>) -> Self {
        Self {
            batches,
            watch: None,
            clock: None,
            begun: false,
            mended: None,
            held: HashMap::new(),
            blamed: HashMap::new(),
            said: HashMap::new(),
            batch: BatchSize::new(BATCH),
            bytes: BATCH_BYTES,
            refused: 0,
        }
    }

    pub(super) fn run(&mut self, database: &mut Database, stop: &StopFlag) {
        loop {
            failpoint::hit("schedule.looks");
            let wait = match self.look(database) {
                Look::In(wait) => wait,
                Look::Away => database.retry_in(),
                Look::Never => return,
            };
            if stop.wait(wait) {
                return;
            }
        }
    }

    fn look(&mut self, database: &mut Database) -> Look {
        match database.ask(|session, health| self.try_look(session, health)) {
            Ok(look) => look,
            Err(StoreError::Conflict(_)) => Look::In(ANOTHER_HAS_IT),
            Err(_) => Look::Away,
        }
    }

    fn try_look(
        &mut self,
        session: &mut dyn OccurrenceStore,
        database: &HealthProbe,
    ) -> Result<Look, StoreError> {
        let began = Instant::now();
        let held = self.held_at(began);
        if !self.begun {
            // An older version may have refused what this one knows.
            session.recompute(Anew::AtStart)?;
            self.begun = true;
        }
        let asked = Instant::now();
        let agenda = session.agenda(&held)?;
        let told = Told {
            asked,
            told: Instant::now(),
            now: agenda.now,
        };
        self.compare_clocks(told, session)?;
        let watch = self.watch.get_or_insert(Watch::begun(agenda.now));
        watch.looks(&agenda);
        let watch = *watch;
        if !agenda.unplanned && !agenda.is_odd && agenda.next.is_none_or(|next| next > agenda.now) {
            // Somebody else has seen to them, or they are not active.
            self.blamed.clear();
            forget_those_free(&mut self.held, began);
        }
        let mut advance =
            |taker: &mut Self, ready| taker.advance((&mut *session, database), ready, &held, watch);
        if agenda.is_odd || self.mended.is_none_or(|then| began - then >= MEND) {
            self.mended = Some(began);
            match advance(self, Ready::Odd)? {
                Look::In(wait) if wait == ANOTHER_HAS_IT => {}
                other => return Ok(other),
            }
        }
        let mut look = LOOK;
        if agenda.unplanned {
            match advance(self, Ready::Unplanned)? {
                // There may be more.
                Look::In(wait) => look = wait,
                other => return Ok(other),
            }
        }
        let Some(next) = agenda.next else {
            // What stands first is no time: it hides when the others are due.
            return match agenda.is_odd {
                true => advance(self, Ready::Due),
                false => Ok(Look::In(look)),
            };
        };
        match (next - agenda.now).to_std() {
            Ok(wait) if !wait.is_zero() => Ok(Look::In(wait.min(look))),
            _ => advance(self, Ready::Due),
        }
    }

    fn compare_clocks(
        &mut self,
        told: Told,
        session: &mut dyn OccurrenceStore,
    ) -> Result<(), StoreError> {
        let leap = self.clock.and_then(|before| clock::leap(before, told));
        if let Some(leap) = leap {
            see_to(leap, session)?;
        }
        self.clock = Some(told);
        Ok(())
    }

    fn advance(
        &mut self,
        (session, database): (&mut dyn OccurrenceStore, &HealthProbe),
        ready: Ready,
        held: &[i64],
        watch: Watch,
    ) -> Result<Look, StoreError> {
        let limit = self.limit(ready);
        let before = self.held_before();
        // That has no occurrence in hand.
        let takes = ready != Ready::Odd;
        if takes {
            failpoint::hit("schedule.before-take");
        }
        let mut hand = SchedulingBatch::new(ready, watch, self.bytes, self.blamed.clone(), before);
        let decide = &mut |candidate: &Candidate| hand.decide(candidate);
        let advanced = session.advance_schedules(ready, limit, held, decide);
        let messages = match advanced {
            Ok((_, messages)) => messages,
            Err(
                StoreError::Refused(reason)
                | StoreError::Unclear(reason)
                | StoreError::Unreadable(reason),
            ) if !hand.seen.is_empty() => {
                return Ok(self.find_the_bad_one(&hand, &reason));
            }
            Err(error) => return Err(error),
        };
        if takes {
            failpoint::hit("schedule.taken");
        }
        let taken = Instant::now();
        self.see(&hand);
        if hand.seen.is_empty() {
            return Ok(Look::In(ANOTHER_HAS_IT));
        }
        if messages.is_empty() {
            return Ok(AT_ONCE);
        }
        log::debug!("the scheduler took {} occurrences", messages.len());
        database.answered();
        let batch = Batch { messages, taken };
        match self.batches.send_timeout(batch, ROOM) {
            // The sweep has what there is no room for.
            Ok(()) | Err(SendTimeoutError::Timeout(_)) => Ok(AT_ONCE),
            Err(SendTimeoutError::Disconnected(_)) => Ok(Look::Never),
        }
    }

    /// Whom the next transaction of that kind does not have, another has seen to.
    fn forget_blames(&mut self, hand: &SchedulingBatch) {
        let is_there = |id: &i64| hand.seen.iter().any(|(seen, ..)| seen == id);
        self.blamed
            .retain(|id, blame| blame.ready != hand.ready || is_there(id));
    }

    /// Says what is to be said of schedules that are advanced, and holds back those that are not.
    fn see(&mut self, hand: &SchedulingBatch) {
        self.forget_blames(hand);
        let is_noted = |note: &Option<Note>| matches!(note, Some(Note::CannotRecord(_)));
        if !hand.seen.iter().all(|(_, _, note)| is_noted(note)) {
            self.refused = 0;
            self.batch.grow();
            self.bytes = (self.bytes.max(FEW_BYTES) * 2).min(BATCH_BYTES);
        }
        for (id, title, note) in &hand.seen {
            if let Some(note @ (Note::HeldBack(reason) | Note::CannotRecord(reason))) = note {
                self.blamed.remove(id);
                let line = format!("schedule {title} {note}");
                hold(&mut self.held, *id, reason, hand.watch, &line);
                continue;
            }
            self.held.remove(id);
            say(&mut self.said, *id, title, note.as_ref());
        }
    }

    /// How many schedules are advanced together. Of those that are planned it is not more while one is
    /// looked for that the database refuses: of these too, messages may be made.
    const fn limit(&self, ready: Ready) -> usize {
        match ready {
            Ready::Unplanned if self.batch.is_full() => BATCH * PLANNED,
            _ => self.batch.get(),
        }
    }

    /// The database refuses something in a batch: fewer each time, until there is but the one.
    fn find_the_bad_one(&mut self, hand: &SchedulingBatch, reason: &str) -> Look {
        self.forget_blames(hand);
        if hand.messages > 0 {
            self.bytes = hand.bytes / 2;
        }
        if hand.messages > 1 && hand.len() == 1 {
            return AT_ONCE;
        }
        self.batch.halve(hand.len());
        if let ([(id, title, _)], 1) = (hand.seen.as_slice(), hand.len()) {
            self.refused += 1;
            match self.blamed.remove(id) {
                None => {
                    let blame = Blame {
                        ready: hand.ready,
                        refusal: ScheduleRefusal::NotRecorded(reason.to_owned()),
                    };
                    self.blamed.insert(*id, blame);
                }
                // Nor does it take the note.
                Some(Blame { refusal, .. }) => {
                    let reason = refusal.to_string();
                    let line = format!("schedule {title} is held back: {reason}");
                    hold(&mut self.held, *id, &reason, hand.watch, &line);
                }
            }
        }
        if self.refused < MANY {
            AT_ONCE
        } else {
            Look::In(self.brake())
        }
    }

    /// A round of those that are held back leaves half of the time to others: they may be many, and come
    /// first.
    fn brake(&self) -> Duration {
        let held = u32::try_from(self.held.len()).unwrap_or(u32::MAX);
        LOOK.min(HOLD / 2 / held.max(1))
    }

    fn held_at(&self, now: Instant) -> Vec<i64> {
        let held = self.held.iter().filter(|(_, held)| held.until > now);
        held.map(|(id, _)| *id).collect()
    }

    fn held_before(&self) -> HashMap<i64, Watch> {
        let held = self.held.iter();
        held.filter_map(|(id, held)| Some((*id, held.before?)))
            .collect()
    }
}

/// The database's clock was set. Ahead: what lies in between follows the policies, as if nobody had looked.
/// Back: what was reckoned before would come too late.
fn see_to(leap: TimeDelta, session: &mut dyn OccurrenceStore) -> Result<(), StoreError> {
    let seconds = leap.num_seconds().abs();
    if leap > TimeDelta::zero() {
        log::warn!(
            "the database's clock has gone {seconds} s further than this host's: it was set, or this host \
             stood still; the runs in between are late or missed"
        );
        return Ok(());
    }
    log::warn!(
        "the database's clock was set back by {seconds} s: all schedules' next runs are reckoned anew, and \
         a planned time that has had its run has no second one"
    );
    session.recompute(Anew::SetBack).map(drop)
}

#[cfg(test)]
mod tests;
