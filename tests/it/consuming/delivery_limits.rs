//! Queues that drop a message when it was returned to them too often, here at the third time.

use amiquip::AmqpValue;
use serde_json::json;

use crate::support::traced_tasks::{traced_task, traced_tasks};
use crate::support::{Database, Raw, World, cases, eventually, milliseconds, text, traced_config};

cases! { on every_database:
    messages_prefetched_beside_one_that_kills_its_service_are_run_though_the_broker_drops_them,
    orderly_restarts_lose_no_prefetched_message,
    orderly_restarts_do_not_count_where_no_more_is_prefetched_than_runs,
    cut_connections_lose_no_prefetched_message,
}

/// A queue that drops messages after two returns.
const QUORUM: &str = "queue_arguments = { x-queue-type = 'quorum', x-delivery-limit = 2 }\n";

/// More messages are prefetched than run.
const HOARDING: &str = "prefetch_factor = 8\n";

/// The configuration of a quorum queue with one consumer.
fn config(settings: &str) -> String {
    [
        format!("[[queues]]\nname = 'default'\n{settings}"),
        traced_tasks(),
        traced_task("slow", "sleep 1"),
    ]
    .concat()
}

impl World {
    fn send_many(&self, task: &str, count: usize) -> Vec<String> {
        (0..count).map(|_| self.send(&[task])).collect()
    }

    /// Makes the messages that the broker may still redeliver due at once.
    fn make_pending_due(&self) {
        self.execute(&format!(
            "UPDATE carrot_messagelog SET due_time = {} WHERE status = 'PENDING'",
            self.database.ago(1)
        ));
    }

    fn all_runs_count(&self) -> usize {
        self.all_runs().values().map(Vec::len).sum()
    }

    /// How many messages of the queue are unacknowledged.
    fn unacknowledged(&self) -> u64 {
        let path = format!("/api/queues/{}/default", self.name);
        let queue = Self::rabbitmq_api("GET", &path, None).unwrap();
        queue["messages_unacknowledged"].as_u64().unwrap_or(0)
    }
}

fn messages_prefetched_beside_one_that_kills_its_service_are_run_though_the_broker_drops_them(
    database: Database,
) {
    let world = World::on(database, &config(&[QUORUM, HOARDING].concat()));
    let killer = world.send(&["killer"]);
    let neighbours = world.send_many("note", 7);

    let mut service = world.launch(&[], "");
    eventually("the message that kills its service is FAILED", || {
        if service.ended().is_some() {
            service = world.launch(&[], "");
        }
        world.find(&killer).unwrap()["status"] == "FAILED"
    });
    let row = world.find(&killer).unwrap();
    assert!(text(&row, "exception").contains("vanished"), "{row}");
    world.assert_all_well(vec![service], &neighbours);
    for uuid in neighbours {
        assert_eq!(world.runs(&uuid).len(), 1);
    }
}

/// Starts and stops a service `times` times, each time during its next run. The first of them is run number
/// `first`.
fn restart(world: &World, first: usize, times: usize) {
    for run in first..first + times {
        let mut service = world.start(&[]);
        eventually("the next run begins", || world.all_runs_count() == run);
        assert_eq!(service.terminate(), 0);
        assert_eq!(world.count("COMPLETED"), run);
    }
}

fn orderly_restarts_lose_no_prefetched_message(database: Database) {
    let world = World::on(database, &config(&[QUORUM, HOARDING].concat()));
    let uuids = world.send_many("slow", 8);
    restart(&world, 1, 3);
    // Each row records that the broker may have dropped its message, as it has here.
    assert_eq!(world.count("PENDING"), 5);
    assert_eq!(world.ready("default"), 0);
    for row in world.rows("SELECT * FROM carrot_messagelog WHERE status = 'PENDING'") {
        let due = milliseconds(&row, "due_time") - chrono::Utc::now().timestamp_millis();
        assert!((10_000..=30_000).contains(&due), "{row}");
    }
    world.make_pending_due();
    restart(&world, 4, 2);
    let service = world.start(&[]);
    service.await_log("prefetch_factor = 8");
    world.assert_all_well(vec![service], &uuids);
    assert_eq!(world.all_runs_count(), 8);
}

fn orderly_restarts_do_not_count_where_no_more_is_prefetched_than_runs(database: Database) {
    let world = World::on(database, &config(QUORUM));
    let uuids = world.send_many("slow", 8);
    restart(&world, 1, 5);
    assert_eq!(
        world.ready("default") as usize,
        world.count("PUBLISHED") + world.count("PENDING")
    );
    assert_eq!(world.ready("default"), 3);
    let service = world.start(&[]);
    world.assert_all_well(vec![service], &uuids);
    assert_eq!(world.all_runs_count(), 8);
}

fn cut_connections_lose_no_prefetched_message(database: Database) {
    let mut world = World::on(database, &config(&[QUORUM, HOARDING].concat()));
    let uuids = world.send_many("hold", 8);
    let proxy = world.proxy_broker();
    let service = world.start(&[]);
    world.await_runs(&uuids[0], 1);
    for cut in 1..=4 {
        world.await_count("IN_PROGRESS", 8);
        proxy.cut_connections();
        service.await_openings(1 + cut);
    }
    world.release_tasks();
    world.assert_all_well(vec![service], &uuids);
    assert_eq!(world.all_runs_count(), 8);
}

