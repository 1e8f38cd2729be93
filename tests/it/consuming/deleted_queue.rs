//! A queue is deleted: what a service has of it is nowhere else.

use crate::support::witness::witnessed_task;
use crate::support::{Database, Proxy, Raw, Running, World, cases, eventually};

cases! { on every_database:
    what_a_service_has_of_a_deleted_queue_outlives_its_next_connections,
    what_a_service_has_of_a_deleted_queue_is_published_again_when_it_stops,
}

/// One consumer, which holds a few.
fn config() -> String {
    [
        "[[queues]]\nname = 'default'\nprefetch_factor = 5\n".to_owned(),
        witnessed_task("note", "echo $PPID"),
        witnessed_task("hold", "while [ ! -e go ]; do sleep 0.02; done; echo $PPID"),
    ]
    .concat()
}

/// How often a service has begun to consume.
fn openings(service: &Running) -> usize {
    service.log().matches("consuming queue").count()
}

impl World {
    /// Deletes the queue, and waits until the service consumes it anew.
    fn delete_queue(&self, service: &Running) {
        let before = openings(service);
        let path = format!("/api/queues/{}/default", self.name);
        Self::rabbitmq_api("DELETE", &path, None);
        eventually("the queue is consumed again", || openings(service) > before);
    }

    /// Waits until a service has all messages of its queue.
    fn await_empty_queue(&self) {
        eventually("all are with the service", || self.ready("default") == 0);
    }
}

fn cut(proxy: &Proxy, service: &Running) {
    let before = openings(service);
    proxy.cut_connections();
    eventually("a new connection", || openings(service) > before);
}

/// A service by way of a proxy that runs one message, and has four more.
fn with_five(database: Database) -> (World, Proxy, Running, Vec<String>) {
    let mut world = World::on(database, &config());
    let uuids = world.enqueue("default", "hold", 5);
    let proxy = Proxy::start();
    world.broker_url = proxy.url(&world.broker_url);
    let service = world.start(&[]);
    world.await_runs(&uuids[0], 1);
    world.await_empty_queue();
    (world, proxy, service, uuids)
}

fn what_a_service_has_of_a_deleted_queue_outlives_its_next_connections(database: Database) {
    let (world, proxy, service, uuids) = with_five(database);
    world.delete_queue(&service);
    cut(&proxy, &service);
    world.delete_queue(&service);
    cut(&proxy, &service);
    world.let_go();
    world.assert_all_well(vec![service], &uuids);
    assert!(world.all_runs().values().all(|runs| runs.len() == 1));
}

fn what_a_service_has_of_a_deleted_queue_is_published_again_when_it_stops(database: Database) {
    let (world, proxy, mut service, uuids) = with_five(database);
    world.delete_queue(&service);
    cut(&proxy, &service);
    service.signal(rustix::process::Signal::TERM);
    // The one that runs is waited for.
    eventually("the others go to the sweep", || {
        world.count("IN_PROGRESS") == 1 && world.count("PENDING") + world.count("PUBLISHED") == 4
    });
    world.let_go();
    assert_eq!(service.wait(), 0);
    let second = world.start(&[]);
    world.assert_all_well(vec![second], &uuids);
    assert!(world.all_runs().values().all(|runs| runs.len() == 1));
}

#[test]
fn what_a_service_has_of_a_deleted_queue_outlives_its_death() {
    let (world, proxy, mut service, uuids) = with_five(Database::Postgresql);
    world.delete_queue(&service);
    cut(&proxy, &service);
    eventually("all are claimed", || world.count("IN_PROGRESS") == 5);
    service.kill();
    let second = world.start(&[]);
    world.let_go();
    world.assert_all_well(vec![second], &uuids);
}

#[test]
fn messages_of_a_deleted_queue_that_have_no_row_get_one_before_the_service_ends() {
    let mut world = World::new(&config());
    world.declare_queue("default");
    world.publish(&[
        Raw::foreign("hold", Some("first"), "{}"),
        Raw::foreign("hold", Some("with-id"), "{}"),
        Raw::foreign("hold", None, "{\"args\": [\"without\"]}"),
    ]);
    let proxy = Proxy::start();
    world.broker_url = proxy.url(&world.broker_url);
    let mut service = world.start(&[]);
    world.await_runs("first", 1);
    world.await_empty_queue();
    world.delete_queue(&service);
    service.signal(rustix::process::Signal::TERM);
    eventually("the others go to the sweep", || {
        world.count("PENDING") + world.count("PUBLISHED") == 2
    });
    world.let_go();
    assert_eq!(service.wait(), 0);
    let mut second = world.start(&[]);
    world.await_completed(3);
    second.stop_with_empty(&world, &["default"]);
    assert_eq!(world.all_runs().len(), 3);
    assert!(world.all_runs().values().all(|runs| runs.len() == 1));
}

#[test]
fn a_message_of_a_deleted_queue_that_waits_for_its_row_is_run_when_that_has_come() {
    let mut world = World::new(&config());
    world.declare_queue("default");
    let proxy = Proxy::start();
    world.broker_url = proxy.url(&world.broker_url);
    let mut service = world.start(&[]);
    world.publish(&[Raw::django("note", "late", "{}")]);
    world.await_empty_queue();
    world.delete_queue(&service);
    cut(&proxy, &service);
    world.insert_published("default", "note", &["late".to_owned()]);
    assert_eq!(world.ended("late")["status"], "COMPLETED");
    service.stop_with_empty(&world, &["default"]);
}

#[test]
fn a_service_that_stops_waits_for_the_row_of_a_message_of_a_deleted_queue() {
    let world = World::new(&config());
    world.declare_queue("default");
    let mut service = world.start(&[]);
    world.publish(&[
        Raw::django("note", "late", "{}"),
        Raw::django("note", "never", "{}"),
    ]);
    world.await_empty_queue();
    world.delete_queue(&service);
    service.signal(rustix::process::Signal::TERM);
    service.await_log("messages go back");
    world.insert_published("default", "note", &["late".to_owned()]);
    assert_eq!(service.wait(), 0);
    assert_eq!(world.ended("never")["status"], "CANCELLED");
    let mut second = world.start(&[]);
    assert_eq!(world.ended("late")["status"], "COMPLETED");
    second.stop_with_empty(&world, &["default"]);
}
