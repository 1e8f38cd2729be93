//! A queue is deleted. The messages that a service was delivered from it exist nowhere else.

use crate::support::traced_tasks::traced_tasks;
use crate::support::{Database, Proxy, Raw, Running, World, cases, eventually};

cases! { on every_database:
    messages_of_a_deleted_queue_outlive_later_connections_of_their_service,
    messages_of_a_deleted_queue_are_published_again_when_their_service_stops,
}

/// One consumer, and a prefetch of five.
fn config() -> String {
    format!(
        "[[queues]]\nname = 'default'\nprefetch_factor = 5\n{}",
        traced_tasks()
    )
}

/// Deletes the queue, and waits until the service has declared it again and consumes it.
fn delete_queue(world: &World, service: &Running) {
    service.reopens_after(|| world.delete_queue("default"));
}

/// Cuts the connections of the service, and waits until it consumes on a new one.
fn cut(proxy: &Proxy, service: &Running) {
    service.reopens_after(|| proxy.cut_connections());
}

/// A service behind a proxy that runs one message and was delivered four more.
fn with_five(database: Database) -> (World, Proxy, Running, Vec<String>) {
    let mut world = World::on(database, &config());
    let uuids = world.enqueue("default", "hold", 5);
    let proxy = world.proxy_broker();
    let service = world.start(&[]);
    world.await_runs(&uuids[0], 1);
    world.await_ready("default", 0);
    (world, proxy, service, uuids)
}

fn messages_of_a_deleted_queue_outlive_later_connections_of_their_service(database: Database) {
    let (world, proxy, service, uuids) = with_five(database);
    delete_queue(&world, &service);
    cut(&proxy, &service);
    delete_queue(&world, &service);
    cut(&proxy, &service);
    world.release_tasks();
    world.assert_all_well(vec![service], &uuids);
    world.assert_each_ran_once();
}

fn messages_of_a_deleted_queue_are_published_again_when_their_service_stops(database: Database) {
    let (world, proxy, mut service, uuids) = with_five(database);
    delete_queue(&world, &service);
    cut(&proxy, &service);
    service.signal(rustix::process::Signal::TERM);
    // The service waits for the message that runs.
    eventually("the other messages are given to the sweep", || {
        world.count("IN_PROGRESS") == 1 && world.count("PENDING") + world.count("PUBLISHED") == 4
    });
    world.release_tasks();
    assert_eq!(service.wait(), 0);
    let second = world.start(&[]);
    world.assert_all_well(vec![second], &uuids);
    world.assert_each_ran_once();
}

#[test]
fn messages_of_a_deleted_queue_outlive_their_service() {
    let (world, proxy, mut service, uuids) = with_five(Database::Postgresql);
    delete_queue(&world, &service);
    cut(&proxy, &service);
    world.await_count("IN_PROGRESS", 5);
    service.kill();
    let second = world.start(&[]);
    world.release_tasks();
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
    let _proxy = world.proxy_broker();
    let mut service = world.start(&[]);
    world.await_runs("first", 1);
    world.await_ready("default", 0);
    delete_queue(&world, &service);
    service.signal(rustix::process::Signal::TERM);
    eventually("the other messages are given to the sweep", || {
        world.count("PENDING") + world.count("PUBLISHED") == 2
    });
    world.release_tasks();
    assert_eq!(service.wait(), 0);
    let mut second = world.start(&[]);
    world.await_completed(3);
    second.stop_with_empty(&world, &["default"]);
    assert_eq!(world.all_runs().len(), 3);
    world.assert_each_ran_once();
}

#[test]
fn a_message_of_a_deleted_queue_that_waits_for_its_row_is_run_when_the_row_comes() {
    let mut world = World::new(&config());
    world.declare_queue("default");
    let proxy = world.proxy_broker();
    let mut service = world.start(&[]);
    world.publish(&[Raw::django("note", "late", "{}")]);
    world.await_ready("default", 0);
    delete_queue(&world, &service);
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
    world.await_ready("default", 0);
    delete_queue(&world, &service);
    service.signal(rustix::process::Signal::TERM);
    service.await_log("messages go back");
    world.insert_published("default", "note", &["late".to_owned()]);
    assert_eq!(service.wait(), 0);
    assert_eq!(world.ended("never")["status"], "CANCELLED");
    let mut second = world.start(&[]);
    assert_eq!(world.ended("late")["status"], "COMPLETED");
    second.stop_with_empty(&world, &["default"]);
}
