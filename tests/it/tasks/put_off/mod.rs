//! A run is put off where the machine lacks something, or the service does not know the task. That is not the
//! message's fault.

mod handed_back;
mod resources;

use std::fs;
use std::os::unix::fs::PermissionsExt;

use serde_json::{Value, json};

use crate::support::{Backend, Running, World, cases, eventually, text, traced_config};

cases! { on every_database_and_broker:
    a_task_that_one_service_does_not_know_is_run_by_another_that_does,
    an_unknown_task_fails_its_message_in_the_end_with_the_nearest_name,
    a_program_that_comes_back_runs_its_message,
    a_program_that_does_not_come_back_fails_its_message,
    a_program_that_is_being_written_is_waited_for,
    a_missing_directory_is_waited_for,
    a_message_that_its_row_can_not_reproduce_waits_in_its_slot,
    a_row_that_the_database_refuses_waits_in_its_slot_and_holds_up_no_other,
    a_message_that_waits_in_its_slot_goes_back_when_the_service_stops,
    a_service_that_dies_before_the_put_off_leaves_its_message_to_the_next,
    a_service_that_dies_after_the_put_off_has_its_message_published_once_more,
}

/// One queue, and a task `tool` whose program does not exist.
const TOOL: &str = "[[queues]]\nname = 'default'\nconcurrency = 2\n\
    [tasks.tool]\ncommand = ['./tool']\n[tasks.other]\ncommand = ['true']\n";

impl World {
    /// Starts a service with failpoints and this patience, in seconds.
    fn start_patient(&self, patience: &str, failpoints: &str) -> Running {
        let mut command = self.command(&["--no-scheduler"]);
        command
            .env("CARROT_PATIENCE", patience)
            .env("CARROT_FAILPOINTS", failpoints);
        let running = self.spawn(command);
        running.await_log("consuming queue");
        running
    }

    /// Waits until the message is put off; its row.
    #[track_caller]
    fn await_put_off(&self, uuid: &str, reason: &str) -> Value {
        eventually(&format!("{uuid} is put off for {reason:?}"), || {
            let row = self.find(uuid)?;
            let why = row["put_off_reason"].as_str().unwrap_or_default();
            (row["status"] == "PENDING" && why.starts_with(reason)).then_some(row)
        })
    }

    /// Creates the program of the task `tool`.
    fn write_tool(&self) {
        let path = self.directory().join("tool");
        self.write("tool.new", "#!/bin/sh\necho done\n");
        let new = self.directory().join("tool.new");
        fs::set_permissions(&new, fs::Permissions::from_mode(0o755)).unwrap();
        fs::rename(new, path).unwrap();
    }
}

fn lines_with(service: &Running, text: &str) -> usize {
    let log = service.log();
    log.lines().filter(|line| line.contains(text)).count()
}

fn a_task_that_one_service_does_not_know_is_run_by_another_that_does(backend: Backend) {
    let world = backend.world("[[queues]]\nname = 'default'\n");
    let mut old = world.start(&[]);
    let uuids: Vec<String> = (0..3).map(|_| world.send(&["note"])).collect();
    for uuid in &uuids {
        let row = world.await_put_off(uuid, "unknown task: no task \"note\" is registered");
        assert!(row["put_off_since"].is_string(), "{row}");
        assert_eq!(
            (&row["attempts"], &row["exception"]),
            (&json!(0), &Value::Null)
        );
    }
    world.configure(&traced_config("", 2));
    let new = world.start(&[]);
    // Either service may get a message. In the end the old service is replaced.
    eventually("the first message is COMPLETED", || {
        world.count("COMPLETED") > 0
    });
    old.stop_with_empty(&world, &[]);
    for uuid in &uuids {
        assert_eq!(world.ended(uuid)["status"], "COMPLETED");
    }
    // The old service logs it once for all messages.
    assert_eq!(lines_with(&old, "no task \"note\""), 1, "{}", old.log());
    assert!(old.log().contains("(for at most 15m)"));
    world.assert_all_well(vec![new], &uuids);
    assert!(
        uuids
            .iter()
            .all(|uuid| world.find(uuid).unwrap()["attempts"] == 1)
    );
}

