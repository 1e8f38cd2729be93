//! Messages whose headers say that they have a row, and that have none. Each waits for its row, and holds up
//! no other.

use std::time::{Duration, Instant};

use carrot_actors::internals::state::Status;
use serde_json::json;

use crate::support::{Database, Raw, Running, World, cases, eventually};

cases! { on every_database:
    many_messages_without_a_row_do_not_hold_up_one_with_a_row,
    two_hundred_messages_without_a_row_end_within_two_grace_times,
    a_thousand_messages_without_a_row_end_within_two_grace_times,
    normal_work_goes_on_beside_many_messages_without_a_row,
    messages_without_a_row_hold_up_no_other_where_the_prefetch_is_set,
    messages_without_a_row_in_a_quorum_queue_hold_up_no_other,
    large_messages_without_a_row_are_limited_by_their_bytes,
    messages_whose_rows_come_in_time_are_run_however_many_wait,
    a_service_that_stops_returns_messages_that_wait_for_their_row,
    messages_that_wait_for_their_row_are_redelivered_after_a_lost_connection,
    test_mode_ends_once_messages_without_a_row_are_cancelled,
    messages_without_a_row_of_a_single_active_consumer_end_one_prefetch_after_another,
}

/// How long a service waits for the row of a message.
const GRACE: Duration = Duration::from_secs(5);

/// On an idle machine all end within two grace times. One after another, they would take many more.
const SOON: Duration = Duration::from_secs(30);

fn config(queue: &str) -> String {
    format!(
        "[[queues]]\nname = \"default\"\n{queue}\n\
         [tasks.noop]\ncommand = [\"true\"]\n\
         [tasks.nap]\ncommand = [\"sleep\", \"0.2\"]\n"
    )
}

fn keys(of: &str, count: usize) -> Vec<String> {
    (0..count).map(|nth| format!("{of}-{nth}")).collect()
}

fn rowless(keys: &[String], body: &str) -> Vec<Raw> {
    let message = |key: &String| Raw::django("noop", key, body);
    keys.iter().map(message).collect()
}

/// Inserts the row of a message, and returns the message.
fn good(world: &World, task: &str, uuid: &str) -> Raw {
    world.insert_published("default", task, &[uuid.to_owned()]);
    Raw::django(task, uuid, "{}")
}

impl World {
    #[track_caller]
    fn await_cancelled(&self, count: usize) {
        eventually(&format!("{count} CANCELLED messages"), || {
            self.count(Status::Cancelled.as_str()) == count
        });
    }

    /// Declares the queue as it is configured, by starting a service.
    fn declare_by_a_service(&self) {
        let mut running = self.start(&[]);
        assert_eq!(running.terminate(), 0);
    }
}

/// Publishes `count` messages without a row and a good one behind them. Returns how long after the start the
/// good one had ended, and how long all.
#[track_caller]
fn run_behind_rowless(world: &World, count: usize) -> (Running, Duration, Duration) {
    let keys = keys("rowless", count);
    world.publish(&rowless(&keys, "{}"));
    world.publish(&[good(world, "noop", "good")]);
    let running = world.start(&[]);
    let start = Instant::now();
    assert_eq!(world.ended("good")["status"], "COMPLETED");
    let good = start.elapsed();
    if count > 0 {
        assert!(world.count("CANCELLED") < count);
    }
    world.await_cancelled(count);
    (running, good, start.elapsed())
}

fn many_messages_without_a_row_do_not_hold_up_one_with_a_row(database: Database) {
    let world = World::on(database, &config("concurrency = 1"));
    world.declare_queue("default");
    let (mut running, good, all) = run_behind_rowless(&world, 60);
    eprintln!("good after {good:?}, all after {all:?}");
    assert!(good < all && all >= GRACE && all < SOON, "{good:?} {all:?}");
    running.stop_with_empty(&world, &["default"]);
}

fn two_hundred_messages_without_a_row_end_within_two_grace_times(database: Database) {
    let world = World::on(database, &config("concurrency = 1"));
    world.declare_queue("default");
    let (mut running, good, all) = run_behind_rowless(&world, 200);
    eprintln!("good after {good:?}, all after {all:?}");
    assert!(good < all && all < SOON, "{good:?} {all:?}");
    running.stop_with_empty(&world, &["default"]);
}

fn a_thousand_messages_without_a_row_end_within_two_grace_times(database: Database) {
    let world = World::on(database, &config("concurrency = 1"));
    world.declare_queue("default");
    let (mut running, good, all) = run_behind_rowless(&world, 1000);
    eprintln!("good after {good:?}, all after {all:?}");
    assert!(all < SOON, "{all:?}");
    running.stop_with_empty(&world, &["default"]);
}

fn normal_work_goes_on_beside_many_messages_without_a_row(database: Database) {
    let world = World::on(database, &config("concurrency = 4"));
    world.declare_queue("default");
    let good = keys("good", 60);
    world.insert_published("default", "nap", &good);
    let rowless = rowless(&keys("rowless", 300), "{}");
    let mut messages = Vec::new();
    for (rowless, good) in rowless.chunks(5).zip(&good) {
        messages.extend_from_slice(rowless);
        messages.push(Raw::django("nap", good, "{}"));
    }
    world.publish(&messages);
    let mut running = world.start(&[]);
    let start = Instant::now();
    world.await_completed(60);
    let good = start.elapsed();
    world.await_cancelled(300);
    let all = start.elapsed();
    eprintln!("good after {good:?}, all after {all:?}");
    assert!(good < SOON && all < SOON, "{good:?} {all:?}");
    running.stop_with_empty(&world, &["default"]);
}

