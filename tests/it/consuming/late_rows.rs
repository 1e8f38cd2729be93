//! Django's transaction commits long after it published a message. The message was cancelled because it had
//! no row, and is run once nevertheless.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::database::published_row;
use crate::support::{
    Client, Database, Raw, Running, World, cases, eventually, text, traced_config,
};

cases! { on every_database:
    a_message_whose_transaction_commits_after_seven_seconds_is_run_once,
    a_message_whose_row_comes_after_it_was_cancelled_is_run_once,
    a_message_whose_transaction_is_rolled_back_stays_cancelled,
    a_message_that_two_services_cancelled_is_run_once,
    a_message_that_was_requeued_before_its_row_came_is_not_run_again,
    a_row_that_comes_when_its_task_has_run_stays_as_it_is,
    many_rows_that_come_late_are_run_once_each,
    a_service_that_ends_before_the_row_comes_forgets_the_message_and_a_requeue_runs_it_once,
    a_service_that_dies_before_the_late_row_is_due_leaves_both_rows_as_they_were,
    a_message_whose_service_dies_after_the_late_row_is_due_is_published_by_the_next,
    failed_rows_of_the_same_message_are_requeued_as_one_message,
    a_message_with_an_unfinished_row_is_not_requeued,
    a_message_that_is_named_twice_is_requeued_once,
}

cases! { on every_server: a_transaction_that_stays_open_holds_up_no_others }

cases! { on postgresql: a_message_whose_row_comes_while_it_is_cancelled_is_run_once }

fn world(database: Database) -> World {
    let world = World::on(database, &traced_config("", 2));
    world.declare_queue("default");
    world
}

/// Publishes a message and inserts its row in a transaction, which is left open.
fn publish_in_a_transaction(world: &World, uuid: &str) -> Client {
    let mut django = world.client();
    let insert = world
        .database
        .django_insert(&[published_row("default", "note", uuid)]);
    django.execute("BEGIN");
    django.execute(&insert);
    world.publish(&[Raw::django("note", uuid, "{}")]);
    django
}

/// Publishes a message without a row, and waits until it is cancelled.
#[track_caller]
fn cancelled(world: &World, uuid: &str) {
    world.publish(&[Raw::django("note", uuid, "{}")]);
    assert_eq!(world.ended(uuid)["status"], "CANCELLED");
}

fn insert_row(world: &World, uuid: &str) {
    world.insert_published("default", "note", &[uuid.to_owned()]);
}

impl World {
    /// The states of all rows of the message.
    fn statuses(&self, uuid: &str) -> Vec<String> {
        let rows = self.rows(&format!(
            "SELECT status FROM carrot_messagelog WHERE uuid = '{uuid}' ORDER BY status"
        ));
        let status = |row: &Value| text(row, "status").to_owned();
        rows.iter().map(status).collect()
    }

    #[track_caller]
    fn await_statuses(&self, uuid: &str, statuses: &[&str]) {
        let mut last = Vec::new();
        eventually(&format!("{statuses:?} of {uuid}"), || {
            last = self.statuses(uuid);
            last == statuses
        });
    }

    /// Waits until the message has one row, which is COMPLETED, and fails unless it was run once.
    #[track_caller]
    fn assert_run_once(&self, uuid: &str) {
        self.await_statuses(uuid, &["COMPLETED"]);
        assert_eq!(self.runs(uuid).len(), 1);
    }

    /// Requeues messages; the new uuids.
    #[track_caller]
    fn requeued(&self, arguments: &[&str]) -> Vec<String> {
        let (code, out, err) = self.run(&[&["requeue"], arguments].concat());
        assert_eq!(code, 0, "{err}");
        let new = |line: &str| line.split_once(" -> ").unwrap().1.to_owned();
        out.lines().map(new).collect()
    }
}

/// Checks `holds` for three seconds. Services look for late rows every second.
#[track_caller]
fn holds_for_three_seconds(mut holds: impl FnMut()) {
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(3) {
        holds();
        std::thread::sleep(Duration::from_millis(200));
    }
}

#[track_caller]
fn stop(world: &World, mut service: Running) {
    service.stop_with_empty(world, &["default"]);
}

fn a_message_whose_transaction_commits_after_seven_seconds_is_run_once(database: Database) {
    let world = world(database);
    let service = world.start(&[]);
    let start = Instant::now();
    let mut django = publish_in_a_transaction(&world, "late");
    // On SQLite the open transaction keeps the service from writing.
    if database != Database::Sqlite {
        assert_eq!(world.ended("late")["status"], "CANCELLED");
    }
    let left = Duration::from_secs(7).saturating_sub(start.elapsed());
    std::thread::sleep(left);
    assert!(world.runs("late").is_empty());
    django.execute("COMMIT");

    world.assert_run_once("late");
    stop(&world, service);
    world.assert_run_once("late");
}