fn an_unknown_task_fails_its_message_in_the_end_with_the_nearest_name(backend: Backend) {
    let world = backend.world(TOOL);
    let uuid = world.send(&["otter"]);
    let mut service = world.start_patient("unknown=2", "");
    world.await_put_off(&uuid, "unknown task");
    let row = world.ended(&uuid);
    assert_eq!(
        (&row["status"], &row["attempts"]),
        (&json!("FAILED"), &json!(0))
    );
    assert_eq!(
        row["exception"],
        "no task \"otter\" is registered with this service; did you mean \"other\"? (for at most 2s)"
    );
    service.stop_with_empty(&world, &["default"]);
}

fn a_program_that_comes_back_runs_its_message(backend: Backend) {
    let world = backend.world(TOOL);
    let mut service = world.start_patient("program=60; over=10", "");
    let uuids = [
        world.send(&["tool"]),
        world.send(&["tool", "--args", "[1, 2.50]"]),
    ];
    for uuid in &uuids {
        let row = world.await_put_off(uuid, "no program: ");
        assert!(
            text(&row, "put_off_reason").contains("can't be started: No such file"),
            "{row}"
        );
    }
    let other = world.send(&["other"]);
    assert_eq!(world.ended(&other)["status"], "COMPLETED");
    world.write_tool();
    for uuid in &uuids {
        let row = world.ended(uuid);
        assert_eq!(
            (&row["status"], &row["output"]),
            (&json!("COMPLETED"), &json!("done"))
        );
        assert_eq!(
            (&row["attempts"], &row["exception"]),
            (&json!(1), &Value::Null)
        );
    }
    // It is logged when it begins, and when it is over.
    service.await_log("no message is put off any more for no program");
    assert_eq!(lines_with(&service, "No such file"), 2, "{}", service.log());
    assert_eq!(lines_with(&service, "is put off, and"), 1);
    service.stop_with_empty(&world, &["default"]);
}

fn a_program_that_does_not_come_back_fails_its_message(backend: Backend) {
    let world = backend.world(TOOL);
    let uuid = world.send(&["tool"]);
    let mut service = world.start_patient("program=2", "");
    let row = world.ended(&uuid);
    assert_eq!(
        (&row["status"], &row["attempts"]),
        (&json!("FAILED"), &json!(0))
    );
    let why = text(&row, "exception");
    assert!(
        why.contains("tool\" can't be started: No such file"),
        "{why}"
    );
    assert!(why.ends_with("(for at most 2s)"), "{why}");
    service.stop_with_empty(&world, &["default"]);
}

fn a_program_that_is_being_written_is_waited_for(backend: Backend) {
    let world = backend.world(TOOL);
    world.write_tool();
    let path = world.directory().join("tool");
    let written = fs::OpenOptions::new().append(true).open(&path).unwrap();
    let uuid = world.send(&["tool"]);
    let mut service = world.start_patient("", "");
    let row = world.await_put_off(&uuid, "no program: ");
    assert!(
        text(&row, "put_off_reason").contains("Text file busy"),
        "{row}"
    );
    drop(written);
    assert_eq!(world.ended(&uuid)["output"], "done");
    service.stop_with_empty(&world, &["default"]);
}

fn a_missing_directory_is_waited_for(backend: Backend) {
    let world = backend.world(
        "[[queues]]\nname = 'default'\n[tasks.tool]\ncommand = ['pwd']\ndirectory = 'release'\n",
    );
    let uuid = world.send(&["tool"]);
    let mut service = world.start_patient("", "");
    world.await_put_off(&uuid, "no program: ");
    fs::create_dir(world.directory().join("release")).unwrap();
    assert!(text(&world.ended(&uuid), "output").ends_with("/release"));
    service.stop_with_empty(&world, &["default"]);
}

/// The name of a task that is too long for a row.
fn long_name() -> String {
    "x".repeat(230)
}

/// Sends a message that its row can't reproduce, as other programs can: with a different row, or, in
/// RabbitMQ, with a long task name.
fn send_uncarried(world: &World) -> String {
    use crate::support::Raw;
    let uuid = uuid::Uuid::new_v4().to_string();
    if world.is_embedded() {
        // A message of the embedded broker is its row. The database refuses to change this one.
        world.refuse("put_off_reason", "stubborn");
        return world.send(&["stubborn"]);
    }
    world.insert_published("default", "nan", std::slice::from_ref(&uuid));
    world.publish(&[Raw::django("nan", &uuid, "{\"args\": [NaN]}")]);
    uuid
}

