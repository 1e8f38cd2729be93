//! Schedules that are changed while services run, as Django changes them: by statements that know nothing of
//! the service's columns.

use serde_json::json;

use super::{planned, row, stop, world};
use crate::support::{Database, cases, eventually, milliseconds};

cases! { on every_database:
    a_row_that_is_added_changed_deactivated_or_deleted_takes_effect,
    a_run_that_is_due_when_its_timetable_is_changed_is_not_lost,
    a_message_has_the_arguments_of_its_row_when_it_is_due,
    an_occurrence_whose_message_was_requeued_or_deleted_is_not_published_again,
}

fn a_row_that_is_added_changed_deactivated_or_deleted_takes_effect(database: Database) {
    let world = world(database);
    let services = vec![world.start(&["--loglevel", "INFO"]), world.start(&[])];
    let clock = world.insert_schedule(&row("clock", "note", 1, &json!({})));
    let waits_for_clock = || world.await_occurrences(clock, world.occurrences(clock).len() + 3);

    // As it is added, it runs in an hour; as it is changed, it runs every second.
    let id = world.insert_schedule(&row("slow", "note", 3600, &json!({})));
    eventually("its next run is set", || {
        world.schedule_row(id)["next_run"].is_string()
    });
    let change = |set: &str| {
        world.execute(&format!(
            "UPDATE carrot_scheduledtask SET {set} WHERE id = {id}"
        ));
    };
    change("interval_count = 1");
    world.await_occurrences(id, 2);

    // An occurrence that is being taken is committed before this change.
    change("active = false");
    let before = world.occurrences(id).len();
    waits_for_clock();
    assert_eq!(world.occurrences(id).len(), before);

    change("active = true");
    world.await_occurrences(id, before + 2);

    // Change it from seconds to a cron expression that is not due before next year.
    change("cron = '0 0 1 1 *', time_zone = 'Europe/Berlin'");
    waits_for_clock();
    let before = world.occurrences(id).len();
    waits_for_clock();
    assert_eq!(world.occurrences(id).len(), before);
    change("cron = '* * * * * *'");
    let cron = world.await_occurrences(id, before + 2).split_off(before);
    assert!(planned(&cron).iter().all(|time| time % 1000 == 0));

    world.execute(&format!("DELETE FROM carrot_scheduledtask WHERE id = {id}"));
    let before = world.occurrences(id).len();
    waits_for_clock();
    assert_eq!(world.occurrences(id).len(), before);
    stop(services);
}

fn a_run_that_is_due_when_its_timetable_is_changed_is_not_lost(database: Database) {
    let world = world(database);
    let hourly = |name, missed| row(name, "note", 3600, &json!({ "missed": missed }));
    let [by_anyone, by_command, skipped] = [
        ("anyone", "run_all"),
        ("command", "run_once"),
        ("skipped", "skip"),
    ]
    .map(|(name, missed)| world.insert_schedule(&hourly(name, missed)));
    let due = [by_anyone, by_command, skipped].map(|id| {
        world.make_due_since(id, 600);
        milliseconds(&world.schedule_row(id), "next_run")
    });
    // No service runs meanwhile.
    world.execute(&format!(
        "UPDATE carrot_scheduledtask SET interval_count = 7200 WHERE id <> {by_command}"
    ));
    let edit = ["schedule", "edit", "command", "--every", "2h"];
    let (code, _, err) = world.run(&edit);
    assert_eq!(code, 0, "{err}");

    let service = world.start(&[]);
    for (id, due) in [(by_anyone, due[0]), (by_command, due[1])] {
        let rows = world.await_occurrences(id, 1);
        assert_eq!(planned(&rows), [due]);
        world.ended(rows[0]["uuid"].as_str().unwrap());
    }
    for id in [by_anyone, by_command, skipped] {
        let next = milliseconds(&world.schedule_row(id), "next_run");
        assert!(next > due[0] + 3_600_000, "{next}");
    }
    assert_eq!(planned(&world.occurrences(skipped)), [0; 0]);
    stop(vec![service]);
}

fn a_message_has_the_arguments_of_its_row_when_it_is_due(database: Database) {
    let world = world(database);
    let id = world.insert_schedule(&row("a", "note", 1, &json!({})));
    let service = world.start(&[]);
    world.await_occurrences(id, 1);
    world.execute("UPDATE carrot_scheduledtask SET task_args = '1, ''x''', content = '{\"a\": 2}'");
    let edited = world.rows(&format!(
        "SELECT {} AS time",
        match database {
            Database::Postgresql => "now()",
            Database::Sqlite => "strftime('%Y-%m-%d %H:%M:%f000', 'now')",
            #[cfg(feature = "mysql")]
            Database::Mariadb => "utc_timestamp(6)",
        }
    ));
    let edited = milliseconds(&edited[0], "time");
    let after = eventually("an occurrence after the edit has its message", || {
        world
            .occurrences(id)
            .into_iter()
            .find(|row| milliseconds(row, "planned_time") > edited)
    });
    assert_eq!(after["task_args"], "(1, 'x')");
    assert_eq!(after["content"], r#"{"a":2}"#);
    stop(vec![service]);
}

fn an_occurrence_whose_message_was_requeued_or_deleted_is_not_published_again(database: Database) {
    let world = world(database);
    let id = world.insert_schedule(&row("a", "note", 1, &json!({})));
    let services = vec![world.start(&[]), world.start(&[])];
    world.await_occurrences(id, 3);
    let rows = world.end_schedules();
    let key = |nth: usize| rows[nth]["uuid"].as_str().unwrap();

    let (code, _, err) = world.run(&["requeue", key(0)]);
    assert_eq!(code, 0, "{err}");
    world.execute(&format!(
        "DELETE FROM carrot_messagelog WHERE uuid = '{}'",
        key(1)
    ));
    world.execute("UPDATE carrot_scheduledtask SET active = true");
    world.await_occurrences(id, rows.len() + 1);

    let after = world.end_schedules();
    let before = planned(&rows);
    let mut expected = before.clone();
    expected.remove(1);
    assert_eq!(planned(&after)[..expected.len()], expected);
    assert!(
        planned(&after)[expected.len()..]
            .iter()
            .all(|time| time > before.last().unwrap())
    );
    assert_ne!(after[0]["uuid"], rows[0]["uuid"]);
    stop(services);
}