fn messages_without_a_row_hold_up_no_other_where_the_prefetch_is_set(database: Database) {
    let world = World::on(database, &config("concurrency = 1\nprefetch_factor = 1"));
    world.declare_queue("default");
    let (mut running, good, all) = run_behind_rowless(&world, 60);
    eprintln!("good after {good:?}, all after {all:?}");
    assert!(good < all && all < SOON, "{good:?} {all:?}");
    running.stop_with_empty(&world, &["default"]);
}

fn messages_without_a_row_in_a_quorum_queue_hold_up_no_other(database: Database) {
    let quorum = "concurrency = 1\nqueue_arguments = { x-queue-type = \"quorum\" }";
    let world = World::on(database, &config(quorum));
    world.declare_by_a_service();
    let (mut running, good, all) = run_behind_rowless(&world, 200);
    eprintln!("good after {good:?}, all after {all:?}");
    assert!(good < all && all < SOON, "{good:?} {all:?}");
    running.stop_with_empty(&world, &["default"]);
}

fn large_messages_without_a_row_are_limited_by_their_bytes(database: Database) {
    let world = World::on(database, &config("concurrency = 1"));
    world.declare_queue("default");
    let body = json!({"args": ["x".repeat(1 << 20)]}).to_string();
    world.publish(&rowless(&keys("rowless", 20), &body));
    let running = world.start(&[]);
    let mut most = 0;
    eventually("six messages are CANCELLED", || {
        let unacknowledged = 20 - world.count("CANCELLED") - world.ready("default") as usize;
        most = most.max(unacknowledged);
        world.count("CANCELLED") >= 6
    });
    // More messages are unacknowledged than the prefetch. The count may include those that were cancelled
    // between the two looks.
    assert!((5..=14).contains(&most), "{most}");
    drop(running);
}

fn messages_whose_rows_come_in_time_are_run_however_many_wait(database: Database) {
    let world = World::on(database, &config("concurrency = 2"));
    world.declare_queue("default");
    let keys = keys("late", 100);
    world.publish(&rowless(&keys, "{}"));
    let mut running = world.start(&[]);
    world.await_ready("default", 0);
    world.insert_published("default", "noop", &keys);
    world.await_completed(100);
    running.stop_with_empty(&world, &["default"]);
    assert_eq!(world.rows("SELECT uuid FROM carrot_messagelog").len(), 100);
}

fn a_service_that_stops_returns_messages_that_wait_for_their_row(database: Database) {
    let world = World::on(database, &config("concurrency = 1"));
    world.declare_queue("default");
    world.publish(&rowless(&keys("rowless", 60), "{}"));
    let mut running = world.start(&[]);
    world.await_ready("default", 0);
    let start = Instant::now();
    assert_eq!(running.terminate(), 0);
    assert!(start.elapsed() < GRACE / 2, "{:?}", start.elapsed());
    assert_eq!(world.ready("default"), 60);
    assert_eq!(world.rows("SELECT uuid FROM carrot_messagelog").len(), 0);
}

fn messages_that_wait_for_their_row_are_redelivered_after_a_lost_connection(database: Database) {
    let world = World::on(database, &config("concurrency = 1"));
    world.declare_queue("default");
    world.publish(&rowless(&keys("rowless", 60), "{}"));
    let mut running = world.start(&[]);
    world.await_ready("default", 0);
    eventually("the service loses its connection", || {
        world.cut_connections();
        running.log().contains("is away")
    });
    world.await_cancelled(60);
    running.stop_with_empty(&world, &["default"]);
    assert_eq!(world.rows("SELECT uuid FROM carrot_messagelog").len(), 60);
}

fn test_mode_ends_once_messages_without_a_row_are_cancelled(database: Database) {
    let world = World::on(database, &config("concurrency = 1"));
    world.declare_queue("default");
    world.publish(&rowless(&keys("rowless", 30), "{}"));
    world.publish(&[good(&world, "noop", "good")]);
    let mut running = world.launch(&["--testmode"], "");
    assert_eq!(running.wait(), 0);
    assert_eq!(
        (world.count("CANCELLED"), world.count("COMPLETED")),
        (30, 1)
    );
    assert_eq!(world.ready("default"), 0);
}

fn messages_without_a_row_of_a_single_active_consumer_end_one_prefetch_after_another(
    database: Database,
) {
    let single = "concurrency = 1\nprefetch_factor = 4\n\
        queue_arguments = { x-single-active-consumer = true }";
    let world = World::on(database, &config(single));
    world.declare_by_a_service();
    let (mut running, good, _) = run_behind_rowless(&world, 6);
    assert!(good >= GRACE, "{good:?}");
    running.stop_with_empty(&world, &["default"]);
}
