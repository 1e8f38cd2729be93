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

#[test]
fn a_task_whose_connection_is_cut_runs_once_when_its_own_service_gets_it_again() {
    let world = World::new(&traced_config("", 2));
    let uuid = world.send(&["hold"]);
    let service = world.start(&[]);
    world.await_runs(&uuid, 1);
    cut(&world, &service);
    service.await_log("was delivered again while it is in hand");
    world.release_tasks();
    assert_eq!(world.assert_all_well(vec![service], &[&uuid]), 0);
    assert_eq!(world.runs(&uuid).len(), 1);
    assert_eq!(world.find(&uuid).unwrap()["attempts"], 1);
}

#[test]
fn a_task_whose_connection_is_cut_runs_once_when_its_service_has_no_consumer_to_spare() {
    let world = World::new(&traced_config("", 1));
    let uuid = world.send(&["hold"]);
    let service = world.start(&[]);
    world.await_runs(&uuid, 1);
    cut(&world, &service);
    world.release_tasks();
    // The redelivered message is not looked at before the run has ended.
    service.await_log("is COMPLETED already");
    assert_eq!(world.assert_all_well(vec![service], &[&uuid]), 0);
    assert_eq!(world.runs(&uuid).len(), 1);
}

#[test]
fn a_task_whose_connection_is_cut_runs_once_when_another_service_gets_it() {
    let world = World::new(&traced_config("", 2));
    let uuid = world.send(&["hold"]);
    let first = world.start(&[]);
    world.await_runs(&uuid, 1);
    let second = world.start(&[]);
    eventually("the second service is delivered the message", || {
        // The broker redelivers to the service that reconnects first.
        cut(&world, &first);
        second.log().contains("is with worker")
    });
    world.release_tasks();
    assert_eq!(world.assert_all_well(vec![first, second], &[&uuid]), 0);
    assert_eq!(world.runs(&uuid).len(), 1);
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
    world.release_tasks();
    assert_eq!(
        world.assert_all_well(vec![service], &[held.clone(), next]),
        0
    );
    assert_eq!(world.runs(&held).len(), 1);
}

#[test]
fn a_task_whose_queue_is_deleted_runs_once_and_the_queue_is_declared_again() {
    let world = World::new(&traced_config("", 2));
    let held = world.send(&["hold"]);
    let service = world.start(&[]);
    world.await_runs(&held, 1);
    service.reopens_after(|| world.delete_queue("default"));
    let next = world.send(&["note"]);
    assert_eq!(world.ended(&next)["status"], "COMPLETED");
    world.release_tasks();
    assert_eq!(
        world.assert_all_well(vec![service], &[held.clone(), next]),
        0
    );
    assert_eq!(world.runs(&held).len(), 1);
}
