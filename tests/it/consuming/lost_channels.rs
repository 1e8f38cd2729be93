//! A connection, a channel or a queue is lost while a task runs. The service goes on, and records the end of
//! the run.

use crate::support::{Running, World, eventually, traced_config};

/// Makes the broker close the connections of the test's services until this service consumes on a new one.
fn cut(world: &World, service: &Running) {
    let before = service.openings();
    eventually("the service consumes on a new connection", || {
        let is_back = service.openings() > before;
        if !is_back {
            world.cut_connections();
        }
        is_back
    });
}

/// A service with so many consumers that runs the task `hold`, and the uuid of its message.
fn running_task(concurrency: usize) -> (World, String, Running) {
    let world = World::new(&traced_config("", concurrency));
    let uuid = world.send(&["hold"]);
    let service = world.start(&[]);
    world.await_runs(&uuid, 1);
    (world, uuid, service)
}

/// Releases the task, and fails unless all messages are COMPLETED, no copy is left, and the first of them
/// was run once.
#[track_caller]
fn assert_run_once(world: &World, services: Vec<Running>, uuids: &[&String]) {
    world.release_tasks();
    assert_eq!(world.assert_all_well(services, uuids), 0);
    assert_eq!(world.runs(uuids[0]).len(), 1);
}

#[test]
fn a_task_whose_connection_is_cut_runs_once_when_its_own_service_gets_it_again() {
    let (world, uuid, service) = running_task(2);
    cut(&world, &service);
    service.await_log("was delivered again while it is in hand");
    assert_run_once(&world, vec![service], &[&uuid]);
    assert_eq!(world.find(&uuid).unwrap()["attempts"], 1);
}

#[test]
fn a_task_whose_connection_is_cut_runs_once_when_its_service_has_no_consumer_to_spare() {
    let (world, uuid, service) = running_task(1);
    cut(&world, &service);
    world.release_tasks();
    // The redelivered message is not looked at before the run has ended.
    service.await_log("is COMPLETED already");
    assert_run_once(&world, vec![service], &[&uuid]);
}

#[test]
fn a_task_whose_connection_is_cut_runs_once_when_another_service_gets_it() {
    let (world, uuid, first) = running_task(2);
    let second = world.start(&[]);
    eventually("the second service is delivered the message", || {
        // The broker redelivers to the service that reconnects first.
        cut(&world, &first);
        second.log().contains("is with worker")
    });
    assert_run_once(&world, vec![first, second], &[&uuid]);
}

#[test]
fn a_task_whose_channel_the_broker_closes_runs_once_and_the_queue_is_consumed_again() {
    let mut world = World::new(&traced_config("", 2));
    let held = world.send(&["hold"]);
    let proxy = world.proxy_broker();
    let service = world.start(&[]);
    world.await_runs(&held, 1);

    proxy.close_channels();
    service.await_log("was delivered again while it is in hand");
    assert_eq!(service.openings(), 2);
    let next = world.send(&["note"]);
    assert_eq!(world.ended(&next)["status"], "COMPLETED");
    assert_run_once(&world, vec![service], &[&held, &next]);
}

#[test]
fn a_task_whose_queue_is_deleted_runs_once_and_the_queue_is_declared_again() {
    let (world, held, service) = running_task(2);
    service.reopens_after(|| world.delete_queue("default"));
    let next = world.send(&["note"]);
    assert_eq!(world.ended(&next)["status"], "COMPLETED");
    assert_run_once(&world, vec![service], &[&held, &next]);
}
