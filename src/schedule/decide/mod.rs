//! What becomes of a schedule that is due, or new: pure, from its row and the database's time.

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

/// A message that has waited in its queue for so long, and for so many runs, may never come.
const LONG: TimeDelta = TimeDelta::minutes(1);
const LONG_RUNS: usize = 3;

/// The databases know no later ones.
const LAST_YEAR: i32 = 9999;

/// What is to be said of a schedule once what becomes of it is committed.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Note {
    /// It does not run, for this reason, and that is new.
    Refused(String),
    /// Its next occurrence was reckoned by somebody else, who knows better; here it is not run.
    HeldBack(String),
    /// The database refuses what its run would write, and that is noted.
    CannotRecord(String),
    /// Its next occurrence is not written as we write it, and stands for this time.
    Rewritten(DateTime<Utc>),
    /// Its next occurrence could not be read, and is reckoned from now on.
    Lost(String),
    /// It does run again.
    Accepted,
    /// OccurrenceStore were missed.
    Missed {
        since: DateTime<Utc>,
        policy: Missed,
        published: usize,
    },
    /// The message of the one before is not finished.
    Overlaps {
        planned: DateTime<Utc>,
        message: UnfinishedMessage,
        /// Whether that has waited for so long that it may never come.
        is_long: bool,
    },
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(reason) => write!(f, "does not run: {reason}"),
            Self::HeldBack(reason) => write!(
                f,
                "is held back: this version of the service can't reckon its runs: {reason}"
            ),
            Self::CannotRecord(reason) => write!(f, "is held back: {reason}"),
            Self::Rewritten(next) => write!(
                f,
                "has a next_run that is not written as a service writes it; it is read as {next}"
            ),
            Self::Lost(fault) => write!(f, "has its next run reckoned anew: {fault}"),
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

/// What becomes of a schedule, and what is to be said of that.
pub(super) type Decision = (Advance, Option<Note>);

/// Of one that is new, or whose timetable has been changed: that counts from now on, and what has come by
/// the old one is published as ever. When it was changed is not known, but nobody will see to it later.
///
/// `room` is how many bytes of messages the transaction takes; one message is published all the same.
pub(super) fn plan(candidate: &Candidate, history: &PollHistory, room: usize) -> Decision {
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
    let came = match (&policy, row.next_run) {
        // What came while the schedule was not active has gone with its timetable.
        (Ok(policy), Some(first)) if first <= *now && !history.was_inactive(first) => came(
            candidate,
            &row.planned_by(first),
            first,
            policy,
            history,
            room,
        ),
        _ => Came::default(),
    };
    let (next, fault) = match first {
        Ok(first) => (within_calendar(first), policy.err()),
        Err(fault) => (None, Some(fault)),
    };
    let refusal = fault.map(ScheduleRefusal::Faulty);
    let of_row = note_of(row, refusal.as_ref());
    let note = match refusal {
        Some(_) => of_row.or(came.note),
        None => came.note.or(of_row),
    };
    let note = note.or_else(|| row.next_run_fault().map(Note::Lost));
    let advance = Advance {
        next: came.rest.or(next),
        from_current_timetable: came.rest.is_none(),
        anchor,
        refusal,
        messages: came.messages,
    };
    (advance, note)
}

