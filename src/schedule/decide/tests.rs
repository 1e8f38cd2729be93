use super::*;
use crate::schedule::catch_up::MOST_MISSED;
use crate::store::ScheduleSpec;

pub(in crate::schedule) fn at(seconds: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(1_700_000_000 + seconds, 0).unwrap()
}

/// A schedule that runs every ten seconds since 0, and is next due at 10.
pub(in crate::schedule) fn candidate(
    now: i64,
    change: impl FnOnce(&mut ScheduleSpec),
) -> Candidate {
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
            planned_for: Some("seconds 10  ".to_owned().into()),
            unreadable: Vec::new(),
        },
        now: at(now),
        unfinished: None,
    }
}

/// Advances a schedule as a service at its first poll does.
#[track_caller]
fn publishes(candidate: &Candidate, planned: &[i64], next: i64) -> Option<Note> {
    published(
        candidate,
        &PollHistory::started(candidate.now),
        planned,
        next,
    )
}

#[track_caller]
fn published(
    candidate: &Candidate,
    history: &PollHistory,
    planned: &[i64],
    next: i64,
) -> Option<Note> {
    let (advance, note) = advance_due(candidate, history, usize::MAX);
    assert_eq!(times(&advance), planned);
    assert_eq!(advance.next, Some(at(next)));
    note
}

#[test]
fn a_due_occurrence_is_published_for_its_planned_time_and_the_interval_does_not_drift() {
    assert_eq!(publishes(&candidate(10, |_| ()), &[10], 20), None);
    assert_eq!(publishes(&candidate(14, |_| ()), &[10], 20), None);
}

#[test]
fn occurrences_that_are_on_time_are_all_published() {
    for missed in ["run_once", "run_all", "skip"] {
        let seconds = candidate(14, |spec| {
            spec.interval_count = 1;
            spec.missed = missed.to_owned();
        });
        assert_eq!(publishes(&seconds, &[10, 11, 12, 13, 14], 15), None);
    }
}

#[test]
fn occurrences_that_are_late_while_the_scheduler_polled_are_all_published() {
    let looking = PollHistory::started(at(0));
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
    // If runs must not overlap, only the last one is.
    let late = candidate(58, |spec| spec.overlap = "skip".to_owned());
    assert_eq!(published(&late, &looking, &[50], 60), None);
}

#[test]
fn occurrences_beyond_the_limit_of_bytes_stay_due() {
    let mut row = candidate(58, |spec| {
        spec.missed = "run_all".to_owned();
        spec.content = Some(format!("{{\"a\": {:?}}}", "x".repeat(1000)));
    });
    for (max_bytes, planned, next) in [
        (0, &[10][..], 20),
        (3000, &[20, 30], 40),
        (9000, &[40, 50], 60),
    ] {
        let (advance, _) = advance_due(&row, &PollHistory::started(row.now), max_bytes);
        assert_eq!(times(&advance), planned);
        assert_eq!(advance.next, Some(at(next)));
        row.row.next_run = advance.next;
    }
}

#[test]
fn missed_occurrences_follow_the_policy_beside_late_ones() {
    // The scheduler polls since 32, and advances the schedule at 58.
    let history = PollHistory::started(at(32));
    let row = |missed: &str| candidate(58, |spec| spec.missed = missed.to_owned());
    let once = published(&row("run_once"), &history, &[30, 40, 50], 60);
    assert!(once.unwrap().to_string().contains("1 of them run now"));
    let all = published(&row("run_all"), &history, &[10, 20, 30, 40, 50], 60);
    assert!(all.unwrap().to_string().contains("3 of them run now"));
    let skip = published(&row("skip"), &history, &[30, 40, 50], 60);
    assert!(skip.unwrap().to_string().contains("0 of them run now"));
}

#[test]
fn missed_occurrences_follow_the_policy() {
    let missed = |policy: &str, now| candidate(now, |spec| spec.missed = policy.to_owned());
    assert!(publishes(&missed("run_once", 58), &[50], 60).is_some());
    let all = publishes(&missed("run_all", 58), &[10, 20, 30, 40, 50], 60);
    assert!(all.unwrap().to_string().contains("5 of them run now"));
    assert!(publishes(&missed("skip", 58), &[], 60).is_some());
    assert!(publishes(&missed("skip", 52), &[50], 60).is_some());
    let started = PollHistory::started(at(1_000_000));
    let (advance, _) = advance_due(&missed("run_all", 1_000_000), &started, usize::MAX);
    assert_eq!(advance.messages.len(), MOST_MISSED);
    assert_eq!(advance.next, Some(at(1_000_010)));
}

