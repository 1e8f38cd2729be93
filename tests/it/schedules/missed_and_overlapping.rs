//! Occurrences that were missed while no service ran, and occurrences that are due while the previous run is
//! unfinished.

use rustix::process::Signal;
use serde_json::{Value, json};

use super::{assert_each_second_has_one, planned, row, stop, world};
use crate::support::{Database, World, cases, eventually};

cases! { on every_database:
    missed_occurrences_follow_the_policy,
    missed_occurrences_of_a_timetable_that_was_changed_meanwhile_follow_the_policy,
    missed_occurrences_of_a_schedule_that_was_not_active_follow_the_policy,
    missed_occurrences_are_published_also_if_together_they_are_too_large,
    occurrences_that_are_late_because_a_service_was_frozen_for_seconds_are_not_missed,
    a_restart_of_the_service_does_not_restart_intervals,
    an_occurrence_is_skipped_while_the_previous_one_is_unfinished,
    a_lost_message_that_holds_back_its_schedule_is_named_and_can_be_requeued,
}

const HOUR: u64 = 3600;

/// An hourly schedule with six missed occurrences, the first of them five hours and ten minutes ago.
fn missed_six(world: &World, missed: &str, active: bool) -> (i64, Vec<i64>) {
    let others = json!({"missed": missed, "active": active});
    let id = world.insert_schedule(&row(missed, "note", 3600, &others));
    world.make_due_since(id, 5 * HOUR + 600);
    let first = crate::support::milliseconds(&world.schedule_row(id), "next_run");
    (id, (0..6).map(|nth| first + nth * 3_600_000).collect())
}

/// Waits until the schedule has been advanced, and checks which of the missed occurrences were published.
#[track_caller]
fn assert_published(
    world: &World,
    (id, missed): &(i64, Vec<i64>),
    published: std::ops::Range<usize>,
) {
    let next = missed.last().unwrap() + 3_600_000;
    eventually("its next run is an hour after the last missed one", || {
        let row = world.schedule_row(*id);
        crate::support::milliseconds(&row, "next_run") == next
    });
    assert_eq!(planned(&world.occurrences(*id)), missed[published]);
}

fn missed_occurrences_follow_the_policy(database: Database) {
    let world = world(database);
    let [once, all, skip] =
        ["run_once", "run_all", "skip"].map(|missed| missed_six(&world, missed, true));
    let services = vec![world.start(&[]), world.start(&[])];
    assert_published(&world, &once, 5..6);
    assert_published(&world, &all, 0..6);
    assert_published(&world, &skip, 0..0);
    for row in world.end_schedules() {
        assert_eq!(row["status"], "COMPLETED");
    }
    stop(services);
}

fn missed_occurrences_of_a_timetable_that_was_changed_meanwhile_follow_the_policy(
    database: Database,
) {
    let world = world(database);
    let by_command = missed_six(&world, "run_all", true);
    world.execute("UPDATE carrot_scheduledtask SET task_name = 'command'");
    let [once, all, skip] =
        ["run_once", "run_all", "skip"].map(|missed| missed_six(&world, missed, true));
    world.execute(
        "UPDATE carrot_scheduledtask SET interval_count = 7200 WHERE task_name <> 'command'",
    );
    let (code, _, err) = world.run(&["schedule", "edit", "command", "--every", "2h"]);
    assert_eq!(code, 0, "{err}");
    let service = world.start(&[]);
    assert_published(&world, &once, 5..6);
    assert_published(&world, &all, 0..6);
    assert_published(&world, &skip, 0..0);
    let rows = world.await_occurrences(by_command.0, 6);
    assert_eq!(planned(&rows), by_command.1);
    service.await_log("6 of them run now (missed = run_all)");
    for row in world.end_schedules() {
        assert_eq!(row["status"], "COMPLETED");
    }
    stop(vec![service]);
}

fn missed_occurrences_of_a_schedule_that_was_not_active_follow_the_policy(database: Database) {
    let world = world(database);
    let policies = ["run_once", "run_all", "skip"];
    let [once, all, skip] = policies.map(|missed| missed_six(&world, missed, false));
    let clock = world.insert_schedule(&row("clock", "note", 1, &json!({})));
    let service = world.start(&[]);
    world.await_occurrences(clock, 2);
    for (id, _) in [&once, &all, &skip] {
        assert_eq!(world.occurrences(*id), [] as [Value; 0]);
    }
    world.execute("UPDATE carrot_scheduledtask SET active = true");
    assert_published(&world, &once, 5..6);
    assert_published(&world, &all, 0..6);
    assert_published(&world, &skip, 0..0);
    stop(vec![service]);
}