fn a_message_whose_row_comes_after_it_was_cancelled_is_run_once(database: Database) {
    let world = world(database);
    let service = world.start(&[]);
    cancelled(&world, "late");

    insert_row(&world, "late");

    world.assert_run_once("late");
    service.await_log("message late: its row has come late; it is published again");
    stop(&world, service);
    world.assert_run_once("late");
}

fn a_message_whose_transaction_is_rolled_back_stays_cancelled(database: Database) {
    let world = world(database);
    let service = world.start(&[]);
    let mut django = publish_in_a_transaction(&world, "never");
    if database != Database::Sqlite {
        world.await_statuses("never", &["CANCELLED"]);
    }
    django.execute("ROLLBACK");
    world.await_statuses("never", &["CANCELLED"]);

    holds_for_three_seconds(|| assert_eq!(world.statuses("never"), ["CANCELLED"]));
    stop(&world, service);
    assert!(world.runs("never").is_empty());
}

fn a_message_that_two_services_cancelled_is_run_once(database: Database) {
    let world = world(database);
    let services = [world.start(&[]), world.start(&[])];
    let copy = Raw::django("note", "late", "{}");
    world.publish(&vec![copy; 8]);
    assert_eq!(world.ended("late")["status"], "CANCELLED");
    // Either that it cancels the message or that it is CANCELLED already.
    services
        .iter()
        .for_each(|one| one.await_log("message late"));

    insert_row(&world, "late");

    world.assert_run_once("late");
    holds_for_three_seconds(|| world.assert_run_once("late"));
    services.into_iter().for_each(|one| stop(&world, one));
    world.assert_run_once("late");
}

fn a_message_that_was_requeued_before_its_row_came_is_not_run_again(database: Database) {
    let world = world(database);
    let service = world.start(&[]);
    cancelled(&world, "late");
    let new = world.requeued(&["late"]);
    assert_eq!(new.len(), 1);
    world.assert_run_once(&new[0]);

    insert_row(&world, "late");

    holds_for_three_seconds(|| assert_eq!(world.statuses("late"), ["PUBLISHED"]));
    stop(&world, service);
    assert!(world.runs("late").is_empty());
    world.assert_run_once(&new[0]);
}

fn a_row_that_comes_when_its_task_has_run_stays_as_it_is(database: Database) {
    let world = world(database);
    let service = world.start(&[]);
    cancelled(&world, "late");

    // As a consumer of django-carrot leaves the row.
    let mut row = published_row("default", "note", "late");
    row["status"] = json!("COMPLETED");
    row["completion_time"] = json!("2026-01-01 00:00:01");
    row["output"] = json!("theirs");
    world.insert_django_rows(&[row]);

    world.await_statuses("late", &["COMPLETED"]);
    holds_for_three_seconds(|| assert_eq!(world.find("late").unwrap()["output"], "theirs"));
    stop(&world, service);
    assert!(world.runs("late").is_empty());
}

fn many_rows_that_come_late_are_run_once_each(database: Database) {
    let world = world(database);
    let service = world.start(&[]);
    let uuids: Vec<String> = (0..200).map(|nth| format!("late-{nth}")).collect();
    let message = |uuid: &String| Raw::django("note", uuid, "{}");
    world.publish(&uuids.iter().map(message).collect::<Vec<_>>());
    world.await_count("CANCELLED", uuids.len());

    // First one half, then the other.
    for half in uuids.chunks(100) {
        world.insert_published("default", "note", half);
        half.iter().for_each(|uuid| world.assert_run_once(uuid));
    }

    world.assert_all_well(vec![service], &uuids);
    world.assert_each_ran_once();
}

fn a_service_that_ends_before_the_row_comes_forgets_the_message_and_a_requeue_runs_it_once(
    database: Database,
) {
    let world = world(database);
    let first = world.start(&[]);
    cancelled(&world, "late");
    stop(&world, first);
    insert_row(&world, "late");

    let second = world.start(&[]);
    holds_for_three_seconds(|| assert_eq!(world.statuses("late"), ["CANCELLED", "PUBLISHED"]));

    let new = world.requeued(&["late"]);
    assert_eq!(new.len(), 1);
    assert!(world.statuses("late").is_empty());
    world.assert_all_well(vec![second], &new);
    assert_eq!(world.runs(&new[0]).len(), 1);
    assert!(world.runs("late").is_empty());
}

