//! Messages with values that can't be read.

use serde_json::{Value, json};

use super::{Loose, loose};
use crate::support::database::published_row;
use crate::support::{Backend, Database, Running, cases, eventually, text};

cases! { on every_database: failed_messages_are_requeued_except_unreadable_ones }

cases! { on every_database_and_broker:
    pending_messages_are_run_except_unreadable_ones_which_are_failed_with_the_reason,
}

cases! { on every_embedded_database:
    waiting_messages_are_run_except_an_unreadable_one_which_is_failed,
}

/// The columns that a message needs.
const NEEDED: [&str; 4] = ["task_args", "content", "task", "uuid"];

/// Inserts a message of the queue "default" in this state, as django-carrot does; its id.
fn insert(world: &Loose, uuid: &str, status: &str) -> i64 {
    let mut row = published_row("default", "note", uuid);
    row["status"] = status.into();
    world.insert_django_rows(&[row]);
    let uuid = world.database.literal(&json!(uuid));
    let ids = world.rows(&format!(
        "SELECT id FROM carrot_messagelog WHERE uuid = {uuid}"
    ));
    ids[0]["id"].as_i64().unwrap()
}

/// Inserts four messages, the third with invalid bytes in this column: the uuids of the good ones, and the id
/// of the bad one.
fn four(world: &Loose, column: &str, status: &str) -> (Vec<String>, i64) {
    let uuid = |nth: usize| format!("{column}-{nth}");
    let ids: Vec<i64> = (0..4)
        .map(|nth| insert(world, &uuid(nth), status))
        .collect();
    let stray = format!("{column} = {}", world.stray());
    world.set("carrot_messagelog", &stray, &format!("id = {}", ids[2]));
    ([0, 1, 3].map(uuid).to_vec(), ids[2])
}

/// Waits until the row is FAILED for that column, and fails unless the log has said so once.
#[track_caller]
fn assert_failed(world: &Loose, service: &Running, id: i64, column: &str) {
    let row = eventually("the bad message is FAILED", || {
        let row = world.brief("carrot_messagelog", "status, exception", id);
        (row["status"] == "FAILED").then_some(row)
    });
    let reason = format!("{column} can't be read: it is not UTF-8: caf\\xe9");
    assert_eq!(text(&row, "exception"), reason);
    // The row may be written before the log.
    service.await_log(&reason);
    let log = service.log();
    assert_eq!(log.matches(&reason).count(), 1, "{log}");
    assert!(!log.contains("is away"), "{log}");
}

fn pending_messages_are_run_except_unreadable_ones_which_are_failed_with_the_reason(
    backend: Backend,
) {
    let world = loose(backend);
    let fours = NEEDED.map(|column| (column, four(&world, column, "PENDING")));
    world.execute(&format!(
        "UPDATE carrot_messagelog SET due_time = {}",
        world.database.ago(1)
    ));
    let mut service = world.start(&[]);
    for (column, (good, bad)) in &fours {
        for uuid in good {
            assert_eq!(world.ended(uuid)["status"], "COMPLETED");
            assert_eq!(world.runs(uuid).len(), 1);
        }
        assert_failed(&world, &service, *bad, column);
    }
    assert_eq!(service.terminate(), 0);
}

fn waiting_messages_are_run_except_an_unreadable_one_which_is_failed(backend: Backend) {
    let world = loose(backend);
    let fours = NEEDED.map(|column| (column, four(&world, column, "PUBLISHED")));
    let mut service = world.start(&[]);
    for (column, (good, bad)) in &fours {
        for uuid in good {
            assert_eq!(world.ended(uuid)["status"], "COMPLETED");
        }
        assert_failed(&world, &service, *bad, column);
    }
    assert_eq!(world.all_runs().len(), 12);
    assert_eq!(service.terminate(), 0);
}

fn failed_messages_are_requeued_except_unreadable_ones(database: Database) {
    let world = loose(database.into());
    world.declare_queue("default");
    let (good, bad) = four(&world, "task_args", "FAILED");
    let (code, out, err) = world.run(&["requeue", "--failed"]);
    assert_eq!(code, 1, "{out}{err}");
    for uuid in &good {
        assert!(out.contains(&format!("{uuid} -> ")), "{out}");
    }
    let reason = "task_args-2 is not requeued: task_args can't be read: it is not UTF-8: caf\\xe9";
    assert!(err.contains(reason), "{err}");
    let row: Value = world.brief("carrot_messagelog", "status", bad);
    assert_eq!(row["status"], "FAILED");
    assert_eq!(world.count("PUBLISHED"), 3);
}

/// In SQLite, no text is equal to a blob, so no statement by key would ever find the message.
#[test]
fn a_key_that_is_a_blob_fails_the_message_and_other_blobs_are_read() {
    let world = loose(Database::Sqlite.into());
    let ids = [
        insert(&world, "a", "PENDING"),
        insert(&world, "b", "PENDING"),
    ];
    let due = world.database.ago(1);
    for (id, set) in [
        (ids[0], "uuid = x'61'"),
        (
            ids[1],
            "task_args = CAST('()' AS blob), content = x'7b7d', priority = 'high'",
        ),
    ] {
        let set = format!("due_time = {due}, {set}");
        world.set("carrot_messagelog", &set, &format!("id = {id}"));
    }
    let mut service = world.start(&[]);
    assert_eq!(world.ended("b")["status"], "COMPLETED");
    let row = eventually("the bad message is FAILED", || {
        let row = world.brief("carrot_messagelog", "status, exception", ids[0]);
        (row["status"] == "FAILED").then_some(row)
    });
    assert_eq!(
        text(&row, "exception"),
        "uuid can't be read: it is a blob and no text: \"a\""
    );
    assert_eq!(service.terminate(), 0);
}
