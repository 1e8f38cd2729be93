//! Services that are frozen until others take over their messages, and then continue.

use rustix::process::Signal;

use crate::deaths::services::service_with_claimed_messages;
use crate::support::{Backend, World, cases, eventually, traced_config};

cases! { on every_database_and_broker:
    the_end_from_a_frozen_service_does_not_overwrite_that_of_its_successor,
}

// A service that is frozen with a lock on SQLite's file keeps all others from it.
cases! { on every_server_and_broker:
    a_message_that_a_frozen_service_had_claimed_is_not_run_after_its_end,
}

fn the_end_from_a_frozen_service_does_not_overwrite_that_of_its_successor(backend: Backend) {
    let world = backend.world(&traced_config("", 1));
    let uuid = world.send(&["hold"]);
    let frozen = world.start(&[]);
    world.await_runs(&uuid, 1);
    frozen.signal(Signal::STOP);

    let other = world.start(&[]);
    world.await_runs(&uuid, 2);
    world.release_tasks_of(&frozen);
    frozen.signal(Signal::CONT);
    frozen.await_log("was taken over by another worker");
    let row = world.find(&uuid).unwrap();
    assert_eq!(row["status"], "IN_PROGRESS", "{row}");

    world.release_tasks_of(&other);
    let pid = other.pid().as_raw_nonzero().to_string();
    world.assert_all_well(vec![frozen, other], &[&uuid]);
    assert_eq!(world.find(&uuid).unwrap()["output"], pid.as_str());
    assert_eq!(world.runs(&uuid).len(), 2);
}

fn a_message_that_a_frozen_service_had_claimed_is_not_run_after_its_end(backend: Backend) {
    let world = backend.world(&traced_config("", 1));
    let (frozen, uuids) = service_with_claimed_messages(&world, "");
    frozen.signal(Signal::STOP);

    let other = world.start(&[]);
    world.release_tasks();
    world.await_completed(uuids.len());
    frozen.signal(Signal::CONT);
    frozen.await_log("is no longer ours to run");
    world.assert_all_well(vec![frozen, other], &uuids);
}

/// How many workers have not recorded a heartbeat for so many seconds.
fn silent_for(world: &World, seconds: u64) -> usize {
    let then = world.database.ago(seconds);
    let query = format!("SELECT id FROM carrot_worker WHERE heartbeat < {then}");
    world.rows(&query).len()
}

// On PostgreSQL alone: on MariaDB such a wait ends earlier, and SQLite locks no rows.
#[test]
fn services_whose_heartbeats_waited_for_the_database_do_not_consider_each_other_dead() {
    let world = World::new(&traced_config("", 1));
    let services = [world.start(&[]), world.start(&[])];
    eventually("both services have recorded heartbeats for 15 s", || {
        let query = "SELECT id FROM carrot_worker WHERE heartbeat > started + interval '15 s'";
        world.rows(query).len() == 2
    });
    let mut locks = world
        .rows("SELECT id FROM carrot_worker")
        .into_iter()
        .map(|row| {
            let mut lock = world.client();
            let id = &row["id"];
            lock.execute(&format!(
                "BEGIN; SELECT * FROM carrot_worker WHERE id = {id} FOR UPDATE"
            ));
            lock
        })
        .collect::<Vec<_>>();
    eventually("both heartbeats are too old", || {
        silent_for(&world, 21) == 2
    });
    // One heartbeat is recorded before the other, and then goes on.
    for (lock, left) in locks.iter_mut().zip([1, 0]) {
        lock.execute("COMMIT");
        eventually("the heartbeat is recorded", || {
            silent_for(&world, 4) == left
        });
    }
    let uuid = world.send(&["note"]);
    for service in &services {
        assert!(!service.log().contains("has been silent for long"));
    }
    world.assert_all_well(services.into(), &[uuid]);
}
