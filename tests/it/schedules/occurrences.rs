//! Each occurrence has one message, whichever service dies at whichever step.

use serde_json::json;
use std::time::{Duration, Instant};

use super::{assert_each_second_has_one, planned, row, stop, world};
use crate::support::{Database, Running, cases, eventually, milliseconds, random};

cases! { on every_database:
    each_occurrence_of_two_services_has_one_message,
    each_occurrence_of_five_services_that_are_killed_at_random_has_one_message,
    each_occurrence_of_two_services_of_which_one_dies_at_each_step_has_one_message,
    after_the_clock_is_set_back_occurrences_that_ran_do_not_run_again_and_others_do,
    a_schedule_that_was_added_while_the_clock_was_ahead_runs_when_the_clock_is_right_again,
    an_occurrence_whose_service_dies_before_it_takes_it_is_published_by_the_next,
    an_occurrence_whose_service_dies_before_its_commit_is_published_by_the_next,
    an_occurrence_that_was_taken_and_not_published_is_published_by_the_sweep,
    an_occurrence_that_was_published_and_not_marked_runs_once,
    an_occurrence_that_was_marked_runs_once,
}

/// The schedules of these tests run every second. With this policy, no occurrence is lost while no service
/// runs.
const RUN_ALL: &str = "run_all";

fn each_occurrence_of_two_services_has_one_message(database: Database) {
    let world = world(database);
    let services = vec![world.start(&[]), world.start(&[])];
    let row = |name| row(name, "note", 1, &json!({"missed": RUN_ALL}));
    let ids = ["a", "b", "c"].map(|name| world.insert_schedule(&row(name)));
    ids.iter().for_each(|id| {
        world.await_occurrences(*id, 5);
    });
    let rows = world.end_schedules();
    for id in ids {
        let of = rows.iter().filter(|row| row["schedule_id"] == id);
        assert_each_second_has_one(&of.cloned().collect::<Vec<_>>());
    }
    // No service died, so no message runs twice.
    for row in &rows {
        assert_eq!(world.runs(row["uuid"].as_str().unwrap()).len(), 1, "{row}");
    }
    stop(services);
}

fn each_occurrence_of_five_services_that_are_killed_at_random_has_one_message(database: Database) {
    const SPELL: Duration = Duration::from_secs(10);
    let mut random = random();
    let world = world(database);
    let row = |name| row(name, "note", 1, &json!({"missed": RUN_ALL}));
    let ids = ["a", "b", "c"].map(|name| world.insert_schedule(&row(name)));
    let mut services: Vec<Running> = (0..5).map(|_| world.launch(&[], "")).collect();
    ids.iter().for_each(|id| {
        world.await_occurrences(*id, 1);
    });
    let end = Instant::now() + SPELL;
    let mut kills = 0;
    while Instant::now() < end {
        let victim = random.usize(..services.len());
        services[victim].kill();
        services[victim] = world.launch(&[], "");
        kills += 1;
        let more = world.occurrences(ids[0]).len() + random.usize(..2);
        eventually("more occurrences are published", || {
            world.occurrences(ids[0]).len() >= more
        });
    }
    services
        .iter()
        .for_each(|service| service.await_log("consuming queue"));
    let rows = world.end_schedules();
    eprintln!("{kills} kills, {} messages", rows.len());
    for id in ids {
        let of = rows.iter().filter(|row| row["schedule_id"] == id);
        assert_each_second_has_one(&of.cloned().collect::<Vec<_>>());
    }
    stop(services);
}

fn each_occurrence_of_two_services_of_which_one_dies_at_each_step_has_one_message(
    database: Database,
) {
    let world = world(database);
    let row = |name| row(name, "note", 1, &json!({"missed": RUN_ALL}));
    let ids = ["a", "b", "c", "d", "e"].map(|name| world.insert_schedule(&row(name)));
    // Not all at once, or one service would take all.
    for id in ids {
        world.make_due_since(id, 0);
    }
    let survivor = world.start(&[]);
    for failpoint in [
        "schedule.before-take",
        "schedule.before-commit",
        "schedule.taken",
        "publish.published",
        "publish.marked",
    ] {
        let mut other = world.launch(&[], &format!("{failpoint}=kill"));
        assert_eq!(other.wait(), -9, "{failpoint}");
    }
    for id in ids {
        world.await_occurrences(id, world.occurrences(id).len() + 2);
    }
    let rows = world.end_schedules();
    for id in ids {
        let of = rows.iter().filter(|row| row["schedule_id"] == id);
        assert_each_second_has_one(&of.cloned().collect::<Vec<_>>());
    }
    stop(vec![survivor]);
}

