//! A part of a service dies by a panic. The service starts the part again, or it ends, and the next service
//! runs what was in flight. These services run in the foreground; `daemon::recovery` has the same for daemons,
//! `deployment::notify` for services under systemd, and `schedules::dead_threads` for schedulers.

use crate::support::{Backend, Running, World, cases, eventually, recovers, traced_config};

cases! { on postgresql, embedded_sqlite:
    a_service_that_loses_its_ledger_ends_and_the_next_runs_its_messages,
    a_service_that_loses_a_set_of_consumers_ends_and_the_next_runs_its_messages,
    a_sweep_that_dies_is_restarted,
    a_subscription_that_dies_is_restarted,
}

cases! { on postgresql: a_service_that_loses_its_supervisor_ends }

const SUBSCRIPTION: &str = "the subscription of queue default died";

fn world(backend: Backend) -> World {
    let world = backend.world(&traced_config("", 2));
    world.declare_queue("default");
    world
}

/// The service ends by a panic at `failpoint`, with one long task running and many short ones waiting.
#[track_caller]
fn ends(backend: Backend, failpoint: &str, what: &str) {
    let world = world(backend);
    let held = world.send(&["hold"]);
    let mut uuids = world.post("default", "note", 30);
    let mut service = world.launch(&[], failpoint);
    service.await_log(" died, and the service ends with that");
    assert_eq!(recovers(|| service.wait()), 70);
    let log = service.log();
    assert!(log.contains(&format!("{what} died")), "{log}");
    // It has removed its worker, so that the next service need not wait for its heartbeat to grow old.
    assert_eq!(world.rows("SELECT * FROM carrot_worker").len(), 0);

    world.release_tasks();
    let next = world.start(&[]);
    uuids.push(held);
    world.assert_all_well(vec![next], &uuids);
}

fn a_service_that_loses_its_ledger_ends_and_the_next_runs_its_messages(backend: Backend) {
    ends(backend, "ledger.after-commit=panic@5", "the ledger");
}

fn a_service_that_loses_a_set_of_consumers_ends_and_the_next_runs_its_messages(backend: Backend) {
    ends(
        backend,
        "set.claimed=panic@3",
        "the set of consumers of queue default",
    );
}

fn a_service_that_loses_its_supervisor_ends(backend: Backend) {
    ends(backend, "supervisor.started=panic", "the supervisor");
}

/// A service in which a part dies by a panic at `failpoint`; its log says `death`.
#[track_caller]
fn survivor(world: &World, failpoint: &str, death: &str) -> Running {
    let service = world.launch(&[], failpoint);
    service.await_log(death);
    service
}

fn a_sweep_that_dies_is_restarted(backend: Backend) {
    let world = world(backend);
    let service = survivor(&world, "sweep.looks=panic@2", "the sweep died");
    let uuid = world.send_and_die("note", "publish.recorded");
    recovers(|| world.await_runs(&uuid, 1));
    world.assert_all_well(vec![service], &[uuid]);
}

fn a_subscription_that_dies_is_restarted(backend: Backend) {
    let world = world(backend);
    let uuids = world.post("default", "note", 30);
    let service = survivor(&world, "subscription.event=panic@2", SUBSCRIPTION);
    recovers(|| world.await_completed(uuids.len()));
    world.assert_all_well(vec![service], &uuids);
    world.assert_each_ran_once();
}

#[test]
fn a_heartbeat_and_pruning_that_die_are_restarted() {
    let history = "history = { completed = '1h', every = '1s' }";
    let world = World::new(&traced_config(history, 1));
    let service = world.launch(&[], "heartbeat.beats=panic@2; prune.walks=panic@2");
    service.await_log("the heartbeat died");
    service.await_log("the pruning died");
    let heartbeat = || world.rows("SELECT heartbeat FROM carrot_worker").remove(0);
    let before = heartbeat();
    recovers(|| eventually("another heartbeat is recorded", || heartbeat() != before));
    let uuid = world.send(&["note"]);
    world.ended(&uuid);
    world.execute(
        "UPDATE carrot_messagelog SET completion_time = now() - interval '61 minutes', \
         publish_time = now() - interval '61 minutes'",
    );
    eventually("its row is deleted", || world.find(&uuid).is_none());
    world.assert_all_well(vec![service], &[""; 0]);
}