fn a_message_that_its_row_can_not_reproduce_waits_in_its_slot(backend: Backend) {
    let world = backend.world(TOOL);
    world.declare_queue("default");
    let uuid = send_uncarried(&world);
    let named = (!backend.is_embedded).then(|| {
        let uuid = uuid::Uuid::new_v4().to_string();
        let raw = crate::support::Raw::foreign(&long_name(), Some(&uuid), "{}");
        world.publish(&[raw]);
        uuid
    });
    let mut service = world.start_patient("unknown=4", "");
    eventually("the message keeps its slot", || {
        (world.find(&uuid)?["status"] == "IN_PROGRESS").then_some(())
    });
    service.await_log("is put off, and others like it");
    assert_eq!(world.find(&uuid).unwrap()["status"], "IN_PROGRESS");
    for uuid in [Some(uuid), named].into_iter().flatten() {
        let row = world.ended(&uuid);
        assert_eq!(row["status"], "FAILED", "{row}");
        assert!(text(&row, "exception").starts_with("no task \""), "{row}");
        assert!(
            text(&row, "exception").ends_with("(for at most 4s)"),
            "{row}"
        );
    }
    service.stop_with_empty(&world, &["default"]);
}

fn a_row_that_the_database_refuses_waits_in_its_slot_and_holds_up_no_other(backend: Backend) {
    let world = backend.world(TOOL);
    world.refuse("put_off_reason", "stubborn");
    let mut service = world.start_patient("unknown=5", "");
    let stubborn = world.send(&["stubborn"]);
    let docile = world.send(&["docile"]);
    world.await_put_off(&docile, "unknown task");
    let other = world.send(&["other"]);
    assert_eq!(world.ended(&other)["status"], "COMPLETED");
    assert_eq!(world.ended(&stubborn)["status"], "FAILED");
    assert_eq!(world.ended(&docile)["status"], "FAILED");
    service.stop_with_empty(&world, &["default"]);
}

fn a_message_that_waits_in_its_slot_goes_back_when_the_service_stops(backend: Backend) {
    let world = backend.world(TOOL);
    world.declare_queue("default");
    let uuid = send_uncarried(&world);
    let mut service = world.start_patient("", "");
    service.await_log("is put off, and others like it");
    assert_eq!(world.find(&uuid).unwrap()["status"], "IN_PROGRESS");
    assert_eq!(service.terminate(), 0);
    assert_eq!(world.find(&uuid).unwrap()["status"], "PUBLISHED");
    assert_eq!(world.ready("default"), 1);
}

/// A service is killed at `failpoint`, and leaves its message in `status`. The next service runs the message.
#[track_caller]
fn assert_run_after_a_death(backend: Backend, failpoint: &str, status: &str) {
    let world = backend.world(TOOL);
    let uuid = world.send(&["tool"]);
    let mut first = world.launch(&[], failpoint);
    assert_eq!(first.wait(), -9);
    assert_eq!(world.find(&uuid).unwrap()["status"], status);
    world.write_tool();
    let mut second = world.start(&[]);
    let row = world.ended(&uuid);
    assert_eq!(
        (&row["status"], &row["attempts"]),
        (&json!("COMPLETED"), &json!(1)),
        "{row}"
    );
    assert_eq!(second.terminate(), 0);
    // One of its two copies may not have been delivered yet. It is acknowledged by the row, whichever service
    // gets it.
    let (code, _, err) = world.run(&["--testmode", "--logfile", "carrot.log"]);
    assert_eq!((code, world.ready("default")), (0, 0), "{err}");
    let row = world.find(&uuid).unwrap();
    assert_eq!(
        (&row["status"], &row["attempts"]),
        (&json!("COMPLETED"), &json!(1))
    );
}

fn a_service_that_dies_before_the_put_off_leaves_its_message_to_the_next(backend: Backend) {
    assert_run_after_a_death(backend, "ledger.before-put-off=kill", "IN_PROGRESS");
}

fn a_service_that_dies_after_the_put_off_has_its_message_published_once_more(backend: Backend) {
    assert_run_after_a_death(backend, "ledger.after-put-off=kill", "PENDING");
}