#[test]
fn a_schedule_that_must_not_overlap_has_one_unfinished_message() {
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

/// An unfinished message from time 0.
fn waiting(status: Status) -> UnfinishedMessage {
    UnfinishedMessage {
        key: "key".to_owned(),
        status,
        since: at(0),
    }
}

#[test]
fn a_message_that_waits_in_a_queue_for_a_minute_and_three_runs_may_be_lost() {
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
fn a_faulty_row_is_reported_once_and_runs_again_when_it_is_corrected() {
    let mut bad = candidate(10, |spec| spec.task_args = Some("open(".to_owned()));
    let Some(Note::Refused(reason)) = publishes(&bad, &[], 20) else {
        panic!("it is not refused");
    };
    assert!(reason.contains("task_args"), "{reason}");
    bad.row.refusal = Some(reason.into());
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
        let (advance, note) = plan(&broken, &PollHistory::started(broken.now), usize::MAX);
        assert_eq!(advance.next, None);
        assert!(matches!(note, Some(Note::Refused(_))));
    }
}

#[test]
fn a_row_that_another_version_has_planned_stays_unchanged() {
    let newer = candidate(10, |spec| spec.interval_type = "fortnights".to_owned());
    let (advance, note) = advance_due(&newer, &PollHistory::started(newer.now), 0);
    assert_eq!(advance, unchanged(&newer.row));
    assert!(matches!(note, Some(Note::HeldBack(_))));
}

#[test]
fn a_changed_timetable_starts_after_now() {
    let mut changed = candidate(7, |spec| spec.interval_count = 5);
    let looking = PollHistory::started(at(0));
    assert_eq!(plan(&changed, &looking, usize::MAX).0.next, Some(at(10)));
    assert_eq!(plan(&changed, &looking, usize::MAX).0.messages, []);
    // A clock was set back: occurrences that have run since already have their messages.
    changed.row.last_run = Some(at(40));
    assert_eq!(plan(&changed, &looking, usize::MAX).0.next, Some(at(10)));
}

/// Due at 10 and every ten seconds by its old timetable, and every five by its new one.
fn changed(missed: &str) -> Candidate {
    candidate(58, |spec| {
        spec.interval_count = 5;
        spec.missed = missed.to_owned();
    })
}

/// Checks which occurrences of the old timetable are published, while the new one goes on at 60.
#[track_caller]
fn publishes_old(candidate: &Candidate, history: &PollHistory, planned: &[i64]) -> Option<Note> {
    let (advance, note) = plan(candidate, history, usize::MAX);
    assert_eq!(
        (advance.next, advance.from_current_timetable),
        (Some(at(60)), true)
    );
    assert_eq!(times(&advance), planned);
    note
}

/// The planned times of its messages, in seconds.
fn times(advance: &Advance) -> Vec<i64> {
    let messages = advance.messages.iter();
    let planned = messages.map(|message| message.occurrence.unwrap().planned.unwrap());
    planned.map(|time| (time - at(0)).num_seconds()).collect()
}

#[test]
fn due_occurrences_of_a_replaced_timetable_follow_the_policies() {
    let (looking, started) = (PollHistory::started(at(0)), PollHistory::started(at(58)));
    for missed in ["run_once", "run_all", "skip"] {
        let note = publishes_old(&changed(missed), &looking, &[10, 20, 30, 40, 50]);
        assert_eq!(note, None);
    }
    let once = publishes_old(&changed("run_once"), &started, &[50]);
    assert!(once.unwrap().to_string().contains("1 of them run now"));
    let all = publishes_old(&changed("run_all"), &started, &[10, 20, 30, 40, 50]);
    assert!(all.unwrap().to_string().contains("5 of them run now"));
    assert!(publishes_old(&changed("skip"), &started, &[]).is_some());
    let mut overlaps = changed("run_once");
    overlaps.row.spec.overlap = "skip".to_owned();
    publishes_old(&overlaps, &looking, &[50]);
    overlaps.unfinished = Some(waiting(Status::InProgress));
    let note = publishes_old(&overlaps, &looking, &[]).unwrap().to_string();
    assert!(note.contains("skips its run of"), "{note}");
}

#[test]
fn a_replaced_timetable_that_can_not_be_read_has_only_the_occurrence_that_was_due() {
    let mut newer = changed("run_all");
    for text in ["fortnights 1  ", "a b c d e", ""] {
        newer.row.planned_for = Some(text.to_owned().into());
        publishes_old(&newer, &PollHistory::started(at(58)), &[10]);
    }
    // Only the anchor was changed.
    newer.row.planned_for = None;
    newer.row.spec.interval_count = 20;
    publishes_old(&newer, &PollHistory::started(at(58)), &[10, 30, 50]);
    newer.row.planned_for = Some("days 1 Europe/Berlin */15 * * * * *".to_owned().into());
    // The clock shows 22:13:20 at 0.
    publishes_old(&newer, &PollHistory::started(at(58)), &[10, 25, 40, 55]);
}

#[test]
fn occurrences_beyond_the_limit_of_bytes_stay_due_by_the_old_timetable() {
    let mut row = changed("run_all");
    row.row.spec.content = Some(format!("{{\"a\": {:?}}}", "x".repeat(1000)));
    for (max_bytes, planned, next, is_current) in [
        (0, &[10][..], 20, false),
        (3000, &[20, 30], 40, false),
        (9000, &[40, 50], 60, true),
    ] {
        let (advance, _) = plan(&row, &PollHistory::started(row.now), max_bytes);
        assert_eq!(times(&advance), planned);
        assert_eq!(
            (advance.next, advance.from_current_timetable),
            (Some(at(next)), is_current)
        );
        row.row.next_run = advance.next;
    }
}

#[test]
fn a_new_interval_counts_from_when_it_was_first_planned() {
    let new = candidate(7, |spec| spec.anchor = None);
    let (advance, _) = plan(&new, &PollHistory::started(new.now), usize::MAX);
    assert_eq!((advance.anchor, advance.next), (Some(at(7)), Some(at(17))));
}
