//! The commands `send` and `requeue`.

use serde_json::{Value, json};

use crate::support::{Database, Running, World, captured, cases, outcome, text};

cases! { on every_database: rows_of_django_carrot_are_requeued_with_the_arguments_that_it_sent }

const TASKS: &str = r#"
[[queues]]
name = "default"
[[queues]]
name = "second"
[tasks.cat]
command = ["cat"]
[tasks.fails]
command = ["sh", "-c", "cat; exit 1"]
[tasks.gated]
command = ["sh", "-c", "while [ ! -e go ]; do sleep 0.02; done"]
"#;

const CLOSED_BROKER: &str = "amqp://guest:guest@127.0.0.1:1/";

const NOBODYS: &str = "00000000-0000-0000-0000-000000000000";

fn world_with_service() -> (World, Running) {
    let world = World::new(TASKS);
    let running = world.start(&[]);
    (world, running)
}

/// The message that the command was given.
fn given(row: &Value) -> Value {
    serde_json::from_str(text(row, "output")).unwrap()
}

/// The new uuid that `requeue` has printed for the old one.
#[track_caller]
fn new_uuid(out: &str, old: &str) -> String {
    let head = format!("{old} -> ");
    let mut news = out.lines().filter_map(|line| line.strip_prefix(&head));
    let new = news.next().unwrap_or_else(|| panic!("{old} in {out}"));
    assert!(news.next().is_none(), "{out}");
    new.to_owned()
}

#[test]
fn send_takes_texts_or_json_and_prints_the_uuid() {
    let (world, _running) = world_with_service();
    for (arguments, args, kwargs) in [
        (&["cat"][..], json!([]), json!({})),
        (
            &["cat", "1", "two words", "ž"],
            json!(["1", "two words", "ž"]),
            json!({}),
        ),
        (&["cat", "--", "-1"], json!(["-1"]), json!({})),
        (
            &["cat", "--args", "[1, [null, \"x\"]]"],
            json!([1, [null, "x"]]),
            json!({}),
        ),
        (
            &["cat", "--kwargs", "{\"a\": {\"b\": true}}"],
            json!([]),
            json!({"a": {"b": true}}),
        ),
        (
            &["cat", "text", "--kwargs", "{\"a\": 1}"],
            json!(["text"]),
            json!({"a": 1}),
        ),
    ] {
        let uuid = world.send(arguments);
        assert!(uuid::Uuid::parse_str(&uuid).is_ok(), "{uuid}");
        let row = world.ended(&uuid);
        assert_eq!(row["status"], "COMPLETED", "{row}");
        assert_eq!(
            (&row["queue"], &row["priority"]),
            (&json!("default"), &json!(0))
        );
        assert_eq!(
            (&given(&row)["args"], &given(&row)["kwargs"]),
            (&args, &kwargs)
        );
    }
    let uuid = world.send(&["cat", "--queue", "second", "--priority", "255"]);
    let row = world.ended(&uuid);
    assert_eq!(row["status"], "COMPLETED", "{row}");
    assert_eq!(
        (&row["queue"], &row["priority"]),
        (&json!("second"), &json!(255))
    );
}

#[test]
fn arguments_of_the_wrong_json_exit_65_and_record_nothing() {
    let world = World::new(TASKS);
    for (option, json) in [
        ("--args", "[1"),
        ("--args", "{}"),
        ("--args", "1"),
        ("--kwargs", "nonsense"),
        ("--kwargs", "[1]"),
    ] {
        let (code, out, err) = world.run(&["send", "cat", option, json]);
        assert_eq!((code, out.as_str()), (65, ""), "{option} {json}: {err}");
        assert!(err.contains(&format!("{option} must be a JSON")), "{err}");
    }
    assert_eq!(world.rows("SELECT uuid FROM carrot_messagelog").len(), 0);
}

