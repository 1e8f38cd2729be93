//! Tasks that are Rust functions.

use std::io;

use carrot_actors::internals::service::Ended;
use carrot_actors::task::{Registry, TaskError};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::support::{InProcess, Raw, World, start_logging, text};

/// One consumer, so that messages run one after the other.
const ONE: &str = "[[queues]]\nname = \"default\"\n";

fn world() -> World {
    start_logging();
    let world = World::new(ONE);
    world.declare_queue("default");
    world
}

impl World {
    /// Publishes a message for `task` and waits for its end; its row.
    #[track_caller]
    fn outcome(&self, task: &str, body: &Value) -> Value {
        let uuid = uuid::Uuid::new_v4().to_string();
        self.publish(&[Raw::foreign(task, Some(&uuid), body.to_string())]);
        self.ended(&uuid)
    }
}

#[track_caller]
fn stop_with_empty(service: InProcess, world: &World) {
    assert_eq!(service.stop(), Ended::Drained);
    assert_eq!(world.ready("default"), 0);
}

/// The level and the message of a line of a log. Fails if another part is wrong.
#[track_caller]
fn parts(line: &str) -> (&str, &str) {
    let (head, message) = line.split_once(":: ").unwrap();
    let words: Vec<&str> = head.split(' ').collect();
    let [consumer, date, time, level] = words[..] else {
        panic!("{line}");
    };
    assert_eq!(consumer, "default-consumer-1");
    let stamp = format!("{date} {time}");
    let parsed = chrono::NaiveDateTime::parse_from_str(&stamp, "%Y-%m-%d %H:%M:%S,%3f");
    assert!(parsed.is_ok() && stamp.len() == 23, "{line}");
    (level, message)
}

#[derive(Deserialize)]
struct Size {
    width: u32,
    #[serde(default)]
    unit: String,
}

#[test]
fn functions_get_their_arguments_with_their_types() {
    let world = world();
    let mut registry = Registry::new();
    registry
        .register("sync", |context, arguments| {
            let (count, name): (u8, String) = arguments.positional()?;
            let size: Size = arguments.named()?;
            Ok(json!({
                "said": format!("{count} {name} {}{}", size.width, size.unit),
                "context": [context.uuid, context.task, context.queue, context.attempt],
            }))
        })
        .unwrap();
    registry
        .register_async("async", |_, arguments| async move {
            let (first, second): (i64, i64) = arguments.positional()?;
            actix_rt::task::yield_now().await;
            let sum = actix_rt::spawn(async move { first + second }).await?;
            Ok(json!({ "sum": sum }))
        })
        .unwrap();
    let service = world.in_process(registry);

    let body = json!({"args": [2, "boxes"], "kwargs": {"width": 30, "unit": "cm"}});
    let row = world.outcome("sync", &body);
    assert_eq!(row["status"], "COMPLETED", "{row}");
    let output: Value = serde_json::from_str(text(&row, "output")).unwrap();
    assert_eq!(output["said"], "2 boxes 30cm");
    assert_eq!(
        output["context"],
        json!([row["uuid"], "sync", "default", 1])
    );
    assert_eq!(row["attempts"], 1);

    let row = world.outcome("async", &json!({"args": [20, 22]}));
    assert_eq!(
        (&row["status"], &row["output"]),
        (&json!("COMPLETED"), &json!("{\"sum\":42}"))
    );
    stop_with_empty(service, &world);
}

