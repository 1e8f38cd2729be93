//! The functions of an app, and what their arguments extract.

use std::io;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use carrot_actors::internals::service::{Ended, ServiceError};
use carrot_actors::message::Arguments;
use carrot_actors::{
    App, Args, Client, Kwargs, Middleware, Next, PublishError, State, TaskContext, TaskError,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::support::{InProcess, Raw, World, start_logging, text};

#[derive(Deserialize)]
struct Resize {
    width: u32,
    #[serde(default)]
    names: Vec<String>,
}

#[derive(Serialize)]
struct Resized {
    path: String,
    width: u32,
    total: u32,
    context: (String, String, String, u32),
}

fn resize(
    Args((path,)): Args<(String,)>,
    Kwargs(resize): Kwargs<Resize>,
    total: State<AtomicU32>,
    context: TaskContext,
) -> Result<Resized, io::Error> {
    if resize.names.iter().any(|name| name == "bad") {
        return Err(io::Error::other("a bad name"));
    }
    Ok(Resized {
        path,
        width: resize.width,
        total: total.fetch_add(1, Ordering::Relaxed),
        context: (context.uuid, context.task, context.queue, context.attempt),
    })
}

async fn sum(Args(numbers): Args<Vec<i64>>, total: State<AtomicU32>) -> Result<i64, TaskError> {
    actix_rt::task::yield_now().await;
    total.fetch_add(10, Ordering::Relaxed);
    Ok(numbers.iter().sum())
}

fn nothing() -> Result<(), TaskError> {
    Ok(())
}

/// Publishes two more messages with the client of the service.
async fn spread(Args((number,)): Args<(i64,)>, client: Client) -> Result<String, PublishError> {
    let first = client.task("sum").args((number, 1)).publish_async().await?;
    let second = client.task("sum").args((number, 2)).publish()?;
    Ok(format!("{} {}", first.uuid, second.uuid))
}

fn app() -> App {
    App::new()
        .task("resize", resize)
        .task("sum", sum)
        .task("nothing", nothing)
        .task("spread", spread)
        .task("twice", |Args((n,)): Args<(u32,)>| {
            Ok::<_, TaskError>(2 * n)
        })
        .state_with(|config| {
            let queues = u32::try_from(config.queues.len());
            queues.map(AtomicU32::new)
        })
}

fn world() -> World {
    let world = World::new("[[queues]]\nname = \"default\"\nconcurrency = 2\n");
    world.declare_queue("default");
    world
}

fn service(world: &World, app: App) -> InProcess {
    world.in_process(app.into_registry().unwrap())
}

#[track_caller]
fn outcome(world: &World, task: &str, body: &Value) -> Value {
    let uuid = uuid::Uuid::new_v4().to_string();
    world.publish(&[Raw::foreign(task, Some(&uuid), body.to_string())]);
    world.ended(&uuid)
}

#[test]
fn functions_get_what_their_arguments_extract() {
    let world = world();
    let service = service(&world, app());
    let body = json!({"args": ["a.png"], "kwargs": {"width": 30, "unknown": 1}});
    let row = outcome(&world, "resize", &body);
    assert_eq!(row["status"], "COMPLETED", "{row}");
    let output: Value = serde_json::from_str(text(&row, "output")).unwrap();
    let context = json!([row["uuid"], "resize", "default", 1]);
    assert_eq!(
        output,
        json!({"path": "a.png", "width": 30, "total": 1, "context": context})
    );
    let row = outcome(&world, "sum", &json!({"args": [1, 2, 3]}));
    assert_eq!(row["output"], "6", "{row}");
    let row = outcome(&world, "resize", &body);
    let output: Value = serde_json::from_str(text(&row, "output")).unwrap();
    assert_eq!(output["total"], 12);
    let row = outcome(&world, "nothing", &json!({}));
    assert_eq!(
        (&row["status"], &row["output"]),
        (&json!("COMPLETED"), &Value::Null)
    );
    let row = outcome(&world, "twice", &json!({"args": [21]}));
    assert_eq!(row["output"], "42");
    assert_eq!(service.stop(), Ended::Drained);
}

#[test]
fn arguments_of_the_wrong_types_fail_the_message_and_are_named() {
    let world = world();
    let service = service(&world, app());
    for (task, body, expected) in [
        (
            "resize",
            json!({"args": ["a.png"], "kwargs": {"width": "wide"}}),
            "wrong named arguments: width: invalid type: string \"wide\", expected u32",
        ),
        (
            "resize",
            json!({"args": ["a.png"], "kwargs": {"width": 1, "names": ["a", 2]}}),
            "wrong named arguments: names[1]: invalid type: integer `2`, expected a string",
        ),
        (
            "resize",
            json!({"args": ["a.png"]}),
            "wrong named arguments: missing field `width`",
        ),
        (
            "resize",
            json!({"kwargs": {"width": 1}}),
            "wrong positional arguments: invalid length 0, expected a tuple of size 1",
        ),
        (
            "sum",
            json!({"args": [1, "b"]}),
            "wrong positional arguments: [1]: invalid type: string \"b\", expected i64",
        ),
        (
            "resize",
            json!({"args": ["a.png"], "kwargs": {"width": 1, "names": ["bad"]}}),
            "a bad name",
        ),
    ] {
        let row = outcome(&world, task, &body);
        assert_eq!(row["status"], "FAILED", "{row}");
        assert_eq!(row["exception"], expected);
    }
    assert_eq!(service.stop(), Ended::Drained);
}

#[test]
fn an_app_that_can_not_work_is_refused_before_it_starts() {
    let why = |app: App| match app.into_registry() {
        Ok(_) => panic!("it is not refused"),
        Err(error) => error.to_string(),
    };
    let twice = app().task("sum", nothing).task("other", nothing);
    assert_eq!(
        why(twice),
        "task \"sum\" is registered twice: give one of them another name"
    );
    let missing = why(App::new().task("sum", sum));
    assert!(
        missing.contains("task \"sum\": there is no state"),
        "{missing}"
    );
    assert!(missing.contains("AtomicU32"), "{missing}");
    let two = why(app().state(AtomicU32::new(2)));
    assert!(two.contains("two states of the type"), "{two}");
}

#[test]
fn a_service_whose_state_can_not_be_created_says_why() {
    let world = world();
    let app = App::new().state_with(|_| Err::<u8, _>("no more pools"));
    let registry = app.into_registry().unwrap();
    let (_signals, receiver) = crossbeam_channel::unbounded();
    let ended = world.service(registry, world.config()).run(&receiver);
    let Err(error @ ServiceError::State(_)) = ended else {
        panic!("{ended:?}");
    };
    assert_eq!(
        error.to_string(),
        "the state u8 could not be made: no more pools"
    );
    // It has removed its worker.
    assert_eq!(
        world.rows("SELECT id FROM carrot_worker"),
        Vec::<Value>::new()
    );
}

#[test]
fn a_task_publishes_by_the_client_of_its_service() {
    let world = world();
    let service = service(&world, app());
    let row = outcome(&world, "spread", &json!({"args": [40]}));
    assert_eq!(row["status"], "COMPLETED", "{row}");
    let uuids: Vec<&str> = text(&row, "output").split(' ').collect();
    let sums: Vec<Value> = uuids.iter().map(|uuid| world.ended(uuid)).collect();
    assert_eq!(sums[0]["output"], "41", "{sums:?}");
    assert_eq!(sums[1]["output"], "42", "{sums:?}");
    assert_eq!(service.stop(), Ended::Drained);
}

#[test]
fn lines_that_another_thread_logs_with_the_tasks_logger_are_in_its_row() {
    start_logging();
    let world = world();
    let app = App::new().task("log", |context: TaskContext| {
        let logger = context.logger();
        let thread = std::thread::spawn(move || {
            log::info!("of the thread alone");
            log::warn!(logger: logger, "of the task");
            logger.capture(|| log::info!("of the task too"));
        });
        thread.join().map_err(|_| TaskError::new("it panicked"))
    });
    let service = service(&world, app);
    let row = outcome(&world, "log", &json!({}));
    let log = text(&row, "log");
    assert!(log.contains(" WARNING:: of the task\n"), "{log}");
    assert_eq!(log.matches("of the task\n").count(), 1, "{log}");
    assert!(log.contains(" INFO:: of the task too"), "{log}");
    assert!(!log.contains("of the thread alone"), "{log}");
    assert_eq!(service.stop(), Ended::Drained);
}

#[test]
fn a_long_task_can_see_that_its_service_is_stopping() {
    let world = world();
    let (began, begun) = crossbeam_channel::bounded(2);
    let began_too = began.clone();
    let app = App::new()
        .task("wait", move |context: TaskContext| {
            let began = began.clone();
            async move {
                assert!(!context.is_cancelled());
                began.send(()).map_err(|_| TaskError::new("nobody waits"))?;
                context.cancelled().await;
                Ok::<_, TaskError>("told")
            }
        })
        .task("look", move |context: TaskContext| {
            began_too
                .send(())
                .map_err(|_| TaskError::new("nobody waits"))?;
            while !context.is_cancelled() {
                std::thread::sleep(std::time::Duration::from_millis(5));
            }
            Ok::<_, TaskError>("seen")
        });
    let service = service(&world, app);
    let uuids = ["wait", "look"].map(|task| world.send(&[task]));
    begun.recv().unwrap();
    begun.recv().unwrap();
    assert_eq!(service.stop(), Ended::Drained);
    let outputs = uuids.map(|uuid| world.ended(&uuid)["output"].clone());
    assert_eq!(outputs, [json!("told"), json!("seen")]);
}

/// A middleware that records what it sees, and where. The inner one refuses some tasks.
struct Notes {
    name: &'static str,
    seen: Arc<Mutex<Vec<String>>>,
}

impl Notes {
    fn note(&self, what: &str, context: &TaskContext, arguments: &Arguments, how: &str) {
        let args = json!(arguments.args);
        let line = format!("{} {what} {} {args}{how}", self.name, context.task);
        self.seen.lock().unwrap().push(line);
    }
}

impl Middleware for Notes {
    fn around(
        &self,
        context: &TaskContext,
        arguments: &Arguments,
        next: Next<'_>,
    ) -> Result<Value, TaskError> {
        log::info!("{} before", self.name);
        self.note("before", context, arguments, "");
        match (self.name, context.task.as_str()) {
            ("inner", "refused") => return Err(TaskError::new("not today")),
            ("inner", "refused with a panic") => panic!("no way"),
            _ => {}
        }
        let outcome = next.run();
        let how = match &outcome {
            Ok(output) => format!(" {output}"),
            Err(error) => format!(" {}", error.exception),
        };
        self.note("after", context, arguments, &how);
        assert!(context.task != "panics after", "in {}", self.name);
        outcome
    }

    fn on_failure(&self, context: &TaskContext, arguments: &Arguments, error: &TaskError) {
        let how = format!(" {}", error.exception);
        self.note("on_failure", context, arguments, &how);
    }
}

#[test]
fn middleware_is_entered_and_left_in_order_with_message_and_outcome() {
    start_logging();
    let world = World::new("unknown_tasks = \"fail\"\n[[queues]]\nname = \"default\"\n");
    world.declare_queue("default");
    let seen = Arc::new(Mutex::new(Vec::new()));
    let notes = |name| Notes {
        name,
        seen: Arc::clone(&seen),
    };
    let failures = Arc::clone(&seen);
    let task = |Args((n,)): Args<(u32,)>| match n {
        13 => Err(TaskError::new("unlucky")),
        n => Ok(n),
    };
    let app = App::new()
        .task("task", task)
        .task("refused", task)
        .task("refused with a panic", task)
        .task("panics after", task)
        .middleware(notes("outer"))
        .middleware(notes("inner"))
        .on_failure(move |context, _, error| {
            let line = format!("hook {} {}", context.task, error.exception);
            failures.lock().unwrap().push(line);
        });
    let service = service(&world, app);
    let run = |task: &str, n: u32| {
        let row = outcome(&world, task, &json!({ "args": [n] }));
        (row, std::mem::take(&mut *seen.lock().unwrap()))
    };

    let (row, noted) = run("task", 7);
    let in_order = [
        "outer before task [7]",
        "inner before task [7]",
        "inner after task [7] 7",
        "outer after task [7] 7",
    ];
    assert_eq!(noted, in_order);
    assert!(text(&row, "log").contains(" INFO:: inner before"), "{row}");
    let (row, noted) = run("task", 13);
    assert_eq!(row["exception"], "unlucky");
    let in_order = [
        "inner after task [13] unlucky",
        "outer after task [13] unlucky",
        "outer on_failure task [13] unlucky",
        "inner on_failure task [13] unlucky",
        "hook task unlucky",
    ];
    assert_eq!(noted[2..], in_order);
    let (row, noted) = run("refused", 1);
    assert_eq!(row["status"], "FAILED");
    assert_eq!(row["exception"], "not today");
    assert_eq!(noted[2], "outer after refused [1] not today");
    let (row, _) = run("refused with a panic", 1);
    assert_eq!(row["status"], "FAILED");
    assert!(text(&row, "exception").contains("no way"), "{row}");
    // A panic after the task does not change its outcome.
    let (row, noted) = run("panics after", 2);
    assert_eq!(
        (&row["status"], &row["output"]),
        (&json!("COMPLETED"), &json!("2"))
    );
    assert_eq!(noted.len(), 4, "{noted:?}");
    // `on_failure` is also called for messages that could not be run.
    let (row, noted) = run("unknown", 1);
    assert_eq!(row["status"], "FAILED");
    assert!(
        noted[0].starts_with("outer on_failure unknown [1] no task"),
        "{noted:?}"
    );
    assert_eq!(noted.len(), 3);
    assert_eq!(service.stop(), Ended::Drained);
}