#[test]
fn a_message_for_a_queue_that_does_not_exist_is_failed_with_the_reason() {
    let world = World::new(TASKS);
    let (code, _, err) = world.run(&["send", "cat", "--queue", "nowhere"]);
    assert_eq!(code, 65, "{err}");
    assert!(
        err.contains("\"nowhere\"") && err.contains("[[queues]]"),
        "{err}"
    );
    let rows = world.rows("SELECT * FROM carrot_messagelog");
    assert_eq!(rows.len(), 1);
    assert_eq!(rows[0]["status"], "FAILED");
    assert!(err.contains(text(&rows[0], "uuid")), "{err}");
    assert!(
        text(&rows[0], "exception").contains("no queue"),
        "{}",
        rows[0]
    );
    assert!(rows[0]["failure_time"].is_string());
}

#[test]
fn a_message_that_is_sent_while_the_broker_is_away_is_published_by_the_next_service() {
    let world = World::new(TASKS);
    let mut command = world.command(&["send", "cat", "kept"]);
    let (code, out, err) = outcome(command.env("CARROT_DEFAULT_BROKER", CLOSED_BROKER));
    assert_eq!(code, 0, "{err}");
    let uuid = out.trim();
    assert!(err.contains("recorded, and not published yet"), "{err}");
    assert_eq!(world.find(uuid).unwrap()["status"], "PENDING");

    let mut running = world.start(&[]);

    let row = world.ended(uuid);
    assert_eq!(row["status"], "COMPLETED", "{row}");
    assert_eq!(given(&row)["args"], json!(["kept"]));
    running.stop_with_empty(&world, &["default"]);
}

#[test]
fn a_requeued_message_is_deleted_and_a_new_one_runs_with_the_same_arguments() {
    let (world, mut running) = world_with_service();
    let failed = world.send(&["fails", "1", "--queue", "second", "--priority", "7"]);
    let completed = world.send(&["cat", "--args", "[2.5]", "--kwargs", "{\"a\": null}"]);
    assert_eq!(world.ended(&failed)["status"], "FAILED");
    assert_eq!(world.ended(&completed)["status"], "COMPLETED");

    let (code, out, err) = world.run(&["requeue", &failed, &completed]);

    assert_eq!((code, err.as_str()), (0, ""));
    let row = world.ended(&new_uuid(&out, &failed));
    assert_eq!(row["status"], "FAILED");
    assert_eq!(
        (&row["queue"], &row["priority"]),
        (&json!("second"), &json!(7))
    );
    assert_eq!(given(&row)["args"], json!(["1"]));
    assert_eq!(
        (&given(&row)["uuid"], &given(&row)["attempt"]),
        (&row["uuid"], &json!(1))
    );
    let row = world.ended(&new_uuid(&out, &completed));
    assert_eq!(row["status"], "COMPLETED");
    assert_eq!(row["task_args"], "(2.5,)");
    assert_eq!(given(&row)["kwargs"], json!({"a": null}));
    assert!(world.find(&failed).is_none() && world.find(&completed).is_none());
    assert_eq!(world.rows("SELECT uuid FROM carrot_messagelog").len(), 2);
    running.stop_with_empty(&world, &["default", "second"]);
}

#[test]
fn requeue_says_why_it_does_not_requeue_a_message_and_exits_1() {
    let (world, mut running) = world_with_service();
    let done = world.send(&["cat", "again"]);
    assert_eq!(world.ended(&done)["status"], "COMPLETED");
    let gated = world.send(&["gated"]);
    running.await_log("Starting task gated");

    let (code, out, err) = world.run(&["requeue", NOBODYS, &gated, &done]);

    assert_eq!(code, 1, "{err}");
    assert!(
        err.contains(&format!(
            "{NOBODYS} is not requeued: there is no such message"
        )),
        "{err}"
    );
    assert!(
        err.contains(&format!("{gated} is not requeued: it is IN_PROGRESS")),
        "{err}"
    );
    let new = new_uuid(&out, &done);
    world.write("go", "");
    assert_eq!(world.ended(&gated)["status"], "COMPLETED");
    assert_eq!(world.ended(&new)["status"], "COMPLETED");
    running.stop_with_empty(&world, &["default"]);
}

