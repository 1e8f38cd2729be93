//! The messages of Django's rows, run by the service, and what Django reads then.

use chrono::{NaiveDateTime, Utc};
use serde_json::{Value, json};

use super::django::{Django, MESSAGE_LOG, SCHEDULED_TASK};
use super::{adopted_world, message_of, message_rows, messages, schedule_rows};
use crate::support::{Database, Raw, World, cases, text};

cases! { on every_database:
    every_captured_message_is_run_and_its_end_is_recorded_in_djangos_row,
    django_can_read_a_failure_and_an_adopted_message,
}

/// The format of times in Django's SQLite tables, which its `DateTimeField` reads.
const TIME: &str = "%Y-%m-%d %H:%M:%S.%6f";

#[track_caller]
fn time(row: &Value, column: &str) -> NaiveDateTime {
    NaiveDateTime::parse_from_str(text(row, column), TIME).unwrap_or_else(|error| {
        panic!("{column} is {}: {error}", row[column]);
    })
}

/// Runs what is in the queue; the output.
#[track_caller]
fn run(world: &World) -> String {
    let (code, out, err) = world.run(&["--testmode", "--logfile", "carrot.log"]);
    assert_eq!(code, 0, "{err}");
    out
}

fn every_captured_message_is_run_and_its_end_is_recorded_in_djangos_row(database: Database) {
    let world = adopted_world(database);
    world.declare_queue("default");
    world.publish(&messages().iter().map(Raw::captured).collect::<Vec<_>>());
    let start = Utc::now().naive_utc();

    let out = run(&world);

    assert!(out.contains("found 4 scheduled tasks to run"), "{out}");
    let mut django = Django::on(&world);
    for before in message_rows() {
        let id = before["id"].as_i64().unwrap();
        let row = django.get(MESSAGE_LOG, id).unwrap();
        let mut expected = before.clone();
        expected["status"] = json!("COMPLETED");
        for column in ["output", "log", "completion_time"] {
            assert!(
                row[column].is_string() || column == "output",
                "{column} of {row}"
            );
            expected[column] = row[column].clone();
        }
        assert_eq!(row, expected);
        // The time is in UTC by the database's clock, which is this machine's.
        let end = time(&row, "completion_time");
        let slack = chrono::TimeDelta::milliseconds(1);
        assert!(
            start - slack <= end && end <= Utc::now().naive_utc() + slack,
            "{row}"
        );
        let task = text(&row, "task");
        let lines: Vec<_> = text(&row, "log").lines().collect();
        let starting = format!(" INFO:: Starting task {task}");
        assert!(lines[0].ends_with(&starting), "{row}");
        let completed = format!(" INFO:: Task {task} completed successfully with response ");
        assert!(lines[lines.len() - 1].contains(&completed), "{row}");
    }
    // Django compares times as text on SQLite.
    let since = format!(
        "completion_time >= '{}'",
        (start - chrono::TimeDelta::seconds(1)).format(TIME)
    );
    assert_eq!(
        django.filter(MESSAGE_LOG, &since).len(),
        message_rows().len()
    );
    assert_eq!(django.filter(SCHEDULED_TASK, "active"), schedule_rows());
    // Django may change the rows afterwards.
    let id = message_rows()[0]["id"].as_i64().unwrap();
    django.save(MESSAGE_LOG, id, &message_rows()[0]);
    assert_eq!(
        django.get(MESSAGE_LOG, id).as_ref(),
        Some(&message_rows()[0])
    );
    django.delete(MESSAGE_LOG, "status = 'COMPLETED'");
    assert_eq!(django.filter(MESSAGE_LOG, "1 = 1").len(), 1);
    if database == Database::Sqlite {
        let kinds = "SELECT DISTINCT typeof(publish_time) AS kind FROM carrot_messagelog";
        assert_eq!(world.rows(kinds), [json!({"kind": "text"})]);
    }
}

fn django_can_read_a_failure_and_an_adopted_message(database: Database) {
    let world = adopted_world(database);
    world.declare_queue("default");
    let mut django = Django::on(&world);
    let mut row = message_rows().remove(3);
    let sent = message_of(&row);
    let body = text(&sent, "body").to_owned();
    row["uuid"] = json!("fails");
    row["task"] = json!("app.tasks.fails");
    let id = django.create(MESSAGE_LOG, &[row.clone()])[0];
    world.publish(&[
        Raw::django("app.tasks.fails", "fails", &*body),
        Raw::foreign("app.tasks.noop", Some("adopted"), &*body),
    ]);

    run(&world);

    let failed = django.get(MESSAGE_LOG, id).unwrap();
    row["id"] = id.into();
    row["status"] = json!("FAILED");
    for column in ["exception", "output", "log", "failure_time"] {
        assert!(failed[column].is_string(), "{column} of {failed}");
        row[column] = failed[column].clone();
    }
    time(&failed, "failure_time");
    assert_eq!(failed, row);
    let adopted = django.filter(MESSAGE_LOG, "uuid = 'adopted'").remove(0);
    assert_eq!(adopted["id"], id + 1);
    for column in [
        "exchange",
        "queue",
        "routing_key",
        "priority",
        "task",
        "task_args",
    ] {
        assert_eq!(adopted[column], message_rows()[3][column], "{column}");
    }
    let content = |row: &Value| serde_json::from_str::<Value>(text(row, "content")).unwrap();
    assert_eq!(content(&adopted), content(&row));
    assert_eq!(adopted["status"], "COMPLETED");
    assert!(time(&adopted, "publish_time") <= time(&adopted, "completion_time"));
}
