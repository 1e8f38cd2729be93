//! Messages of any content from the delivery to the recorded end.

use amiquip::{AmqpProperties, AmqpValue, FieldTable, QueueDeclareOptions};
use serde_json::{Value, json};

use crate::support::{Database, Raw, World, cases, text};

cases! { on every_database:
    a_body_that_can_not_be_read_is_failed_with_the_reason_and_kept,
    a_body_that_can_not_be_read_is_not_made_readable_by_its_row,
    an_unreadable_message_of_django_carrot_is_failed_in_its_own_row,
    a_message_that_names_no_known_task_is_failed_with_the_reason,
    each_delivery_without_a_message_id_is_a_message_of_its_own,
    a_message_id_that_the_column_can_not_hold_is_recognised_nevertheless,
    a_nul_in_a_message_is_no_obstacle,
    a_body_of_megabytes_is_run_and_kept,
    messages_of_higher_priority_are_run_first,
    an_output_that_the_database_refuses_fails_its_message_and_no_other,
    a_queue_that_exists_with_other_arguments_is_a_clear_error_and_the_others_go_on,
    a_queue_that_is_not_consumable_is_published_to_and_not_consumed,
    published_messages_are_persistent_and_look_like_django_carrots,
}

const CAT: &str = r#"
[[queues]]
name = "default"
concurrency = 2
[tasks.cat]
command = ["cat"]
"#;

/// A world whose queue exists before any service.
fn world(database: Database) -> World {
    let world = World::on(database, CAT);
    world.declare_queue("default");
    world
}

/// The message that the task `cat` was given.
fn given(row: &Value) -> Value {
    serde_json::from_str(text(row, "output")).unwrap()
}

fn a_body_that_can_not_be_read_is_failed_with_the_reason_and_kept(database: Database) {
    let world = world(database);
    let cases: [(&[u8], &str); 8] = [
        (b"{\"args\": [1", "the body is not JSON: EOF"),
        (b"hello", "the body is not JSON"),
        (b"", "the body is not JSON"),
        (b"\xff\xfe{}", "the body is not JSON"),
        (b"[1, 2]", "the body is an array, not an object"),
        (b"\"text\"", "the body is a string, not an object"),
        (b"{\"args\": {}}", "\"args\" is an object, not an array"),
        (b"{\"kwargs\": 1}", "\"kwargs\" is a number, not an object"),
    ];
    let mut running = world.start(&[]);
    for (nth, (body, _)) in cases.iter().enumerate() {
        world.publish(&[
            Raw::foreign("cat", Some(&format!("bad-{nth}")), *body),
            Raw::foreign("cat", Some(&format!("good-{nth}")), "{}"),
        ]);
    }

    for (nth, (body, reason)) in cases.iter().enumerate() {
        let row = world.ended(&format!("bad-{nth}"));
        assert_eq!(row["status"], "FAILED", "{row}");
        assert!(text(&row, "exception").contains(reason), "{row}");
        assert_eq!(text(&row, "content"), String::from_utf8_lossy(body));
        assert!(row["failure_time"].is_string(), "{row}");
        assert_eq!(world.ended(&format!("good-{nth}"))["status"], "COMPLETED");
    }
    running.stop_with_empty(&world, &["default"]);
}

fn a_body_that_can_not_be_read_is_not_made_readable_by_its_row(database: Database) {
    let world = world(database);
    world.publish(&[Raw::foreign("cat", Some("bad"), "{\"args\": 5}")]);
    // Die at the second commit: one claims the message, and the next inserts its row.
    let mut first = world.launch(&[], "ledger.after-commit=kill@2");
    assert_eq!(first.wait(), -9);
    world.await_ready("default", 1);
    assert!(world.take("default").is_some());

    let mut second = world.start(&[]);
    let row = world.ended("bad");
    assert_eq!(row["status"], "FAILED", "{row}");
    let reason = "\"args\" is a number, not an array";
    assert!(text(&row, "exception").contains(reason), "{row}");
    second.stop_with_empty(&world, &["default"]);
}

fn an_unreadable_message_of_django_carrot_is_failed_in_its_own_row(database: Database) {
    let world = world(database);
    world.insert_django_rows(&[json!({
        "uuid": "broken", "status": "PUBLISHED", "exchange": "", "queue": "default",
        "routing_key": "default", "priority": 0, "task": "cat", "task_args": "(1,)",
        "content": "{\"kept\": true}", "publish_time": "2026-01-01 00:00:00",
    })]);
    world.publish(&[Raw::django("cat", "broken", "{\"args\": [1")]);

    let mut running = world.start(&[]);

    let row = world.ended("broken");
    assert_eq!(row["status"], "FAILED", "{row}");
    assert!(text(&row, "exception").contains("the body is not JSON"));
    assert_eq!(row["task_args"], "(1,)");
    assert_eq!(row["content"], "{\"kept\": true}");
    running.stop_with_empty(&world, &["default"]);
}