#[test]
fn a_row_whose_arguments_can_not_be_read_is_not_requeued_and_stays() {
    let world = World::new(TASKS);
    world.insert_django_rows(&[json!({
        "uuid": "odd", "status": "FAILED", "exchange": "", "queue": "default",
        "routing_key": "default", "priority": 0, "task": "cat", "task_args": "(open('x'),)",
        "content": "{}", "publish_time": "2026-01-01 00:00:00",
    })]);
    let (code, out, err) = world.run(&["requeue", "odd"]);
    assert_eq!((code, out.as_str()), (1, ""));
    assert!(
        err.contains("odd is not requeued: task_args can't be read"),
        "{err}"
    );
    assert_eq!(world.find("odd").unwrap()["status"], "FAILED");
}

#[test]
fn a_message_that_is_requeued_while_the_broker_is_away_is_published_by_the_next_service() {
    let world = World::new(TASKS);
    let uuid = world.send(&["fails"]);
    assert_eq!(world.run(&["--testmode", "--logfile", "carrot.log"]).0, 0);

    let mut command = world.command(&["requeue", "--failed"]);
    let (code, out, err) = outcome(command.env("CARROT_DEFAULT_BROKER", CLOSED_BROKER));
    assert_eq!(code, 0, "{err}");
    assert!(err.contains("not all are published yet"), "{err}");
    let new = new_uuid(&out, &uuid);
    assert_eq!(world.find(&new).unwrap()["status"], "PENDING");
    let mut running = world.start(&[]);

    assert_eq!(world.ended(&new)["status"], "FAILED");
    running.stop_with_empty(&world, &["default"]);
}

fn rows_of_django_carrot_are_requeued_with_the_arguments_that_it_sent(database: Database) {
    let rows = captured::message_rows();
    let messages = captured::messages();
    let mut config = "[[queues]]\nname = \"default\"\n".to_owned();
    for task in ["noop", "hello", "slow"] {
        config += &format!("[tasks.\"app.tasks.{task}\"]\ncommand = [\"cat\"]\n");
    }
    let world = World::of_django(database, &config);
    for row in &rows {
        let mut row = row.clone();
        row["status"] = json!("FAILED");
        world.insert_django_rows(&[row]);
    }

    let (code, out, err) = world.run(&["requeue", "--failed"]);
    assert_eq!((code, err.as_str()), (0, ""));
    assert_eq!(out.lines().count(), rows.len());
    assert_eq!(world.run(&["--testmode", "--logfile", "carrot.log"]).0, 0);

    assert_eq!(world.count("COMPLETED"), rows.len());
    for message in &messages {
        let old = message["properties"]["message_id"].as_str().unwrap();
        let sent: Value = serde_json::from_str(message["body"].as_str().unwrap()).unwrap();
        let row = world.find(&new_uuid(&out, old)).unwrap();
        let or = |key: &str, empty: Value| sent.get(key).cloned().unwrap_or(empty);
        assert_eq!(row["task"], message["properties"]["headers"]["type"]);
        assert_eq!(given(&row)["args"], or("args", json!([])), "{row}");
        assert_eq!(given(&row)["kwargs"], or("kwargs", json!({})), "{row}");
        assert!(world.find(old).is_none());
    }
}

#[test]
fn a_message_that_is_requeued_while_the_broker_has_it_runs_once() {
    let world = World::new(TASKS);
    let old = world.send(&["cat", "once"]);
    assert_eq!(world.find(&old).unwrap()["status"], "PUBLISHED");

    let (code, out, err) = world.run(&["requeue", &old]);

    assert_eq!(code, 0, "{err}");
    let says = format!("{old} was PUBLISHED: should the broker have it after all, it is not run");
    assert!(err.contains(&says), "{err}");
    let mut running = world.start(&[]);
    assert_eq!(world.ended(&new_uuid(&out, &old))["status"], "COMPLETED");
    let row = world.ended(&old);
    assert_eq!(row["status"], "CANCELLED", "{row}");
    assert_eq!(row["attempts"], 0);
    running.stop_with_empty(&world, &["default"]);
}
