//! Decides how to advance a schedule: pure functions of its row, the database's time and the poll history.

use std::fmt;

use chrono::{DateTime, Datelike, TimeDelta, Utc};

use super::due::{DueOccurrences, due_occurrences};
use super::policy::SchedulePolicy;
use super::poll_history::PollHistory;
use crate::message::{Message, Occurrence};
use crate::names;
use crate::state::Status;
use crate::store::{Advance, Candidate, ScheduleRefusal, ScheduleRow, UnfinishedMessage};
use crate::timetable::{Missed, Overlap, Timetable};

/// A message that has waited in its queue for so long, and for so many runs of its schedule, may be lost.
const LONG_WAIT: TimeDelta = TimeDelta::minutes(1);
const LONG_WAIT_RUNS: usize = 3;

/// The last year that the databases can store.
const LAST_YEAR: i32 = 9999;

/// What to log about a schedule once its advance is committed.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Note {
    /// It does not run, for this reason, which is new.
    Refused(String),
    /// This version can't compute its runs. Another version has planned it, and may run it.
    HeldBack(String),
    /// The database refuses its messages; its row notes that.
    CannotRecord(String),
    /// Its `next_run` was in another format than services write, and is read as this time.
    Rewritten(DateTime<Utc>),
    /// Its `next_run` could not be read, and is recomputed from now on.
    Lost(String),
    /// It runs again.
    Accepted,
    /// Occurrences were missed.
    Missed {
        since: DateTime<Utc>,
        policy: Missed,
        published: usize,
    },
    /// It skips a run because an earlier message is not finished.
    Overlaps {
        planned: DateTime<Utc>,
        message: UnfinishedMessage,
        /// Whether the message has waited for so long that it may be lost.
        is_long: bool,
    },
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(reason) => write!(f, "does not run: {reason}"),
            Self::HeldBack(reason) => write!(
                f,
                "is held back: this version of the service can't compute its runs: {reason}"
            ),
            Self::CannotRecord(reason) => write!(f, "is held back: {reason}"),
            Self::Rewritten(next) => write!(
                f,
                "has a next_run that is not written as a service writes it; it is read as {next}"
            ),
            Self::Lost(fault) => write!(f, "has its next run recomputed: {fault}"),
            Self::Accepted => f.write_str("runs again"),
            Self::Missed {
                since,
                policy,
                published,
            } => write!(
                f,
                "missed its runs since {since}; {published} of them run now (missed = {policy})"
            ),
            Self::Overlaps {
                planned,
                message,
                is_long: false,
            } => write!(
                f,
                "skips its run of {planned}: its message {} is {}",
                message.key, message.status
            ),
            Self::Overlaps {
                message: UnfinishedMessage { key, since, .. },
                ..
            } => write!(
                f,
                "is held back (overlap = skip): its message {key} was published at {since}, and has not \
                 begun. It waits in its queue, or the broker has lost it: then `{program} requeue {key}`",
                program = names::program()
            ),
        }
    }
}

/// How a schedule is advanced, and what to log about it.
pub(super) type Decision = (Advance, Option<Note>);

/// Plans a schedule that is new, or whose timetable has been changed: its next occurrence is computed from now on.
/// Occurrences of the old timetable that are due are published as usual. It is not known when the timetable was
/// changed, but later nobody would publish them.
///
/// `max_bytes` limits the messages of the transaction; one message is published all the same.
pub(super) fn plan(candidate: &Candidate, history: &PollHistory, max_bytes: usize) -> Decision {
    let Candidate { row, now, .. } = candidate;
    let anchor = row.spec.anchor.is_none().then_some(*now);
    let first = match row.timetable_fault() {
        Some(fault) => Err(fault),
        None => {
            let timetable = row.spec.timetable(*now);
            let first = timetable.and_then(|timetable| timetable.first_after(*now));
            first.map_err(|error| error.to_string())
        }
    };
    let policy = SchedulePolicy::of(row);
    let due = match (&policy, row.next_run) {
        // The occurrences of an inactive schedule are dropped with its old timetable.
        (Ok(policy), Some(first)) if first <= *now && !history.was_inactive(first) => due_messages(
            candidate,
            &row.planned_by(first),
            first,
            policy,
            history,
            max_bytes,
        ),
        _ => DueMessages::default(),
    };
    let (next, fault) = match first {
        Ok(first) => (within_calendar(first), policy.err()),
        Err(fault) => (None, Some(fault)),
    };
    let refusal = fault.map(ScheduleRefusal::Faulty);
    let note_of_row = refusal_note(row, refusal.as_ref());
    let note = match refusal {
        Some(_) => note_of_row.or(due.note),
        None => due.note.or(note_of_row),
    };
    let note = note.or_else(|| row.next_run_fault().map(Note::Lost));
    let advance = Advance {
        next: due.rest.or(next),
        from_current_timetable: due.rest.is_none(),
        anchor,
        refusal,
        messages: due.messages,
    };
    (advance, note)
}

/// Advances a due schedule.
///
/// `max_bytes` is the same as for [`plan`].
pub(super) fn advance_due(
    candidate: &Candidate,
    history: &PollHistory,
    max_bytes: usize,
) -> Decision {
    let Candidate { row, now, .. } = candidate;
    // A `next_run` in another format may have been compared wrongly.
    let Some(first) = row.next_run.filter(|first| first <= now) else {
        return mend_next_run(row);
    };
    if let Some(fault) = row.timetable_fault() {
        return refuse(row, None, ScheduleRefusal::Faulty(fault));
    }
    let timetable = match row.spec.timetable(*now) {
        Ok(timetable) => timetable,
        Err(error) => return hold_back(row, error.to_string()),
    };
    let next = timetable
        .next_after(first.max(*now))
        .and_then(within_calendar);
    let policy = match SchedulePolicy::of(row) {
        Ok(policy) => policy,
        Err(fault) => return refuse(row, next, ScheduleRefusal::Faulty(fault)),
    };
    let due = due_messages(candidate, &timetable, first, &policy, history, max_bytes);
    let note = due.note.or_else(|| refusal_note(row, None));
    let advance = Advance {
        next: due.rest.or(next),
        from_current_timetable: true,
        anchor: None,
        refusal: None,
        messages: due.messages,
    };
    (advance, note)
}