fn a_message_that_names_no_known_task_is_failed_with_the_reason(database: Database) {
    let world = world(database);
    world.configure(&format!("unknown_tasks = 'fail'\n{CAT}"));
    let header = |value: AmqpValue| {
        let headers: FieldTable = [("type".to_owned(), value)].into_iter().collect();
        headers
    };
    let with = |id: &str, properties: AmqpProperties| Raw {
        properties: properties.with_message_id(id.to_owned()),
        body: b"{\"args\": [1]}".to_vec(),
        routing_key: "default".to_owned(),
    };
    let plain = AmqpProperties::default;
    world.publish(&[
        Raw::foreign("no.such.task", Some("unknown"), "{}"),
        Raw::foreign("nul\0task", Some("nul"), "{}"),
        with("none", plain()),
        with("empty", plain().with_headers(FieldTable::new())),
        with(
            "integer",
            plain().with_headers(header(AmqpValue::LongInt(7))),
        ),
        with(
            "list",
            plain().with_headers(header(AmqpValue::FieldArray(vec![AmqpValue::Boolean(
                true,
            )]))),
        ),
        Raw::foreign("cat", Some("good"), "{}"),
    ]);

    let mut running = world.start(&[]);

    assert_eq!(world.ended("good")["status"], "COMPLETED");
    let unknown = world.ended("unknown");
    assert_eq!(
        (&unknown["status"], &unknown["task"]),
        (&json!("FAILED"), &json!("no.such.task"))
    );
    assert!(text(&unknown, "exception").contains("no task \"no.such.task\" is registered"));
    let nul = world.ended("nul");
    assert_eq!(nul["status"], "FAILED");
    assert_eq!(nul["task"], "nul\u{fffd}task");
    for id in ["none", "empty", "integer", "list"] {
        let row = world.ended(id);
        assert_eq!(row["status"], "FAILED", "{row}");
        assert!(text(&row, "exception").contains("header `type`"), "{row}");
        assert_eq!(row["task_args"], "(1,)");
    }
    running.stop_with_empty(&world, &["default"]);
}

fn each_delivery_without_a_message_id_is_a_message_of_its_own(database: Database) {
    let world = world(database);
    let body = "{\"args\": [\"same\"]}";
    let none = Raw::foreign("cat", None, body);
    let empty = Raw::foreign("cat", Some(""), body);
    world.publish(&[none.clone(), empty.clone(), none, empty]);

    let mut running = world.start(&[]);

    world.await_completed(4);
    let rows = world.rows("SELECT uuid, task_args, output FROM carrot_messagelog");
    assert_eq!(rows.len(), 4);
    for row in &rows {
        assert_eq!(given(row)["uuid"], row["uuid"]);
        assert_eq!(row["task_args"], "('same',)");
    }
    running.stop_with_empty(&world, &["default"]);
}

fn a_message_id_that_the_column_can_not_hold_is_recognised_nevertheless(database: Database) {
    let world = world(database);
    for id in ["i".repeat(250), "nul\0id".to_owned()] {
        let message = Raw::foreign("cat", Some(&id), "{}");
        world.publish(&[message.clone(), message]);
    }

    let mut running = world.start(&[]);

    world.await_completed(2);
    running.stop_with_empty(&world, &["default"]);
    assert_eq!(world.rows("SELECT uuid FROM carrot_messagelog").len(), 2);
    assert_eq!(world.count("COMPLETED"), 2);
}

fn a_nul_in_a_message_is_no_obstacle(database: Database) {
    let world = world(database);
    let body = r#"{"args": ["a\u0000b"], "kwargs": {"k\u0000": "v\u0000"}}"#;
    world.publish(&[
        Raw::foreign("cat", Some("escaped"), body),
        Raw::foreign("cat", Some("raw"), "{\"args\": [\"a\0b\"]}"),
    ]);

    let mut running = world.start(&[]);

    let row = world.ended("escaped");
    assert_eq!(row["status"], "COMPLETED", "{row}");
    assert_eq!(given(&row)["args"], json!(["a\0b"]));
    assert_eq!(given(&row)["kwargs"], json!({"k\0": "v\0"}));
    let row = world.ended("raw");
    assert_eq!(row["status"], "FAILED", "{row}");
    assert!(text(&row, "exception").contains("not JSON"));
    assert_eq!(row["content"], "{\"args\": [\"a\u{fffd}b\"]}");
    running.stop_with_empty(&world, &["default"]);
}

fn a_body_of_megabytes_is_run_and_kept(database: Database) {
    let world = world(database);
    let long = "ž".repeat(2 << 20);
    let body = json!({"args": [long], "kwargs": {"long": long}}).to_string();
    world.publish(&[Raw::foreign("cat", Some("long"), body)]);

    let mut running = world.start(&[]);

    let row = world.ended("long");
    assert_eq!(row["status"], "COMPLETED", "{}", row["exception"]);
    assert!(
        given(&row)["args"][0] == long.as_str(),
        "the output differs"
    );
    assert!(given(&row)["kwargs"]["long"] == long.as_str());
    assert_eq!(text(&row, "task_args").chars().count(), (2 << 20) + 5);
    running.stop_with_empty(&world, &["default"]);
}

