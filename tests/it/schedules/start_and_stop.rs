//! The start and stop of the scheduler, and services without one.

use rustix::process::Signal;
use serde_json::json;

use super::{row, stop, world};
use crate::support::{Database, cases, eventually, milliseconds};

cases! { on every_database:
    the_scheduler_stops_before_any_consumer,
    without_the_scheduler_nothing_is_scheduled_and_the_sweep_goes_on,
    occurrences_while_the_broker_is_away_are_published_when_it_is_back,
}

fn the_scheduler_stops_before_any_consumer(database: Database) {
    let world = world(database);
    let mut service = world.start(&[]);
    let held = world.send(&["hold"]);
    world.await_runs(&held, 1);
    let id = world.insert_schedule(&row("a", "note", 1, &json!({})));
    world.await_occurrences(id, 1);

    service.signal(Signal::TERM);
    service.await_log("the consumers of queue default are told to stop");
    let log = service.log();
    let stopped = log.find("the scheduler is stopped").unwrap();
    assert!(stopped < log.find("are told to stop").unwrap());
    let published = world.occurrences(id).len();
    // An occurrence is due and nothing takes it. The next service will.
    eventually("another occurrence is due", || {
        let due = milliseconds(&world.schedule_row(id), "next_run");
        due + 500 < chrono::Utc::now().timestamp_millis()
    });
    assert_eq!(world.occurrences(id).len(), published);
    world.release_tasks();
    assert_eq!(service.wait(), 0);
    let next = world.start(&[]);
    for row in world.end_schedules() {
        assert_eq!(row["status"], "COMPLETED", "{row}");
    }
    stop(vec![next]);
}

fn without_the_scheduler_nothing_is_scheduled_and_the_sweep_goes_on(database: Database) {
    let world = world(database);
    let id = world.insert_schedule(&row("a", "note", 1, &json!({})));
    world.make_due_since(id, 1);
    let left = world.send_and_die("note", "publish.recorded");
    let service = world.start(&["--no-scheduler"]);
    assert_eq!(world.ended(&left)["status"], "COMPLETED");
    assert_eq!(world.occurrences(id).len(), 0);
    assert!(!service.output().contains("scheduled tasks to run"));
    let other = world.start(&[]);
    world.await_occurrences(id, 1);
    stop(vec![service, other]);
}

fn occurrences_while_the_broker_is_away_are_published_when_it_is_back(database: Database) {
    let world = world(database);
    let row = row("a", "note", 1, &json!({"missed": "run_all"}));
    let id = world.insert_schedule(&row);
    let mut command = world.command(&[]);
    // No broker listens there.
    command.env("CARROT_DEFAULT_BROKER", "amqp://guest:guest@127.0.0.1:1/");
    let service = world.spawn(command);
    service.await_log(" is away: ");
    world.await_occurrences(id, 3);
    assert_eq!(world.count("PENDING"), world.occurrences(id).len());
    stop(vec![service]);
    let service = world.start(&[]);
    let rows = world.end_schedules();
    super::assert_each_second_has_one(&rows);
    stop(vec![service]);
}