#[test]
fn wrong_arguments_fail_the_message_and_name_what_is_wrong() {
    let world = world();
    let mut registry = Registry::new();
    registry
        .register("named", |_, arguments| {
            let size: Size = arguments.named()?;
            Ok(json!(size.width))
        })
        .unwrap();
    registry
        .register("positional", |_, arguments| {
            let (one, two): (i32, i32) = arguments.positional()?;
            Ok(json!(one + two))
        })
        .unwrap();
    let service = world.in_process(registry);

    for (task, body, reason) in [
        ("named", json!({"args": [1]}), "missing field `width`"),
        (
            "named",
            json!({"kwargs": {"width": "wide"}}),
            "\"wide\", expected u32",
        ),
        ("positional", json!({"args": [1]}), "invalid length 1"),
        (
            "positional",
            json!({"args": ["x", 2]}),
            "\"x\", expected i32",
        ),
    ] {
        let row = world.outcome(task, &body);
        assert_eq!(row["status"], "FAILED", "{row}");
        let exception = text(&row, "exception");
        assert!(
            exception.contains(&format!("wrong {task} arguments: ")),
            "{exception}"
        );
        assert!(exception.contains(reason), "{exception}");
    }
    stop_with_empty(service, &world);
}

#[derive(Debug, thiserror::Error)]
#[error("the report can't be built")]
struct Unbuilt(#[source] io::Error);

#[test]
fn an_error_fails_the_message_with_all_its_causes() {
    let world = world();
    let mut registry = Registry::new();
    registry
        .register("fails", |_, _| {
            log::warn!("about to fail");
            Err(Unbuilt(io::Error::other("the disk is full")))?
        })
        .unwrap();
    registry
        .register("says", |_, _| {
            Err(TaskError {
                traceback: Some("line 1\nline 2".to_owned()),
                output: Some("half of it".to_owned()),
                ..TaskError::new("not today")
            })
        })
        .unwrap();
    let service = world.in_process(registry);

    let row = world.outcome("fails", &json!({}));
    assert_eq!(row["status"], "FAILED");
    assert_eq!(
        row["exception"],
        "the report can't be built: the disk is full"
    );
    assert!(row["failure_time"].is_string() && row["completion_time"].is_null());
    let log: Vec<_> = text(&row, "log").lines().map(parts).collect();
    assert_eq!(log[1], ("WARNING", "about to fail"));
    let failed = "Task fails failed: the report can't be built: the disk is full";
    assert_eq!(log[2], ("ERROR", failed));

    let row = world.outcome("says", &json!({}));
    assert_eq!(row["exception"], "not today");
    assert_eq!(row["traceback"], "line 1\nline 2");
    assert_eq!(row["output"], "half of it");
    stop_with_empty(service, &world);
}

/// A panic payload that panics again when it is dropped.
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        panic!("and again");
    }
}

#[test]
fn a_panic_fails_its_message_and_the_same_consumer_runs_the_next() {
    let world = world();
    let mut registry = Registry::new();
    registry
        .register("panics", |_, _| {
            panic_here();
            Ok(Value::Null)
        })
        .unwrap();
    registry
        .register_async("panics_later", |_, _| async {
            actix_rt::task::yield_now().await;
            panic!("in the {}", "future")
        })
        .unwrap();
    registry
        .register("explodes", |_, _| std::panic::panic_any(Bomb))
        .unwrap();
    registry
        .register("thread", |_, _| {
            let id = format!("{:?}", std::thread::current().id());
            Ok(Value::String(id))
        })
        .unwrap();
    let service = world.in_process(registry);
    let before = world.outcome("thread", &json!({}));

    for (task, message) in [
        ("panics", "the task is broken"),
        ("panics_later", "in the future"),
        ("explodes", "(no message)"),
    ] {
        let row = world.outcome(task, &json!({}));
        assert_eq!(row["status"], "FAILED", "{row}");
        let exception = text(&row, "exception");
        assert!(exception.starts_with("panicked at "), "{exception}");
        assert!(
            exception.contains("tests/it/tasks/functions.rs:"),
            "{exception}"
        );
        assert!(exception.ends_with(message), "{exception}");
        let traceback = text(&row, "traceback");
        assert!(traceback.starts_with(exception), "{traceback}");
        assert!(traceback.contains("it::tasks::functions::"), "{traceback}");
        assert!(text(&row, "log").contains(" ERROR:: Task "), "{row}");
    }

    let after = world.outcome("thread", &json!({}));
    assert_eq!(after["output"], before["output"]);
    stop_with_empty(service, &world);
}