fn a_service_that_dies_before_the_late_row_is_due_leaves_both_rows_as_they_were(
    database: Database,
) {
    let world = world(database);
    let mut first = world.launch(&[], "late.mended=kill");
    cancelled(&world, "late");
    insert_row(&world, "late");
    assert_eq!(first.wait(), -9);
    world.await_statuses("late", &["CANCELLED", "PUBLISHED"]);

    let second = world.start(&[]);
    let new = world.requeued(&["late"]);
    world.assert_all_well(vec![second], &new);
    assert!(world.runs("late").is_empty());
}

fn a_message_whose_service_dies_after_the_late_row_is_due_is_published_by_the_next(
    database: Database,
) {
    let world = world(database);
    // The first look for the row finds none.
    let mut first = world.launch(&[], "sweep.late=kill");
    world.publish(&[Raw::django("note", "late", "{}")]);
    // The service is killed at the first look, a second after it has cancelled the message.
    assert_eq!(world.ended("late")["status"], "CANCELLED");
    insert_row(&world, "late");
    assert_eq!(first.wait(), -9);
    let statuses = world.statuses("late");
    assert_eq!(statuses, ["PENDING"]);

    let second = world.start(&[]);
    world.assert_run_once("late");
    stop(&world, second);
    world.assert_run_once("late");
}

fn failed_rows_of_the_same_message_are_requeued_as_one_message(database: Database) {
    let world = world(database);
    let mut row = published_row("default", "note", "twice");
    row["status"] = json!("FAILED");
    world.insert_django_rows(&[row.clone(), row]);

    let new = world.requeued(&["--failed"]);

    assert_eq!(new.len(), 1);
    assert!(world.statuses("twice").is_empty());
    let service = world.start(&[]);
    world.assert_all_well(vec![service], &new);
    assert_eq!(world.runs(&new[0]).len(), 1);
}

fn a_message_with_an_unfinished_row_is_not_requeued(database: Database) {
    let world = world(database);
    let final_row = || {
        let mut row = published_row("default", "note", "twice");
        row["status"] = json!("CANCELLED");
        row
    };
    let mut other = final_row();
    other["status"] = json!("PENDING");
    world.insert_django_rows(&[final_row(), other, final_row()]);

    let (code, out, err) = world.run(&["requeue", "twice"]);

    assert_eq!((code, out.as_str()), (1, ""), "{err}");
    assert!(
        err.contains("twice is not requeued: it is PENDING"),
        "{err}"
    );
    assert_eq!(world.statuses("twice").len(), 3);
}

fn a_message_that_is_named_twice_is_requeued_once(database: Database) {
    let world = world(database);
    let mut row = published_row("default", "note", "done");
    row["status"] = json!("COMPLETED");
    world.insert_django_rows(&[row]);

    let new = world.requeued(&["done", "done"]);

    assert_eq!(new.len(), 1);
    assert_eq!(world.rows("SELECT uuid FROM carrot_messagelog").len(), 1);
}

/// The row is committed after the last look for it, and before the message is cancelled.
fn a_message_whose_row_comes_while_it_is_cancelled_is_run_once(database: Database) {
    let world = world(database);
    let service = world.start(&[]);
    let mut django = world.client();
    world.publish(&[Raw::django("note", "late", "{}")]);
    service.await_log("consuming queue");
    // The service's insert waits for this transaction, since the two rows have the same unique key.
    let ours = json!({"uuid": "late", "status": "CANCELLED"});
    django.execute("BEGIN");
    django.execute(&format!(
        "INSERT INTO carrot_messagelog (uuid, adopted_uuid, status, task, priority) \
         VALUES ({}, {}, 'CANCELLED', 'note', 0)",
        world.database.literal(&ours["uuid"]),
        world.database.literal(&ours["uuid"]),
    ));
    service.await_log("message late: the message has no row");
    insert_row(&world, "late");
    django.execute("ROLLBACK");

    world.assert_run_once("late");
    stop(&world, service);
    world.assert_run_once("late");
}

fn a_transaction_that_stays_open_holds_up_no_others(database: Database) {
    let world = world(database);
    let service = world.start(&[]);
    let mut django = publish_in_a_transaction(&world, "open");
    for nth in 0..20 {
        let other = format!("other-{nth}");
        world.post_row(&other);
        world.assert_run_once(&other);
    }
    world.await_statuses("open", &["CANCELLED"]);
    // A second copy of the message does not hold up others either.
    world.publish(&[Raw::django("note", "open", "{}")]);
    service.await_log("message open is CANCELLED already");
    world.post_row("last");
    world.assert_run_once("last");
    django.execute("COMMIT");
    world.assert_run_once("open");
    stop(&world, service);
    world.assert_run_once("open");
}

impl World {
    /// Publishes a message, with its row.
    fn post_row(&self, uuid: &str) {
        insert_row(self, uuid);
        self.publish(&[Raw::django("note", uuid, "{}")]);
    }
}