fn after_the_clock_is_set_back_occurrences_that_ran_do_not_run_again_and_others_do(
    database: Database,
) {
    let world = world(database);
    let id = world.insert_schedule(&row("a", "note", 1, &json!({"missed": RUN_ALL})));
    let service = world.start(&[]);
    world.await_occurrences(id, 3);
    let rows = world.end_schedules();
    stop(vec![service]);
    let later = |column: &str, seconds: u32| later(database, column, seconds);
    // The clock was an hour ahead when it was set back; the last run belongs to that hour.
    let ahead = rows.last().unwrap()["uuid"].as_str().unwrap();
    let next = later("(SELECT next_run FROM carrot_scheduledtask)", 5);
    world.execute(&format!(
        "UPDATE carrot_messagelog SET planned_time = {next} WHERE uuid = '{ahead}'"
    ));
    world.execute(&format!(
        "UPDATE carrot_scheduledtask SET active = true, next_run = {}, last_run = {}",
        later("next_run", 3600),
        later("last_run", 3600)
    ));
    let service = world.start(&[]);
    let passed = milliseconds(&world.find(ahead).unwrap(), "planned_time") + 2000;
    eventually("the next two occurrences are published", || {
        let times = planned(&world.occurrences(id));
        times.contains(&passed)
    });
    let after = world.end_schedules();
    let times = planned(&after);
    assert!(times.windows(2).all(|pair| pair[0] < pair[1]), "{times:?}");
    assert_eq!(world.runs(ahead).len(), 1);
    for row in after {
        assert_eq!(row["status"], "COMPLETED");
    }
    assert!(!service.log().contains("is held back"));
    stop(vec![service]);
}

fn a_schedule_that_was_added_while_the_clock_was_ahead_runs_when_the_clock_is_right_again(
    database: Database,
) {
    const YEAR: u32 = 365 * 24 * 3600;
    let world = world(database);
    let id = world.insert_schedule(&row("a", "note", 1, &json!({})));
    world.make_due_since(id, 0);
    world.execute(&format!(
        "UPDATE carrot_scheduledtask SET anchor = {}, next_run = {}",
        later(database, "anchor", YEAR),
        later(database, "next_run", YEAR)
    ));
    let anchor = milliseconds(&world.schedule_row(id), "anchor");
    let service = world.start(&[]);
    for time in planned(&world.await_occurrences(id, 2)) {
        assert_eq!((anchor - time) % 1000, 0);
    }
    stop(vec![service]);
}

/// SQL for the time in a column, so many seconds later.
fn later(database: Database, column: &str, seconds: u32) -> String {
    match database {
        Database::Postgresql => format!("{column} + interval '{seconds} seconds'"),
        Database::Sqlite => {
            format!("strftime('%Y-%m-%d %H:%M:%f000', {column}, '+{seconds} seconds')")
        }
        #[cfg(feature = "mysql")]
        Database::Mariadb => format!("{column} + INTERVAL {seconds} SECOND"),
    }
}

/// A service is killed at `failpoint` at its first occurrence, which then is in the state `left`, or has no
/// row. The next service publishes it and runs it once.
#[track_caller]
fn assert_published_once(database: Database, failpoint: &str, left: Option<&str>) {
    let world = world(database);
    let id = world.insert_schedule(&row("a", "note", 1000, &json!({"missed": RUN_ALL})));
    world.make_due_since(id, 0);
    let due = world.schedule_row(id)["next_run"].clone();
    let mut first = world.launch_without_consuming(&format!("{failpoint}=kill"));
    assert_eq!(first.wait(), -9);
    let rows = world.occurrences(id);
    let states: Vec<_> = rows.iter().map(|row| &row["status"]).collect();
    match left {
        Some(state) => assert_eq!(states, [state]),
        None => assert_eq!(world.schedule_row(id)["next_run"], due, "{states:?}"),
    }

    let second = world.start(&[]);
    let row = world.await_occurrences(id, 1).remove(0);
    let row = world.ended(row["uuid"].as_str().unwrap());
    assert_eq!(row["status"], "COMPLETED", "{row}");
    assert_eq!(row["planned_time"], due);
    assert_eq!(world.runs(row["uuid"].as_str().unwrap()).len(), 1);
    let schedule = world.schedule_row(id);
    assert_eq!(schedule["last_run"], due);
    assert_eq!(planned(&world.occurrences(id)).len(), 1);
    stop(vec![second]);
}

fn an_occurrence_whose_service_dies_before_it_takes_it_is_published_by_the_next(
    database: Database,
) {
    assert_published_once(database, "schedule.before-take", None);
}

fn an_occurrence_whose_service_dies_before_its_commit_is_published_by_the_next(database: Database) {
    assert_published_once(database, "schedule.before-commit", None);
}

fn an_occurrence_that_was_taken_and_not_published_is_published_by_the_sweep(database: Database) {
    assert_published_once(database, "schedule.taken", Some("PENDING"));
}

fn an_occurrence_that_was_published_and_not_marked_runs_once(database: Database) {
    assert_published_once(database, "publish.published", Some("PENDING"));
}

fn an_occurrence_that_was_marked_runs_once(database: Database) {
    assert_published_once(database, "publish.marked", Some("PUBLISHED"));
}