#[inline(never)]
fn panic_here() {
    panic!("the task is broken");
}

#[test]
fn lines_that_a_task_logs_are_in_its_row_in_django_carrots_format() {
    let world = world();
    let mut registry = Registry::new();
    registry
        .register("talks", |_, _| {
            log::set_max_level(log::LevelFilter::Debug);
            log::debug!("one");
            log::set_max_level(log::LevelFilter::Info);
            log::info!("two:: halves");
            log::warn!("three");
            log::error!("four");
            Ok(json!("done"))
        })
        .unwrap();
    registry
        .register_async("talks_later", |_, _| async {
            log::info!("before");
            actix_rt::spawn(async { log::info!("beside") }).await?;
            Ok(Value::Null)
        })
        .unwrap();
    let service = world.in_process(registry);

    let row = world.outcome("talks", &json!({}));
    let log: Vec<_> = text(&row, "log").lines().map(parts).collect();
    assert_eq!(
        log,
        [
            ("INFO", "Starting task talks"),
            ("DEBUG", "one"),
            ("INFO", "two:: halves"),
            ("WARNING", "three"),
            ("ERROR", "four"),
            (
                "INFO",
                "Task talks completed successfully with response done"
            ),
        ]
    );

    let row = world.outcome("talks_later", &json!({}));
    let log: Vec<_> = text(&row, "log")
        .lines()
        .map(|line| parts(line).1)
        .collect();
    assert_eq!(
        log,
        [
            "Starting task talks_later",
            "before",
            "beside",
            "Task talks_later completed successfully with response None",
        ]
    );
    stop_with_empty(service, &world);
}

#[test]
fn an_output_reads_as_python_would_write_it_and_an_object_as_json() {
    let world = world();
    let mut registry = Registry::new();
    registry
        .register("echo", |_, arguments| Ok(arguments.args[0].clone()))
        .unwrap();
    let service = world.in_process(registry);

    for (returned, output) in [
        (
            json!({"a": [1, true, null]}),
            json!("{\"a\":[1,true,null]}"),
        ),
        (json!("plain \"text\""), json!("plain \"text\"")),
        (Value::Null, Value::Null),
        (
            json!([1, "it's", null, true, {"k": 2.5}]),
            json!("[1, \"it's\", None, True, {'k': 2.5}]"),
        ),
        (json!(true), json!("True")),
        (json!(12.0), json!("12.0")),
        (json!(""), json!("")),
    ] {
        let row = world.outcome("echo", &json!({"args": [returned]}));
        assert_eq!(row["status"], "COMPLETED", "{row}");
        assert_eq!(row["output"], output, "{returned}");
    }
    stop_with_empty(service, &world);
}

#[test]
fn a_nul_in_an_output_or_a_log_is_replaced() {
    let world = world();
    let mut registry = Registry::new();
    registry
        .register("completes", |_, _| {
            log::info!("l\0g");
            Ok(json!("o\0t"))
        })
        .unwrap();
    registry
        .register("fails", |_, _| Err(TaskError::new("e\0x")))
        .unwrap();
    registry.register("panics", |_, _| panic!("p\0c")).unwrap();
    let service = world.in_process(registry);

    let row = world.outcome("completes", &json!({}));
    assert_eq!(row["status"], "COMPLETED", "{row}");
    assert_eq!(row["output"], "o\u{fffd}t");
    assert!(text(&row, "log").contains(" INFO:: l\u{fffd}g\n"), "{row}");
    let row = world.outcome("fails", &json!({}));
    assert_eq!(
        (&row["status"], &row["exception"]),
        (&json!("FAILED"), &json!("e\u{fffd}x"))
    );
    let row = world.outcome("panics", &json!({}));
    assert!(text(&row, "exception").ends_with("p\u{fffd}c"), "{row}");
    assert!(text(&row, "traceback").contains("p\u{fffd}c"), "{row}");
    stop_with_empty(service, &world);
}