#[test]
fn a_policy_limits_deliveries_as_an_argument_does() {
    let world = World::new(&config(
        &["queue_arguments = { x-queue-type = 'quorum' }\n", HOARDING].concat(),
    ));
    let policy = json!({
        "pattern": ".*", "apply-to": "queues", "definition": { "delivery-limit": 2 }
    });
    let path = format!("/api/policies/{}/limit", world.name);
    World::rabbitmq_api("PUT", &path, Some(&policy));
    let uuids = world.send_many("slow", 8);
    restart(&world, 1, 3);
    assert_eq!(world.count("PENDING"), 5);
    assert_eq!(world.ready("default"), 0);
    world.make_pending_due();
    let service = world.start(&[]);
    world.assert_all_well(vec![service], &uuids);
}

#[test]
fn a_cut_connection_returns_no_more_messages_than_run() {
    let mut world = World::new(&config(QUORUM));
    let uuids = world.send_many("hold", 8);
    let proxy = world.proxy_broker();
    let service = world.start(&[]);
    world.await_runs(&uuids[0], 1);
    for cut in 1..=2 {
        proxy.cut_connections();
        service.await_openings(1 + cut);
        service.await_log("was delivered again while it is in hand");
        assert_eq!(world.ready("default"), 7);
        assert_eq!(world.count("PUBLISHED"), 7);
    }
    world.release_tasks();
    world.assert_all_well(vec![service], &uuids);
    assert_eq!(world.all_runs_count(), 8);
}

#[test]
fn a_message_that_is_returned_to_the_queue_and_not_dropped_is_run_once() {
    let world = World::new(&config(&[QUORUM, HOARDING].concat()));
    let uuids = world.send_many("slow", 4);
    let mut first = world.start(&[]);
    world.await_runs(&uuids[0], 1);
    assert_eq!(first.terminate(), 0);
    assert_eq!(world.count("PENDING"), 3);
    // Both the copies in the broker and those that the sweep publishes are there.
    world.make_pending_due();
    let service = world.start(&[]);
    world.assert_all_well(vec![service], &uuids);
    assert_eq!(world.all_runs_count(), 4);
}

#[track_caller]
fn loses_nothing_when_it_dies(failpoint: &str) {
    let world = World::new(&config(&[QUORUM, HOARDING].concat()));
    let uuids = world.send_many("slow", 4);
    let mut first = world.launch(&[], failpoint);
    world.await_runs(&uuids[0], 1);
    first.signal(rustix::process::Signal::TERM);
    assert_eq!(first.wait(), -9);
    let second = world.start(&[]);
    world.assert_all_well(vec![second], &uuids);
}

#[test]
fn a_service_that_dies_before_it_records_what_it_returns_loses_nothing() {
    loses_nothing_when_it_dies("ledger.before-release=kill");
}

#[test]
fn a_service_that_dies_after_it_has_recorded_what_it_returns_loses_nothing() {
    loses_nothing_when_it_dies("ledger.after-republish=kill");
}

/// The queue is configured as a classic one, but the header `x-delivery-count` of its deliveries says that it
/// is a quorum queue.
#[test]
fn a_queue_whose_deliveries_carry_a_count_is_treated_as_a_quorum_queue() {
    let mut world = World::new(&traced_config("", 1));
    world.declare_queue("default");
    let count = AmqpValue::LongInt(1);
    world.insert_published("default", "hold", &["first".to_owned()]);
    let mut first = Raw::django("hold", "first", "{}");
    let mut headers = first.properties.headers().clone().unwrap();
    headers.insert("x-delivery-count".to_owned(), count);
    first.properties = first.properties.with_headers(headers);
    world.publish(&[first]);
    {
        // From now on the message counts as redelivered.
        let mut connection = world.amqp();
        let channel = connection.open_channel(None).unwrap();
        assert!(channel.basic_get("default", false).unwrap().is_some());
        drop(channel);
        connection.close().unwrap();
    }
    world.post("default", "hold", 9);
    let proxy = world.proxy_broker();

    let mut service = world.start(&[]);
    world.await_runs("first", 1);
    eventually("every unacknowledged message is claimed", || {
        let out = world.unacknowledged();
        out > 1 && world.count("IN_PROGRESS") as u64 == out
    });
    proxy.cut_connections();
    eventually(
        "one message is unacknowledged on the new connection",
        || service.openings() == 2 && world.unacknowledged() == 1,
    );
    let claimed = world.count("IN_PROGRESS");
    service.signal(rustix::process::Signal::TERM);
    world.await_count("PENDING", claimed - 1);
    world.release_tasks();
    assert_eq!(service.wait(), 0);
    world.make_pending_due();
    let service = world.start(&[]);
    world.await_completed(10);
    drop(service);
    assert_eq!(world.all_runs_count(), 10);
}
