//! A message or its row comes late, comes twice, or is deleted.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::{Database, Raw, Running, World, cases, eventually, text};

cases! { on every_database:
    a_message_whose_row_comes_late_is_run_and_others_go_on_meanwhile,
    a_message_whose_row_never_comes_is_cancelled_and_a_foreign_one_is_adopted_at_once,
    copies_of_a_running_message_join_its_run_whatever_queue_they_come_by,
    a_message_that_is_delivered_again_after_a_cut_connection_joins_its_run,
    a_copy_of_a_finished_message_is_acknowledged_and_not_run,
    a_row_that_is_deleted_while_its_task_runs_stays_deleted,
}

/// The task `gated` notes its run, and ends when the file `go` exists.
const GATED: &str = r#"
[[queues]]
name = "default"
concurrency = 2
[[queues]]
name = "other"
concurrency = 2
[tasks.noop]
command = ["true"]
[tasks.gated]
command = ["sh", "-c", "echo run >> runs; while [ ! -e go ]; do sleep 0.02; done"]
"#;

fn world(database: Database) -> World {
    let world = World::on(database, GATED);
    world.declare_queue("default");
    world.declare_queue("other");
    world
}

impl World {
    fn await_run(&self) {
        eventually("the task runs once", || self.read("runs") == "run\n");
    }
}

impl Running {
    fn await_lines(&self, count: usize, of: &str) {
        eventually(&format!("{count} log lines contain {of:?}"), || {
            self.log().matches(of).count() == count
        });
    }
}

fn a_message_whose_row_comes_late_is_run_and_others_go_on_meanwhile(database: Database) {
    let world = world(database);
    let mut running = world.start(&[]);
    world.publish(&[Raw::django("noop", "late", "{}")]);

    let published = Instant::now();
    let mut others = 0;
    while published.elapsed() < Duration::from_millis(1500) {
        let id = format!("other-{others}");
        world.publish(&[Raw::foreign("noop", Some(&id), "{}")]);
        assert_eq!(world.ended(&id)["status"], "COMPLETED");
        others += 1;
    }
    assert!(world.find("late").is_none());
    world.insert_published("default", "noop", &["late".to_owned()]);

    let row = world.ended("late");
    assert_eq!(row["status"], "COMPLETED", "{row}");
    assert!(others > 1);
    running.stop_with_empty(&world, &["default"]);
}

fn a_message_whose_row_never_comes_is_cancelled_and_a_foreign_one_is_adopted_at_once(
    database: Database,
) {
    let world = world(database);
    let mut running = world.start(&[]);
    let published = Instant::now();
    world.publish(&[
        Raw::django("gated", "orphan", "{\"args\": [1]}"),
        Raw::foreign("noop", Some("foreign"), "{\"args\": [2]}"),
    ]);

    let foreign = world.ended("foreign");
    assert_eq!(foreign["status"], "COMPLETED");
    assert_eq!(foreign["task_args"], "(2,)");
    assert_eq!(foreign["queue"], "default");
    assert!(world.find("orphan").is_none());

    let orphan = world.ended("orphan");
    assert!(published.elapsed() >= Duration::from_secs(5));
    assert_eq!(orphan["status"], "CANCELLED", "{orphan}");
    assert!(
        text(&orphan, "exception").contains("the message has no row"),
        "{orphan}"
    );
    assert_eq!(
        (&orphan["task"], &orphan["task_args"]),
        (&json!("gated"), &json!("(1,)"))
    );
    running.stop_with_empty(&world, &["default"]);
    assert_eq!(world.read("runs"), "");
}

fn copies_of_a_running_message_join_its_run_whatever_queue_they_come_by(database: Database) {
    let world = world(database);
    let mut running = world.start(&[]);
    let first = Raw::foreign("gated", Some("twice"), "{}");
    let elsewhere = Raw {
        routing_key: "other".to_owned(),
        ..first.clone()
    };
    world.publish(std::slice::from_ref(&first));
    world.await_run();

    world.publish(&[first, elsewhere]);
    running.await_lines(2, "was delivered again while it is in hand");
    let other = world.send(&["noop", "--queue", "other"]);
    assert_eq!(world.ended(&other)["status"], "COMPLETED");
    world.write("go", "");

    let row = world.ended("twice");
    assert_eq!(
        (&row["status"], &row["attempts"]),
        (&json!("COMPLETED"), &json!(1))
    );
    running.stop_with_empty(&world, &["default", "other"]);
    assert_eq!(world.read("runs"), "run\n");
}

fn a_message_that_is_delivered_again_after_a_cut_connection_joins_its_run(database: Database) {
    let world = world(database);
    let mut running = world.start(&[]);
    let uuid = world.send(&["gated"]);
    world.await_run();

    eventually("the service loses its connection", || {
        world.cut_connections();
        running.log().contains("is away")
    });
    running.await_log(&format!(
        "message {uuid} was delivered again while it is in hand"
    ));
    world.write("go", "");

    assert_eq!(world.ended(&uuid)["status"], "COMPLETED");
    running.stop_with_empty(&world, &["default"]);
    assert_eq!(world.read("runs"), "run\n");
}

fn a_copy_of_a_finished_message_is_acknowledged_and_not_run(database: Database) {
    let world = world(database);
    world.write("go", "");
    let mut running = world.start(&[]);
    let message = Raw::foreign("gated", Some("done"), "{}");
    world.publish(std::slice::from_ref(&message));
    let row = world.ended("done");
    assert_eq!(row["status"], "COMPLETED");

    world.publish(&[message]);
    running.await_log("message done is COMPLETED already");

    running.stop_with_empty(&world, &["default"]);
    assert_eq!(world.read("runs"), "run\n");
    assert_eq!(world.find("done").unwrap(), row);
}

fn a_row_that_is_deleted_while_its_task_runs_stays_deleted(database: Database) {
    let world = world(database);
    let mut running = world.start(&[]);
    let uuid = world.send(&["gated"]);
    world.await_run();

    world.execute("DELETE FROM carrot_messagelog");
    world.write("go", "");

    running.await_log(&format!(
        "message {uuid}: its row was deleted while its task ran"
    ));
    running.stop_with_empty(&world, &["default"]);
    assert_eq!(world.rows("SELECT uuid FROM carrot_messagelog").len(), 0);
}