/// Of one that is due.
///
/// `room` is as for [`plan`].
pub(super) fn take(candidate: &Candidate, history: &PollHistory, room: usize) -> Decision {
    let Candidate { row, now, .. } = candidate;
    // One that is written otherwise may have been compared wrongly.
    let Some(first) = row.next_run.filter(|first| first <= now) else {
        return mend(row);
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
    let came = came(candidate, &timetable, first, &policy, history, room);
    let note = came.note.or_else(|| note_of(row, None));
    let advance = Advance {
        next: came.rest.or(next),
        from_current_timetable: true,
        anchor: None,
        refusal: None,
        messages: came.messages,
    };
    (advance, note)
}

/// What comes of the occurrences of a schedule that is due.
#[derive(Default)]
struct Came {
    messages: Vec<Message>,
    /// The first of those that are published in another look.
    rest: Option<DateTime<Utc>>,
    note: Option<Note>,
}

/// From the `first`, by a timetable.
fn came(
    candidate: &Candidate,
    timetable: &Timetable,
    first: DateTime<Utc>,
    policy: &SchedulePolicy,
    history: &PollHistory,
    room: usize,
) -> Came {
    let Candidate { row, now, .. } = candidate;
    if policy.overlap == Overlap::Skip
        && let Some(message) = &candidate.unfinished
    {
        let note = Note::Overlaps {
            planned: first,
            message: message.clone(),
            is_long: waits_long(timetable, message, *now),
        };
        return Came {
            note: Some(note),
            ..Came::default()
        };
    }
    let DueOccurrences {
        mut planned,
        mut rest,
        missed,
    } = due_occurrences(timetable, first, *now, history, policy);
    let most = (room / policy.message.size()).max(1);
    if planned.len() > most {
        rest = Some(planned.split_off(most)[0]);
    }
    let note = missed.map(|(since, published)| Note::Missed {
        since,
        policy: policy.missed,
        published: published.min(planned.len()),
    });
    Came {
        messages: messages(row, policy, &planned),
        rest,
        note,
    }
}

/// Of one whose next occurrence is not written as we write it. What can't be read is not made up for: the
/// schedule waits for its user, who may know what it has missed.
pub(super) fn mend(row: &ScheduleRow) -> Decision {
    match row.next_run_fault() {
        Some(fault) => refuse(row, None, ScheduleRefusal::NextRunLost(fault)),
        None => (untouched(row), row.next_run.map(Note::Rewritten)),
    }
}

/// Of one that has to wait for another look.
pub(super) fn untouched(row: &ScheduleRow) -> Advance {
    Advance {
        next: row.next_run,
        from_current_timetable: false,
        anchor: None,
        refusal: row.refusal.clone(),
        messages: Vec::new(),
    }
}

/// Of one that nothing can be made of when it is planned.
pub(super) fn give_up(row: &ScheduleRow) -> Decision {
    let reason = "its next run could not be reckoned; a service tries it again when it starts";
    refuse(row, None, ScheduleRefusal::Faulty(reason.to_owned()))
}

/// Of one that nothing can be made of when it is due, as of a newer version's: it stays as it is, for
/// others.
pub(super) fn hold_back(row: &ScheduleRow, reason: String) -> Decision {
    (untouched(row), Some(Note::HeldBack(reason)))
}

/// Of one of which the database refuses what its run would write: that is noted, and nothing else.
pub(super) fn cannot_record(row: &ScheduleRow, refusal: &ScheduleRefusal) -> Decision {
    let advance = Advance {
        refusal: Some(refusal.clone()),
        ..untouched(row)
    };
    (advance, Some(Note::CannotRecord(refusal.to_string())))
}

/// Whether a message waits in a queue since several runs ago, and for some time.
fn waits_long(timetable: &Timetable, message: &UnfinishedMessage, now: DateTime<Utc>) -> bool {
    let later = |time: &DateTime<Utc>| timetable.next_after(*time);
    let runs = std::iter::successors(later(&message.since), later);
    message.status == Status::Published
        && now - message.since >= LONG
        && runs.take_while(|run| *run <= now).take(LONG_RUNS).count() == LONG_RUNS
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
    let note = note_of(row, Some(&refusal));
    let advance = Advance {
        next,
        from_current_timetable: true,
        anchor: None,
        refusal: Some(refusal),
        messages: Vec::new(),
    };
    (advance, note)
}

/// A refusal is said once: the row has it.
fn note_of(row: &ScheduleRow, refusal: Option<&ScheduleRefusal>) -> Option<Note> {
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
