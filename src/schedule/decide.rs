//! What becomes of a schedule that is due, or new: pure, from its row and the database's time.

use std::fmt;

use chrono::{DateTime, Datelike, TimeDelta, Utc};

use super::catch_up::{self, MOST_MISSED, after};
use super::policy::{Missed, Overlap, Terms};
use super::watch::{ON_TIME, Watch};
use crate::message::{Message, Occurrence};
use crate::names;
use crate::state::Status;
use crate::store::{Advance, Candidate, ScheduleRow, Unfinished};
use crate::timetable::Timetable;

/// A message that has waited in its queue for so long, and for so many runs, may never come.
const LONG: TimeDelta = TimeDelta::minutes(1);
const LONG_RUNS: usize = 3;

/// So many late ones of a schedule are published at once.
const MOST_LATE: usize = 100;

/// The databases know no later ones.
const LAST_YEAR: i32 = 9999;

/// What is to be said of a schedule once what becomes of it is committed.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Note {
    /// It does not run, for this reason, and that is new.
    Refused(String),
    /// Its next occurrence was reckoned by somebody else, who knows better; here it is not run.
    HeldBack(String),
    /// It does run again.
    Accepted,
    /// Occurrences were missed.
    Missed {
        since: DateTime<Utc>,
        policy: Missed,
        published: usize,
    },
    /// The message of the one before is not finished.
    Overlaps {
        planned: DateTime<Utc>,
        message: Unfinished,
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
                message: Unfinished { key, since, .. },
                ..
            } => write!(
                f,
                "is held back (overlap = skip): its message {key} was published at {since}, and has not \
                 begun. It waits in its queue, or the broker has lost it: then `carrot-actors requeue {key}`"
            ),
        }
    }
}

/// What becomes of a schedule, and what is to be said of that.
pub(super) type Verdict = (Advance, Option<Note>);

/// Of one that is new, or whose timetable has been changed.
pub(super) fn plan(candidate: &Candidate, watch: &Watch) -> Verdict {
    let Candidate { row, now, .. } = candidate;
    let anchor = row.spec.anchor.is_none().then_some(*now);
    let timetable = row.spec.timetable(*now);
    let first = timetable.and_then(|timetable| timetable.first_after(*now));
    let terms = Terms::of(row);
    let messages = match &terms {
        Ok(terms) => came_before_the_change(candidate, terms, watch),
        Err(_) => Vec::new(),
    };
    let (next, fault) = match first {
        Ok(first) => (within_calendar(first), terms.err()),
        Err(error) => (None, Some(error.to_string())),
    };
    let note = note_of(row, fault.as_ref());
    let advance = Advance {
        next,
        anchor,
        refusal: fault,
        messages,
    };
    (advance, note)
}

/// The message of an occurrence that had come by the timetable as it was before it was changed. That it
/// had come before that is not certain, but nobody will see to it later. What came while the schedule was
/// not active has gone with its timetable.
fn came_before_the_change(candidate: &Candidate, terms: &Terms, watch: &Watch) -> Vec<Message> {
    let Candidate { row, now, .. } = candidate;
    let came = row.next_run.filter(|next| {
        let is_skipped = terms.missed == Missed::Skip && watch.was_missed(*next);
        let overlaps = terms.overlap == Overlap::Skip && candidate.unfinished.is_some();
        *next <= *now && !watch.was_idle(*next) && !is_skipped && !overlaps
    });
    messages(row, terms, came.as_slice())
}