/// The due occurrences of a schedule as messages.
#[derive(Default)]
struct DueMessages {
    messages: Vec<Message>,
    /// The first occurrence that is left for the next transaction.
    rest: Option<DateTime<Utc>>,
    note: Option<Note>,
}

/// Makes the messages of the due occurrences of a timetable, from `first` on.
fn due_messages(
    candidate: &Candidate,
    timetable: &Timetable,
    first: DateTime<Utc>,
    policy: &SchedulePolicy,
    history: &PollHistory,
    max_bytes: usize,
) -> DueMessages {
    let Candidate { row, now, .. } = candidate;
    if policy.overlap == Overlap::Skip
        && let Some(message) = &candidate.unfinished
    {
        let note = Note::Overlaps {
            planned: first,
            message: message.clone(),
            is_long: waits_long(timetable, message, *now),
        };
        return DueMessages {
            note: Some(note),
            ..DueMessages::default()
        };
    }
    let DueOccurrences {
        mut planned,
        mut rest,
        missed,
    } = due_occurrences(timetable, first, *now, history, policy);
    let max_messages = (max_bytes / policy.message.size()).max(1);
    if planned.len() > max_messages {
        rest = Some(planned.split_off(max_messages)[0]);
    }
    let note = missed.map(|(since, published)| Note::Missed {
        since,
        policy: policy.missed,
        published: published.min(planned.len()),
    });
    DueMessages {
        messages: messages(row, policy, &planned),
        rest,
        note,
    }
}

/// Rewrites a `next_run` that is not in the format that services write. If it can't be read, the schedule is refused
/// and waits for its user, who may know what it has missed.
pub(super) fn mend_next_run(row: &ScheduleRow) -> Decision {
    match row.next_run_fault() {
        Some(fault) => refuse(row, None, ScheduleRefusal::NextRunLost(fault)),
        None => (unchanged(row), row.next_run.map(Note::Rewritten)),
    }
}

/// Leaves a schedule unchanged.
pub(super) fn unchanged(row: &ScheduleRow) -> Advance {
    Advance {
        next: row.next_run,
        from_current_timetable: false,
        anchor: None,
        refusal: row.refusal.clone(),
        messages: Vec::new(),
    }
}

/// Refuses a schedule whose planning has panicked.
pub(super) fn refuse_unplannable(row: &ScheduleRow) -> Decision {
    let reason = "its next run could not be computed; a service tries again when it starts";
    refuse(row, None, ScheduleRefusal::Faulty(reason.to_owned()))
}

/// Leaves a due schedule that this version can't advance, such as one of a newer version, unchanged for other services.
pub(super) fn hold_back(row: &ScheduleRow, reason: String) -> Decision {
    (unchanged(row), Some(Note::HeldBack(reason)))
}

/// Only notes in the row that the database refuses the schedule's messages.
pub(super) fn cannot_record(row: &ScheduleRow, refusal: &ScheduleRefusal) -> Decision {
    let advance = Advance {
        refusal: Some(refusal.clone()),
        ..unchanged(row)
    };
    (advance, Some(Note::CannotRecord(refusal.to_string())))
}

/// Whether a message has waited in its queue for [`LONG_WAIT`] and [`LONG_WAIT_RUNS`].
fn waits_long(timetable: &Timetable, message: &UnfinishedMessage, now: DateTime<Utc>) -> bool {
    let later = |time: &DateTime<Utc>| timetable.next_after(*time);
    let runs = std::iter::successors(later(&message.since), later);
    message.status == Status::Published
        && now - message.since >= LONG_WAIT
        && runs
            .take_while(|run| *run <= now)
            .take(LONG_WAIT_RUNS)
            .count()
            == LONG_WAIT_RUNS
}

fn messages(row: &ScheduleRow, policy: &SchedulePolicy, planned: &[DateTime<Utc>]) -> Vec<Message> {
    let message = |planned: &DateTime<Utc>| Message {
        key: names::new_key(),
        occurrence: Some(Occurrence {
            schedule: row.id,
            planned: Some(*planned),
        }),
        ..policy.message.clone()
    };
    planned.iter().map(message).collect()
}

fn refuse(row: &ScheduleRow, next: Option<DateTime<Utc>>, refusal: ScheduleRefusal) -> Decision {
    let note = refusal_note(row, Some(&refusal));
    let advance = Advance {
        next,
        from_current_timetable: true,
        anchor: None,
        refusal: Some(refusal),
        messages: Vec::new(),
    };
    (advance, note)
}

/// The note for a refusal that the row does not have yet, or for the end of one.
fn refusal_note(row: &ScheduleRow, refusal: Option<&ScheduleRefusal>) -> Option<Note> {
    match (refusal, &row.refusal) {
        (Some(new), old) if old.as_ref() != Some(new) => Some(Note::Refused(new.to_string())),
        (None, Some(_)) => Some(Note::Accepted),
        _ => None,
    }
}

fn within_calendar(time: DateTime<Utc>) -> Option<DateTime<Utc>> {
    (time.year() <= LAST_YEAR).then_some(time)
}

#[cfg(test)]
pub(super) mod tests;
