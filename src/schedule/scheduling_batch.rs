//! The schedules of one transaction, which are decided one after the other.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use super::decide::{self, Decision, Note};
use super::poll_history::PollHistory;
use crate::message::Message;
use crate::store::{Advance, Candidate, ReadySchedules, ScheduleRefusal};

/// The limits of one transaction, beside [`BATCH_BYTES`](crate::store::BATCH_BYTES); the remaining schedules stay
/// due.
const MAX_MESSAGES: usize = 2000;
const MAX_TIME: Duration = Duration::from_secs(1);

/// Why a schedule will be held back once its row notes it, and the kind of transactions that advance it.
#[derive(Debug, Clone)]
pub(super) struct UnnotedRefusal {
    pub(super) ready: ReadySchedules,
    pub(super) refusal: ScheduleRefusal,
}

/// The schedules of one transaction.
pub(super) struct SchedulingBatch {
    pub(super) ready: ReadySchedules,
    pub(super) history: PollHistory,
    began: Instant,
    pub(super) messages: usize,
    /// The bytes of the messages.
    pub(super) bytes: usize,
    max_bytes: usize,
    /// The id, title and note of each decided schedule.
    pub(super) decided: Vec<(i64, String, Option<Note>)>,
    /// How many schedules are left for the next transaction.
    left_out: usize,
    /// The schedules whose messages the database refuses.
    unnoted: HashMap<i64, UnnotedRefusal>,
    /// The schedules that were held back, each with the poll history from before.
    held_histories: HashMap<i64, PollHistory>,
}

impl SchedulingBatch {
    pub(super) fn new(
        ready: ReadySchedules,
        history: PollHistory,
        max_bytes: usize,
        unnoted: HashMap<i64, UnnotedRefusal>,
        held_histories: HashMap<i64, PollHistory>,
    ) -> Self {
        Self {
            ready,
            history,
            began: Instant::now(),
            messages: 0,
            bytes: 0,
            max_bytes,
            decided: Vec::new(),
            left_out: 0,
            unnoted,
            held_histories,
        }
    }

    pub(super) fn decide(&mut self, candidate: &Candidate) -> Advance {
        let row = &candidate.row;
        let is_lost = row.next_run_fault().is_some();
        // An unreadable next run must be reported before the advance clears it from the row.
        if self.is_full() && !is_lost {
            self.left_out += 1;
            return decide::unchanged(row);
        }
        let max_bytes = self.max_bytes.saturating_sub(self.bytes);
        let refusal = self.unnoted.get(&row.id);
        let held = self.held_histories.get(&row.id);
        let history = held.map_or(self.history, |before| self.history.for_held_back(before));
        let decision = catch_unwind(AssertUnwindSafe(|| match (refusal, self.ready) {
            (Some(refusal), _) => decide::cannot_record(row, &refusal.refusal),
            (_, ReadySchedules::Unplanned | ReadySchedules::Saved(_)) => {
                decide::plan(candidate, &history, max_bytes)
            }
            (_, ReadySchedules::Due) => decide::advance_due(candidate, &history, max_bytes),
            (_, ReadySchedules::Malformed) => decide::mend_next_run(row),
        }));
        // A panic is a bug in this program, from which other schedules must not suffer.
        let (advance, note): Decision = decision.unwrap_or_else(|_| match self.ready {
            ReadySchedules::Due | ReadySchedules::Malformed => {
                decide::hold_back(row, "a defect".to_owned())
            }
            _ => decide::refuse_unplannable(row),
        });
        self.messages += advance.messages.len();
        self.bytes += advance.messages.iter().map(Message::size).sum::<usize>();
        self.decided.push((row.id, row.title(), note));
        advance
    }

    /// How many schedules the transaction has locked.
    pub(super) const fn len(&self) -> usize {
        self.decided.len() + self.left_out
    }

    fn is_full(&self) -> bool {
        let is_some = !self.decided.is_empty();
        self.messages >= MAX_MESSAGES
            || is_some && (self.bytes >= self.max_bytes || self.began.elapsed() > MAX_TIME)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schedule::decide::tests::{at, candidate};

    #[test]
    fn a_schedule_beyond_the_limit_of_bytes_stays_unchanged_and_undecided() {
        for ready in [ReadySchedules::Due, ReadySchedules::Unplanned] {
            let mut batch = SchedulingBatch::new(
                ready,
                PollHistory::started(at(14)),
                1,
                HashMap::new(),
                HashMap::new(),
            );
            let first = batch.decide(&candidate(14, |_| ()));
            assert_eq!(
                (first.messages.len(), first.from_current_timetable),
                (1, true)
            );
            let second = candidate(14, |_| ());
            assert_eq!(batch.decide(&second), decide::unchanged(&second.row));
            assert_eq!((batch.decided.len(), batch.len()), (1, 2));
        }
    }
}