/// Of one that is due.
///
/// `room` is how many bytes of messages the transaction takes; one message is published all the same.
pub(super) fn take(candidate: &Candidate, watch: &Watch, room: usize) -> Verdict {
    let Candidate { row, now, .. } = candidate;
    let Some(first) = row.next_run else {
        return (untouched(row), None);
    };
    let timetable = match row.spec.timetable(*now) {
        Ok(timetable) => timetable,
        Err(error) => return hold_back(row, error.to_string()),
    };
    let next = timetable
        .next_after(first.max(*now))
        .and_then(within_calendar);
    let terms = match Terms::of(row) {
        Ok(terms) => terms,
        Err(reason) => return refuse(row, next, reason),
    };
    if terms.overlap == Overlap::Skip
        && let Some(message) = &candidate.unfinished
    {
        let note = Note::Overlaps {
            planned: first,
            message: message.clone(),
            is_long: waits_long(&timetable, message, *now),
        };
        let advance = Advance {
            next,
            refusal: None,
            ..untouched(row)
        };
        return (advance, Some(note));
    }
    let Due {
        mut planned,
        mut rest,
        note,
    } = due(&timetable, first, *now, watch, &terms);
    let most = (room / terms.message.size()).max(1);
    if planned.len() > most {
        rest = Some(planned.split_off(most)[0]);
    }
    let note = note.or_else(|| note_of(row, None));
    let next = rest.or(next);
    let advance = Advance {
        next,
        anchor: None,
        refusal: None,
        messages: messages(row, &terms, &planned),
    };
    (advance, note)
}

/// Of one that has to wait for another look.
pub(super) fn untouched(row: &ScheduleRow) -> Advance {
    Advance {
        next: row.next_run,
        anchor: None,
        refusal: row.refusal.clone(),
        messages: Vec::new(),
    }
}

/// Of one that nothing can be made of when it is planned.
pub(super) fn give_up(row: &ScheduleRow) -> Verdict {
    let reason = "its next run could not be reckoned; a service tries it again when it starts";
    refuse(row, None, reason.to_owned())
}

/// Of one that nothing can be made of when it is due, as of a newer version's: it stays as it is, for
/// others.
pub(super) fn hold_back(row: &ScheduleRow, reason: String) -> Verdict {
    (untouched(row), Some(Note::HeldBack(reason)))
}

/// What is due of a schedule.
struct Due {
    /// The occurrences that are published now.
    planned: Vec<DateTime<Utc>>,
    /// The first of those that are published in another look.
    rest: Option<DateTime<Utc>>,
    note: Option<Note>,
}

/// Missed ones follow the policy; late ones are published, each.
fn due(
    timetable: &Timetable,
    first: DateTime<Utc>,
    now: DateTime<Utc>,
    watch: &Watch,
    terms: &Terms,
) -> Due {
    let missed = watch.was_missed(first);
    let from = watch.from().min(now);
    let (mut planned, late_after) = match terms.missed {
        _ if !missed => (vec![first], first),
        Missed::Skip => (Vec::new(), from - ON_TIME - TimeDelta::microseconds(1)),
        Missed::RunOnce => (catch_up::last(timetable, first, from, 1), from),
        Missed::RunAll => (catch_up::last(timetable, first, from, MOST_MISSED), from),
    };
    let made_up = planned.len();
    planned.extend(after(timetable, late_after, now).take(MOST_LATE + 1));
    let mut rest = None;
    if terms.overlap == Overlap::Skip {
        planned = planned
            .first()
            .map_or_else(Vec::new, |first| catch_up::last(timetable, *first, now, 1));
    } else if planned.len() > made_up + MOST_LATE {
        rest = planned.pop();
    }
    let note = Note::Missed {
        since: first,
        policy: terms.missed,
        published: made_up.min(planned.len()),
    };
    Due {
        planned,
        rest,
        note: missed.then_some(note),
    }
}

/// Whether a message waits in a queue since several runs ago, and for some time.
fn waits_long(timetable: &Timetable, message: &Unfinished, now: DateTime<Utc>) -> bool {
    let later = |time: &DateTime<Utc>| timetable.next_after(*time);
    let runs = std::iter::successors(later(&message.since), later);
    message.status == Status::Published
        && now - message.since >= LONG
        && runs.take_while(|run| *run <= now).take(LONG_RUNS).count() == LONG_RUNS
}

fn messages(row: &ScheduleRow, terms: &Terms, planned: &[DateTime<Utc>]) -> Vec<Message> {
    let message = |planned: &DateTime<Utc>| Message {
        key: names::new_key(),
        occurrence: Some(Occurrence {
            schedule: row.id,
            planned: Some(*planned),
        }),
        ..terms.message.clone()
    };
    planned.iter().map(message).collect()
}

