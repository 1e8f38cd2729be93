//! The schedules of one transaction, as they are decided on one after the other.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use super::decide::{self, Note, Verdict};
use super::poll_history::Watch;
use crate::message::Message;
use crate::store::{Advance, Candidate, ReadySchedules, ScheduleRefusal};

/// So many messages are made together, of [`BATCH_BYTES`](crate::store::BATCH_BYTES), and so long it takes:
/// the others are due still.
const MESSAGES: usize = 2000;
const TIME: Duration = Duration::from_secs(1);

/// Why a schedule is held back once that is noted, and in which transactions it is met.
#[derive(Debug, Clone)]
pub(super) struct Blame {
    pub(super) ready: ReadySchedules,
    pub(super) refusal: ScheduleRefusal,
}

/// The schedules of one transaction.
pub(super) struct SchedulingBatch {
    pub(super) ready: ReadySchedules,
    pub(super) watch: Watch,
    began: Instant,
    pub(super) messages: usize,
    /// How many bytes these take, and may take.
    pub(super) bytes: usize,
    room: usize,
    /// Of those that are decided on, their ids, what they are called, what is to be said of them.
    pub(super) seen: Vec<(i64, String, Option<Note>)>,
    /// How many are left for the next transaction.
    left: usize,
    /// Those of which the database refuses what their run would write, and why.
    blamed: HashMap<i64, Blame>,
    /// Of those that were held back, how it was before.
    held: HashMap<i64, Watch>,
}

impl SchedulingBatch {
    pub(super) fn new(
        ready: ReadySchedules,
        watch: Watch,
        room: usize,
        blamed: HashMap<i64, Blame>,
        held: HashMap<i64, Watch>,
    ) -> Self {
        Self {
            ready,
            watch,
            began: Instant::now(),
            messages: 0,
            bytes: 0,
            room,
            seen: Vec::new(),
            left: 0,
            blamed,
            held,
        }
    }

    pub(super) fn decide(&mut self, candidate: &Candidate) -> Advance {
        let row = &candidate.row;
        let is_lost = row.next_run_fault().is_some();
        // It would be gone from the row without a word.
        if self.is_full() && !is_lost {
            self.left += 1;
            return decide::untouched(row);
        }
        let room = self.room.saturating_sub(self.bytes);
        let blamed = self.blamed.get(&row.id);
        let held = self.held.get(&row.id);
        let watch = held.map_or(self.watch, |before| self.watch.of_held(before));
        let verdict = catch_unwind(AssertUnwindSafe(|| match (blamed, self.ready) {
            (Some(blame), _) => decide::cannot_record(row, &blame.refusal),
            (_, ReadySchedules::Unplanned | ReadySchedules::Saved(_)) => {
                decide::plan(candidate, &watch, room)
            }
            (_, ReadySchedules::Due) => decide::take(candidate, &watch, room),
            (_, ReadySchedules::Malformed) => decide::mend(row),
        }));
        // A defect of ours, which others' schedules are not to suffer for.
        let (advance, note): Verdict = verdict.unwrap_or_else(|_| match self.ready {
            ReadySchedules::Due | ReadySchedules::Malformed => {
                decide::hold_back(row, "a defect".to_owned())
            }
            _ => decide::give_up(row),
        });
        self.messages += advance.messages.len();
        self.bytes += advance.messages.iter().map(Message::size).sum::<usize>();
        self.seen.push((row.id, row.title(), note));
        advance
    }

    /// How many schedules the transaction has.
    pub(super) const fn len(&self) -> usize {
        self.seen.len() + self.left
    }

    fn is_full(&self) -> bool {
        let is_some = !self.seen.is_empty();
        self.messages >= MESSAGES
            || is_some && (self.bytes >= self.room || self.began.elapsed() > TIME)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schedule::decide::tests::{at, candidate};

    #[test]
    fn what_there_is_no_room_for_stays_as_it_is_and_is_not_seen() {
        for ready in [ReadySchedules::Due, ReadySchedules::Unplanned] {
            let mut hand = SchedulingBatch::new(
                ready,
                Watch::begun(at(14)),
                1,
                HashMap::new(),
                HashMap::new(),
            );
            let first = hand.decide(&candidate(14, |_| ()));
            assert_eq!(
                (first.messages.len(), first.from_current_timetable),
                (1, true)
            );
            let second = candidate(14, |_| ());
            assert_eq!(hand.decide(&second), decide::untouched(&second.row));
            assert_eq!((hand.seen.len(), hand.len()), (1, 2));
        }
    }
}
