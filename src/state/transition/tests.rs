use std::fs;
use std::path::{Path, PathBuf};

use super::*;
use crate::state::End;

/// One line for each status in which the event is legal.
fn describe(event: Event) -> Vec<String> {
    let line = |(from, Transition { owner, to, .. })| format!("{from} of {owner:?} → {to}");
    event.transitions().map(line).collect()
}

#[test]
fn the_transitions_of_publishers_are_these() {
    let table: [(Event, &str); 10] = [
        (Event::Confirm, "PENDING of Nobody → PUBLISHED"),
        (Event::RenewLease, "PENDING of Nobody → PENDING"),
        (Event::Lease, "PENDING of Anyone → PENDING"),
        (Event::Refuse, "PENDING of Nobody → PENDING"),
        (Event::GiveUp, "PENDING of Nobody → FAILED"),
        (Event::Reject, "PENDING of Anyone → FAILED"),
        (Event::RowCommittedLate, "PUBLISHED of Nobody → PENDING"),
        (Event::Deliver, "PUBLISHED of NobodyOrDead → PUBLISHED"),
        (Event::ReturnDelivery, "PUBLISHED of Worker → PUBLISHED"),
        (Event::Discard, "PUBLISHED of Worker → FAILED"),
    ];
    for (event, expected) in table {
        assert_eq!(describe(event), [expected], "{event:?}");
    }
}

#[test]
fn the_transitions_of_workers_are_these() {
    let table: [(Event, &[&str]); 5] = [
        (
            Event::LoseBrokerCopy,
            &["IN_PROGRESS of Anyone → IN_PROGRESS"],
        ),
        (Event::Release, &["IN_PROGRESS of Worker → PUBLISHED"]),
        (
            Event::ReleaseWithoutCopy,
            &["IN_PROGRESS of Worker → PENDING"],
        ),
        (
            Event::Republish,
            &[
                "PUBLISHED of Nobody → PENDING",
                "IN_PROGRESS of Worker → PENDING",
            ],
        ),
        (Event::Recover, &["IN_PROGRESS of Dead → PENDING"]),
    ];
    for (event, expected) in table {
        assert_eq!(describe(event), expected, "{event:?}");
    }
    let from_each_status_that_is_not_final = |event, owner: &str, to: Status| {
        let expected = [
            format!("PENDING of Anyone → {to}"),
            format!("PUBLISHED of Anyone → {to}"),
            format!("IN_PROGRESS of {owner} → {to}"),
        ];
        assert_eq!(describe(event), expected, "{event:?}");
    };
    from_each_status_that_is_not_final(Event::Claim, "WorkerOrNobody", InProgress);
    from_each_status_that_is_not_final(Event::TakeOver, "WorkerNobodyOrDead", InProgress);
    from_each_status_that_is_not_final(Event::Begin, "Worker", InProgress);
    from_each_status_that_is_not_final(Event::PutOff, "Worker", Pending);
    from_each_status_that_is_not_final(Event::KeepToEnd, "Worker", InProgress);
    for end in End::ALL {
        from_each_status_that_is_not_final(Event::Finish(end), "Worker", end.status());
    }
}

#[test]
fn a_final_state_is_never_left() {
    for status in Status::finals() {
        for event in Event::ALL {
            assert_eq!(transition(status, event), None, "{status} on {event:?}");
        }
    }
}

#[test]
fn every_event_is_legal_somewhere_and_leads_to_one_status_without_changing_a_column_twice() {
    for event in Event::ALL {
        let targets: Vec<Status> = event.transitions().map(|(_, after)| after.to).collect();
        assert!(!targets.is_empty(), "{event:?}");
        assert!(
            targets.iter().all(|target| *target == targets[0]),
            "{event:?}"
        );
        for (status, transition) in event.transitions() {
            let columns: Vec<Column> = transition.changes().map(|(column, _)| column).collect();
            for (nth, column) in columns.iter().enumerate() {
                assert!(
                    !columns[..nth].contains(column),
                    "{status} on {event:?}: {column:?}"
                );
            }
        }
    }
}

/// One statement renders both events.
#[test]
fn an_event_and_the_one_that_happens_instead_are_legal_for_the_same_messages() {
    for event in Event::ALL {
        let Some((_, instead)) = event.instead() else {
            continue;
        };
        let whose = |event: Event| -> Vec<(Status, RequiredOwner)> {
            let transitions = event.transitions();
            transitions
                .map(|(status, transition)| (status, transition.owner))
                .collect()
        };
        assert_eq!(whose(event), whose(instead), "{event:?}");
        assert_eq!(instead.instead(), None, "{event:?}");
    }
}

/// One statement writes ends of all kinds, of messages with any status.
#[test]
fn all_ends_change_the_same_columns_except_the_time_of_the_end() {
    let changes = |end: End| -> Vec<Vec<ColumnChange>> {
        let transitions = Event::Finish(end).transitions();
        let times = [Column::CompletionTime, Column::FailureTime];
        transitions
            .map(|(_, transition)| {
                let changes = transition.changes();
                changes
                    .filter(|(column, _)| !times.contains(column))
                    .collect()
            })
            .collect()
    };
    let expected = &changes(End::Completed)[0];
    for end in End::ALL {
        for changes in changes(end) {
            assert_eq!(&changes, expected, "{end:?}");
        }
    }
    let time = |end: End, column| transition(Status::InProgress, Event::Finish(end))?.value(column);
    assert_eq!(
        time(End::Completed, Column::CompletionTime),
        Some(Value::Now)
    );
    assert_eq!(time(End::Failed, Column::FailureTime), Some(Value::Now));
    assert_eq!(time(End::Failed, Column::CompletionTime), None);
    assert_eq!(time(End::Cancelled, Column::FailureTime), None);
}

#[test]
fn no_status_is_spelt_except_where_statuses_are_named() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let named = source.join("state/mod.rs");
    let mut files = Vec::new();
    list(&source, &mut files);
    assert!(files.contains(&named));
    // Tests may spell statuses.
    let is_code = |file: &&PathBuf| **file != named && !file.ends_with("tests.rs");
    for file in files.iter().filter(is_code) {
        let text = fs::read_to_string(file).unwrap();
        let code = text
            .lines()
            .filter(|line| !line.trim_start().starts_with("//"));
        for (line, status) in code.flat_map(|line| Status::ALL.map(|status| (line, status))) {
            let is_spelt = |quote| line.contains(&format!("{quote}{status}{quote}"));
            assert!(
                !is_spelt('\'') && !is_spelt('"'),
                "{}: {line}",
                file.display()
            );
        }
    }
}

fn list(directory: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            list(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}