fn refuse(row: &ScheduleRow, next: Option<DateTime<Utc>>, reason: String) -> Verdict {
    let note = note_of(row, Some(&reason));
    let advance = Advance {
        next,
        anchor: None,
        refusal: Some(reason),
        messages: Vec::new(),
    };
    (advance, note)
}

/// A refusal is said once: the row has it.
fn note_of(row: &ScheduleRow, fault: Option<&String>) -> Option<Note> {
    match (fault, &row.refusal) {
        (Some(fault), old) if old.as_ref() != Some(fault) => Some(Note::Refused(fault.clone())),
        (None, Some(_)) => Some(Note::Accepted),
        _ => None,
    }
}

fn within_calendar(time: DateTime<Utc>) -> Option<DateTime<Utc>> {
    (time.year() <= LAST_YEAR).then_some(time)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::ScheduleSpec;

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_700_000_000 + seconds, 0).unwrap()
    }

    /// Every ten seconds since 0, and next due at 10.
    fn candidate(now: i64, change: impl FnOnce(&mut ScheduleSpec)) -> Candidate {
        let mut spec = ScheduleSpec {
            interval_type: "seconds".to_owned(),
            interval_count: 10,
            anchor: Some(at(0)),
            ..ScheduleSpec::new("name", "task", "queue")
        };
        change(&mut spec);
        Candidate {
            row: ScheduleRow {
                id: 1,
                spec,
                next_run: Some(at(10)),
                last_run: None,
                refusal: None,
            },
            now: at(now),
            unfinished: None,
        }
    }

    /// As a service that begins to look takes it.
    #[track_caller]
    fn publishes(candidate: &Candidate, planned: &[i64], next: i64) -> Option<Note> {
        published(candidate, &Watch::begun(candidate.now), planned, next)
    }

    #[track_caller]
    fn published(candidate: &Candidate, watch: &Watch, planned: &[i64], next: i64) -> Option<Note> {
        let (advance, note) = take(candidate, watch, usize::MAX);
        let times: Vec<_> = advance
            .messages
            .iter()
            .map(|message| message.occurrence.unwrap().planned.unwrap())
            .collect();
        let expected: Vec<_> = planned.iter().map(|seconds| at(*seconds)).collect();
        assert_eq!(times, expected);
        assert_eq!(advance.next, Some(at(next)));
        note
    }

    #[test]
    fn what_is_due_is_published_for_its_time_and_the_interval_does_not_drift() {
        assert_eq!(publishes(&candidate(10, |_| ()), &[10], 20), None);
        assert_eq!(publishes(&candidate(14, |_| ()), &[10], 20), None);
    }

    #[test]
    fn what_is_late_by_less_than_what_counts_as_missed_is_published_each() {
        for missed in ["run_once", "run_all", "skip"] {
            let seconds = candidate(14, |spec| {
                spec.interval_count = 1;
                spec.missed = missed.to_owned();
            });
            assert_eq!(publishes(&seconds, &[10, 11, 12, 13, 14], 15), None);
        }
    }

    #[test]
    fn what_is_late_while_somebody_looked_is_published_each_however_late() {
        let looking = Watch::begun(at(0));
        for missed in ["run_once", "run_all", "skip"] {
            let late = candidate(58, |spec| spec.missed = missed.to_owned());
            assert_eq!(published(&late, &looking, &[10, 20, 30, 40, 50], 60), None);
            let seconds = candidate(500, |spec| {
                spec.interval_count = 1;
                spec.missed = missed.to_owned();
            });
            let hundred: Vec<_> = (10..=110).collect();
            assert_eq!(published(&seconds, &looking, &hundred, 111), None);
        }
        // Of those that must not overlap, the last.
        let late = candidate(58, |spec| spec.overlap = "skip".to_owned());
        assert_eq!(published(&late, &looking, &[50], 60), None);
    }

    #[test]
    fn what_there_is_no_room_for_is_due_still() {
        let mut row = candidate(58, |spec| {
            spec.missed = "run_all".to_owned();
            spec.content = Some(format!("{{\"a\": {:?}}}", "x".repeat(1000)));
        });
        for (room, planned, next) in [
            (0, &[10][..], 20),
            (3000, &[20, 30], 40),
            (9000, &[40, 50], 60),
        ] {
            let (advance, _) = take(&row, &Watch::begun(row.now), room);
            let times = advance.messages.iter();
            let times: Vec<_> = times
                .map(|message| message.occurrence.unwrap().planned.unwrap())
                .collect();
            assert_eq!(
                times,
                planned.iter().map(|time| at(*time)).collect::<Vec<_>>()
            );
            assert_eq!(advance.next, Some(at(next)));
            row.row.next_run = advance.next;
        }
    }

    #[test]
    fn what_was_missed_follows_the_policy_beside_what_is_late() {
        // It has looked since 32, and takes this at 58.
        let watch = Watch::begun(at(32));
        let row = |missed: &str| candidate(58, |spec| spec.missed = missed.to_owned());
        let once = published(&row("run_once"), &watch, &[30, 40, 50], 60);
        assert!(once.unwrap().to_string().contains("1 of them run now"));
        let all = published(&row("run_all"), &watch, &[10, 20, 30, 40, 50], 60);
        assert!(all.unwrap().to_string().contains("3 of them run now"));
        let skip = published(&row("skip"), &watch, &[30, 40, 50], 60);
        assert!(skip.unwrap().to_string().contains("0 of them run now"));
    }

    #[test]
    fn what_was_missed_follows_the_policy() {
        let missed = |policy: &str, now| candidate(now, |spec| spec.missed = policy.to_owned());
        assert!(publishes(&missed("run_once", 58), &[50], 60).is_some());
        let all = publishes(&missed("run_all", 58), &[10, 20, 30, 40, 50], 60);
        assert!(all.unwrap().to_string().contains("5 of them run now"));
        assert!(publishes(&missed("skip", 58), &[], 60).is_some());
        assert!(publishes(&missed("skip", 52), &[50], 60).is_some());
        let started = Watch::begun(at(1_000_000));
        let (advance, _) = take(&missed("run_all", 1_000_000), &started, usize::MAX);
        assert_eq!(advance.messages.len(), MOST_MISSED);
        assert_eq!(advance.next, Some(at(1_000_010)));
    }

    #[test]
    fn no_two_messages_of_one_that_must_not_overlap_are_under_way() {
        let mut skipping = candidate(58, |spec| {
            spec.missed = "run_all".to_owned();
            spec.overlap = "skip".to_owned();
        });
        publishes(&skipping, &[50], 60);
        skipping.unfinished = Some(waiting(Status::InProgress));
        let note = publishes(&skipping, &[], 60).unwrap().to_string();
        assert!(note.contains("skips its run of"), "{note}");
        assert!(note.contains("its message key is IN_PROGRESS"), "{note}");
    }

    /// A message of the start.
    fn waiting(status: Status) -> Unfinished {
        Unfinished {
            key: "key".to_owned(),
            status,
            since: at(0),
        }
    }

    #[test]
    fn what_waits_in_a_queue_for_a_minute_and_three_runs_may_be_lost() {
        let says = |status, now, interval| {
            let mut skipping = candidate(now, |spec| {
                spec.overlap = "skip".to_owned();
                spec.interval_count = interval;
            });
            skipping.unfinished = Some(waiting(status));
            let note = publishes(&skipping, &[], now / interval * interval + interval);
            let note = note.unwrap().to_string();
            note.contains("carrot-actors requeue key")
        };
        assert!(says(Status::Published, 60, 10));
        assert!(!says(Status::Published, 59, 10));
        assert!(!says(Status::Published, 89, 30));
        assert!(says(Status::Published, 90, 30));
        assert!(!says(Status::InProgress, 90, 10));
        assert!(!says(Status::Pending, 90, 10));
    }

    #[test]
    fn a_bad_row_is_reported_once_and_goes_on_when_it_is_good() {
        let mut bad = candidate(10, |spec| spec.task_args = Some("open(".to_owned()));
        let Some(Note::Refused(reason)) = publishes(&bad, &[], 20) else {
            panic!("it is not refused");
        };
        assert!(reason.contains("task_args"), "{reason}");
        bad.row.refusal = Some(reason);
        assert_eq!(publishes(&bad, &[], 20), None);
        bad.row.spec.task_args = None;
        assert_eq!(publishes(&bad, &[10], 20), Some(Note::Accepted));
    }

    #[test]
    fn a_timetable_that_can_not_be_met_has_no_next_run() {
        for break_it in [
            (|spec: &mut ScheduleSpec| spec.interval_type = "fortnights".to_owned())
                as fn(&mut ScheduleSpec),
            |spec| spec.interval_count = 0,
            |spec| spec.cron = Some("61 * * * *".to_owned()),
            |spec| spec.cron = Some("0 0 30 2 *".to_owned()),
            |spec| {
                spec.cron = Some("@daily".to_owned());
                spec.time_zone = Some("Europe/Atlantis".to_owned());
            },
        ] {
            let broken = candidate(9, break_it);
            let (advance, note) = plan(&broken, &Watch::begun(broken.now));
            assert_eq!(advance.next, None);
            assert!(matches!(note, Some(Note::Refused(_))));
        }
    }

    #[test]
    fn a_row_that_another_version_has_planned_stays_as_it_is() {
        let newer = candidate(10, |spec| spec.interval_type = "fortnights".to_owned());
        let (advance, note) = take(&newer, &Watch::begun(newer.now), 0);
        assert_eq!(advance, untouched(&newer.row));
        assert!(matches!(note, Some(Note::HeldBack(_))));
    }

    #[test]
    fn a_changed_timetable_starts_after_now() {
        let mut changed = candidate(7, |spec| spec.interval_count = 5);
        let looking = Watch::begun(at(0));
        assert_eq!(plan(&changed, &looking).0.next, Some(at(10)));
        assert_eq!(plan(&changed, &looking).0.messages, []);
        // A clock was set back: what has run since has its message.
        changed.row.last_run = Some(at(40));
        assert_eq!(plan(&changed, &looking).0.next, Some(at(10)));
    }

    #[test]
    fn a_run_that_had_come_when_its_timetable_was_changed_is_not_lost() {
        // Due at 10, and every five seconds by its new timetable.
        let changed = |missed: &str| {
            candidate(58, |spec| {
                spec.interval_count = 5;
                spec.missed = missed.to_owned();
            })
        };
        let planned = |candidate: &Candidate, watch: &Watch| {
            let (advance, _) = plan(candidate, watch);
            assert_eq!(advance.next, Some(at(60)));
            let planned = advance.messages.iter();
            let planned = planned.map(|message| message.occurrence.unwrap().planned.unwrap());
            planned.collect::<Vec<_>>()
        };
        let nothing: [DateTime<Utc>; 0] = [];
        let (looking, started) = (Watch::begun(at(0)), Watch::begun(at(58)));
        for missed in ["run_once", "run_all", "skip"] {
            assert_eq!(planned(&changed(missed), &looking), [at(10)]);
        }
        assert_eq!(planned(&changed("run_once"), &started), [at(10)]);
        assert_eq!(planned(&changed("run_all"), &started), [at(10)]);
        assert_eq!(planned(&changed("skip"), &started), nothing);
        let mut overlaps = changed("run_once");
        overlaps.row.spec.overlap = "skip".to_owned();
        assert_eq!(planned(&overlaps, &looking), [at(10)]);
        overlaps.unfinished = Some(waiting(Status::InProgress));
        assert_eq!(planned(&overlaps, &looking), nothing);
    }

    #[test]
    fn a_new_interval_is_counted_from_when_it_was_first_seen() {
        let new = candidate(7, |spec| spec.anchor = None);
        let (advance, _) = plan(&new, &Watch::begun(new.now));
        assert_eq!((advance.anchor, advance.next), (Some(at(7)), Some(at(17))));
    }
}