fn messages_of_higher_priority_are_run_first(database: Database) {
    let world = World::on(database, &CAT.replace("concurrency = 2", "concurrency = 1"));
    world.declare_queue("default");
    for priority in ["0", "255", "7"] {
        world.send(&["cat", priority, "--priority", priority]);
    }

    let mut running = world.start(&[]);

    world.await_completed(3);
    let rows = world.rows("SELECT priority FROM carrot_messagelog ORDER BY completion_time");
    let order: Vec<_> = rows.iter().map(|row| row["priority"].as_u64()).collect();
    assert_eq!(order, [Some(255), Some(7), Some(0)]);
    running.stop_with_empty(&world, &["default"]);
}

fn an_output_that_the_database_refuses_fails_its_message_and_no_other(database: Database) {
    let world = world(database);
    world.refuse("output", "forbidden");
    let message = |nth: usize| {
        let word = if nth == 13 { "forbidden" } else { "allowed" };
        Raw::foreign(
            "cat",
            Some(&format!("m-{nth}")),
            format!("{{\"args\": [\"{word}\"]}}"),
        )
    };
    world.publish(&(0..30).map(message).collect::<Vec<_>>());

    let mut running = world.start(&[]);

    let row = world.ended("m-13");
    assert_eq!(row["status"], "FAILED", "{row}");
    let reason = text(&row, "exception");
    assert!(
        reason.contains("the database refused its record"),
        "{reason}"
    );
    assert!(reason.contains("decent"), "{reason}");
    world.await_completed(29);
    running.stop_with_empty(&world, &["default"]);
}

fn a_queue_that_exists_with_other_arguments_is_a_clear_error_and_the_others_go_on(
    database: Database,
) {
    let world = World::on(database, &format!("{CAT}\n[[queues]]\nname = \"strict\"\n"));
    let mut connection = world.amqp();
    let channel = connection.open_channel(None).unwrap();
    let options = QueueDeclareOptions {
        durable: true,
        ..QueueDeclareOptions::default()
    };
    channel.queue_declare("strict", options).unwrap();
    drop(channel);
    connection.close().unwrap();

    let mut running = world.start(&[]);

    running.await_log("queue \"strict\" is not consumed: RabbitMQ refuses the declaration");
    let log = running.log();
    let line = log
        .lines()
        .find(|line| line.contains("is not consumed"))
        .unwrap();
    assert!(line.contains(" ERROR:: ") && line.contains("406"), "{line}");
    assert!(line.contains("x-max-priority"), "{line}");
    assert!(line.contains("queue_arguments"), "{line}");
    let uuid = world.send(&["cat", "--queue", "default"]);
    assert_eq!(world.ended(&uuid)["status"], "COMPLETED");
    running.stop_with_empty(&world, &["default"]);
}

fn a_queue_that_is_not_consumable_is_published_to_and_not_consumed(database: Database) {
    let world = World::on(
        database,
        &format!("{CAT}\n[[queues]]\nname = \"outbox\"\nconsumable = false\n"),
    );
    let waiting = world.send(&["cat", "--queue", "outbox"]);
    let mut running = world.start(&[]);

    let uuid = world.send(&["cat", "--queue", "default"]);

    assert_eq!(world.ended(&uuid)["status"], "COMPLETED");
    assert_eq!(running.terminate(), 0);
    assert_eq!(world.find(&waiting).unwrap()["status"], "PUBLISHED");
    assert_eq!(world.ready("outbox"), 1);
    assert!(!running.output().contains("outbox"), "{}", running.output());
}

fn published_messages_are_persistent_and_look_like_django_carrots(database: Database) {
    let world = world(database);
    let arguments = [
        "cat",
        "--args",
        "[1, \"two\"]",
        "--kwargs",
        "{\"size\": 2.50}",
    ];
    let uuid = world.send(&[&arguments[..], &["--priority", "9"]].concat());

    let message = world.take("default").unwrap();

    assert_eq!(
        message.body,
        br#"{"args":[1,"two"],"kwargs":{"size":2.50}}"#
    );
    assert_eq!(
        (message.exchange.as_str(), message.routing_key.as_str()),
        ("", "default")
    );
    let properties = &message.properties;
    assert_eq!(*properties.delivery_mode(), Some(2));
    assert_eq!(properties.type_().as_deref(), Some("django-carrot message"));
    assert_eq!(
        properties.content_type().as_deref(),
        Some("application/json")
    );
    assert_eq!(properties.message_id().as_deref(), Some(uuid.as_str()));
    assert_eq!(*properties.priority(), Some(9));
    let headers = properties.headers().as_ref().unwrap();
    assert_eq!(
        headers.get("type"),
        Some(&AmqpValue::LongString("cat".to_owned()))
    );
    let row = world.find(&uuid).unwrap();
    assert_eq!(row["status"], "PUBLISHED");
    assert_eq!(
        (&row["task_args"], &row["content"]),
        (&json!("(1, 'two')"), &json!("{\"size\":2.50}"))
    );
}
