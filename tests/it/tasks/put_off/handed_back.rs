//! Tasks hand their messages back.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use carrot_actors::internals::service::Ended;
use carrot_actors::message::Arguments;
use carrot_actors::{Again, App, Middleware, Next, TaskContext, TaskError};
use serde_json::{Value, json};

use crate::support::{Backend, cases, eventually, traced_task};

cases! { on every_database_and_broker:
    a_message_that_a_function_hands_back_at_a_stop_is_run_by_the_next_and_not_counted,
    a_message_that_a_function_hands_back_at_any_other_time_is_run_again_after_a_while,
    a_command_that_exits_with_75_at_a_stop_hands_its_message_back,
}

const ONE: &str = "[[queues]]\nname = 'default'\nconcurrency = 2\n";

/// A middleware that records failures and what happens after a task.
struct Notes(Arc<Mutex<Vec<String>>>);

impl Middleware for Notes {
    fn around(&self, _: &TaskContext, _: &Arguments, next: Next<'_>) -> Result<Value, TaskError> {
        let outcome = next.run();
        let again = outcome.as_ref().is_err_and(|error| error.again.is_some());
        self.0
            .lock()
            .unwrap()
            .push(format!("after, again: {again}"));
        outcome
    }

    fn on_failure(&self, _: &TaskContext, _: &Arguments, error: &TaskError) {
        self.0.lock().unwrap().push(error.exception.clone());
    }
}

fn a_message_that_a_function_hands_back_at_a_stop_is_run_by_the_next_and_not_counted(
    backend: Backend,
) {
    let world = backend.world(ONE);
    let begun = Arc::new(AtomicU32::new(0));
    let notes = Arc::default();
    let (of_sync, of_async) = (Arc::clone(&begun), Arc::clone(&begun));
    let app = App::new()
        .middleware(Notes(Arc::clone(&notes)))
        .task("sync", move |context: TaskContext| {
            of_sync.fetch_add(1, Ordering::Relaxed);
            while !context.is_cancelled() {
                std::thread::sleep(Duration::from_millis(5));
            }
            Err::<(), _>(Again::new("half done"))
        })
        .task("async", move |context: TaskContext| {
            of_async.fetch_add(1, Ordering::Relaxed);
            async move {
                context.cancelled().await;
                Err::<(), _>(anyhow::Error::from(Again::new("half done")).context("the import"))
            }
        });
    let uuids = ["sync", "async"].map(|task| world.send(&[task]));
    let service = world.in_process(app.into_registry().unwrap());
    eventually("both messages run", || begun.load(Ordering::Relaxed) == 2);
    assert_eq!(service.stop(), Ended::Drained);
    for uuid in &uuids {
        let row = world.find(uuid).unwrap();
        // The sweep may already have published it.
        assert!(
            row["status"] == "PENDING" || row["status"] == "PUBLISHED",
            "{row}"
        );
        let why = row["put_off_reason"].as_str().unwrap();
        assert!(
            why.starts_with("handed back: ") && why.ends_with("half done"),
            "{row}"
        );
        assert_eq!(row["attempts"], 0);
    }
    assert_eq!(*notes.lock().unwrap(), ["after, again: true"; 2]);

    let attempts = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&attempts);
    let noted = move |context: TaskContext| {
        seen.lock().unwrap().push(context.attempt);
        Ok::<_, TaskError>("done")
    };
    let app = App::new().task("sync", noted.clone()).task("async", noted);
    let service = world.in_process(app.into_registry().unwrap());
    for uuid in &uuids {
        let row = world.ended(uuid);
        assert_eq!(
            (&row["output"], &row["attempts"]),
            (&json!("done"), &json!(1))
        );
    }
    assert_eq!(*attempts.lock().unwrap(), [1, 1]);
    assert_eq!(service.stop(), Ended::Drained);
    assert_eq!(world.ready("default"), 0);
}

fn a_message_that_a_function_hands_back_at_any_other_time_is_run_again_after_a_while(
    backend: Backend,
) {
    let world = backend.world(ONE);
    let runs = Arc::new(Mutex::new(Vec::new()));
    let noted = Arc::clone(&runs);
    let app = App::new().task("poll", move || {
        let mut runs = noted.lock().unwrap();
        runs.push(std::time::Instant::now());
        match runs.len() {
            1 | 2 => Err(Again::new("not there yet")),
            runs => Ok(runs),
        }
    });
    let uuid = world.send(&["poll"]);
    let service = world.in_process(app.into_registry().unwrap());
    let row = world.ended(&uuid);
    assert_eq!((&row["output"], &row["attempts"]), (&json!("3"), &json!(1)));
    let runs = runs.lock().unwrap();
    assert!(runs[1] - runs[0] > Duration::from_millis(900));
    assert!(runs[2] - runs[1] > Duration::from_millis(1800));
    assert_eq!(service.stop(), Ended::Drained);
}

fn a_command_that_exits_with_75_at_a_stop_hands_its_message_back(backend: Backend) {
    let busy = traced_task("busy", "while [ ! -e go ]; do sleep 0.02; done; exit 75");
    let world = backend.world(&format!("{ONE}{busy}"));
    let uuid = world.send(&["busy"]);
    let mut service = world.start(&["--no-scheduler"]);
    world.await_runs(&uuid, 1);
    service.signal(rustix::process::Signal::TERM);
    service.await_log("told to stop");
    world.release_tasks();
    assert_eq!(service.wait(), 0);
    let row = world.find(&uuid).unwrap();
    assert!(
        row["status"] == "PENDING" || row["status"] == "PUBLISHED",
        "{row}"
    );
    assert_eq!(row["attempts"], 0);
    assert!(
        service
            .log()
            .contains("its task handed it back: the command exited with status 75")
    );

    // When the service does not stop, 75 is a failure like any other status.
    let second = world.start(&["--no-scheduler"]);
    let row = world.ended(&uuid);
    assert_eq!(
        (&row["status"], &row["attempts"]),
        (&json!("FAILED"), &json!(1))
    );
    assert_eq!(row["exception"], "the command exited with status 75");
    drop(second);
}

#[test]
fn a_test_sees_that_a_message_was_handed_back_and_does_not_run_it_again() {
    let mut app = App::new()
        .task("again", || Err::<(), _>(Again::new("not now")))
        .test()
        .unwrap();
    let outcome = app.run(app.task("again")).unwrap();
    let error = outcome.result.unwrap_err();
    assert_eq!(error.exception, "not now");
    assert_eq!(error.again, Some(Again::new("not now")));
    assert!(app.run_until_idle().unwrap().is_empty());
    // In a test, a message for an unknown task fails at once.
    let outcome = app.run(app.task("unknown")).unwrap();
    let error = outcome.result.unwrap_err();
    assert!(
        error.exception.starts_with("no task \"unknown\""),
        "{error:?}"
    );
    assert_eq!(error.again, None);
}