fn missed_occurrences_are_published_also_if_together_they_are_too_large(database: Database) {
    // Together they are more than the 16 MiB that MariaDB accepts in one statement.
    const KWARGS: usize = 200_000;
    let world = world(database);
    let content = json!({ "a": "x".repeat(KWARGS) }).to_string();
    let others = json!({"missed": "run_all", "content": content});
    let id = world.insert_schedule(&row("large", "note", 3600, &others));
    world.make_due_since(id, 99 * HOUR + 600);
    let service = world.launch_without_consuming("");
    let published = format!(
        "SELECT count(*) AS n FROM carrot_messagelog WHERE schedule_id = {id} AND status = 'PUBLISHED'"
    );
    eventually("a hundred messages are published", || {
        world.rows(&published)[0]["n"] == 100
    });
    assert!(!service.log().contains("is held back"));
    stop(vec![service]);
}

fn occurrences_that_are_late_because_a_service_was_frozen_for_seconds_are_not_missed(
    database: Database,
) {
    let world = world(database);
    let ids = ["run_once", "run_all", "skip"]
        .map(|missed| world.insert_schedule(&row(missed, "note", 1, &json!({ "missed": missed }))));
    let service = world.start(&[]);
    for id in ids {
        world.await_occurrences(id, 1);
    }
    service.signal(Signal::STOP);
    let last = world.occurrences(ids[0]).len();
    let now = || {
        world
            .rows(&format!("SELECT {} AS now", database.ago(0)))
            .remove(0)
    };
    eventually("seven seconds have passed", || {
        let stopped = crate::support::milliseconds(&world.schedule_row(ids[0]), "next_run");
        crate::support::milliseconds(&now(), "now") > stopped + 7000
    });
    service.signal(Signal::CONT);
    for id in ids {
        world.await_occurrences(id, last + 8);
    }
    let rows = world.end_schedules();
    for id in ids {
        let of = rows.iter().filter(|row| row["schedule_id"] == id);
        assert_each_second_has_one(&of.cloned().collect::<Vec<_>>());
    }
    assert_eq!(service.log().matches("missed its runs").count(), 0);
    stop(vec![service]);
}

fn a_restart_of_the_service_does_not_restart_intervals(database: Database) {
    let world = world(database);
    let id = world.insert_schedule(&row("a", "note", 3600, &json!({})));
    let mut times = Vec::new();
    for _ in 0..3 {
        let mut service = world.start(&[]);
        eventually("its next run is set", || {
            world.schedule_row(id)["next_run"].is_string()
        });
        service.kill();
        let row = world.schedule_row(id);
        times.push((row["anchor"].clone(), row["next_run"].clone()));
    }
    times.dedup();
    assert_eq!(times.len(), 1, "{times:?}");
}

fn an_occurrence_is_skipped_while_the_previous_one_is_unfinished(database: Database) {
    let world = world(database);
    let id = world.insert_schedule(&row("a", "hold", 1, &json!({"overlap": "skip"})));
    let free = world.insert_schedule(&row("b", "hold", 1, &json!({})));
    let services = vec![world.start(&[]), world.start(&[])];
    world.await_occurrences(id, 1);
    let before = world.await_occurrences(free, 1).len();
    // The occurrences of the other schedule show that time passes.
    world.await_occurrences(free, before + 3);
    assert_eq!(world.occurrences(id).len(), 1);
    let logs = || services.iter().map(|s| s.log()).collect::<String>();
    eventually("the service logs that it skips the run", || {
        logs().contains("(\"a\") skips its run of")
    });
    world.release_tasks();
    world.await_occurrences(id, 3);
    stop(services);
}

fn a_lost_message_that_holds_back_its_schedule_is_named_and_can_be_requeued(database: Database) {
    let world = world(database);
    let id = world.insert_schedule(&row("a", "note", 1, &json!({"overlap": "skip"})));
    let service = world.launch_without_consuming("");
    let lost = world.await_occurrences(id, 1).remove(0);
    let lost = lost["uuid"].as_str().unwrap();
    eventually("the message is published", || {
        world.find(lost).unwrap()["status"] == "PUBLISHED"
    });
    stop(vec![service]);
    world.take_all("default");
    // Let a minute pass:
    world.execute(&format!(
        "UPDATE carrot_messagelog SET publish_time = {}",
        database.ago(60)
    ));
    let service = world.start(&["--loglevel", "INFO"]);
    service.await_log(&format!(
        "(\"a\") is held back (overlap = skip): its message {lost}"
    ));
    let next = |row: &Value| crate::support::milliseconds(row, "next_run");
    let before = next(&world.schedule_row(id));
    eventually("more runs are skipped", || {
        next(&world.schedule_row(id)) > before + 1000
    });
    assert_eq!(service.log().matches("is held back").count(), 1);
    assert_eq!(world.occurrences(id).len(), 1);

    let (code, out, err) = world.run(&["requeue", lost]);
    assert_eq!(code, 0, "{err}");
    assert!(
        err.contains(&format!("{lost} was PUBLISHED: should the broker")),
        "{err}"
    );
    let new = out.trim().rsplit(' ').next().unwrap();
    assert_eq!(world.ended(new)["status"], "COMPLETED");
    world.await_occurrences(id, 3);
    stop(vec![service]);
}
