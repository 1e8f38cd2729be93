//! Services that stand still for so long that others take over their messages, and then go on.

use rustix::process::Signal;

use crate::deaths::services::service_with_claimed_messages;
use crate::support::{Backend, World, cases, eventually, witnessed};

cases! { on every_database_and_broker:
    the_end_from_a_frozen_service_does_not_overwrite_that_of_who_took_over,
}

// One that has locked SQLite's file keeps others from it for as long as it stands still.
cases! { on every_server_and_broker:
    what_a_frozen_service_had_claimed_is_not_run_by_it_after_its_end,
}

fn the_end_from_a_frozen_service_does_not_overwrite_that_of_who_took_over(backend: Backend) {
    let world = backend.world(&witnessed("", 1));
    let uuid = world.send(&["hold"]);
    let frozen = world.start(&[]);
    world.await_runs(&uuid, 1);
    frozen.signal(Signal::STOP);

    let other = world.start(&[]);
    world.await_runs(&uuid, 2);
    world.let_go_of(&frozen);
    frozen.signal(Signal::CONT);
    frozen.await_log("was taken over by another worker");
    let row = world.find(&uuid).unwrap();
    assert_eq!(row["status"], "IN_PROGRESS", "{row}");

    world.let_go_of(&other);
    let pid = other.pid().as_raw_nonzero().to_string();
    world.assert_all_well(vec![frozen, other], &[&uuid]);
    assert_eq!(world.find(&uuid).unwrap()["output"], pid.as_str());
    assert_eq!(world.runs(&uuid).len(), 2);
}

fn what_a_frozen_service_had_claimed_is_not_run_by_it_after_its_end(backend: Backend) {
    let world = backend.world(&witnessed("", 1));
    let (frozen, uuids) = service_with_claimed_messages(&world, "");
    frozen.signal(Signal::STOP);

    let other = world.start(&[]);
    world.let_go();
    world.await_completed(uuids.len());
    frozen.signal(Signal::CONT);
    frozen.await_log("is no longer ours to run");
    world.assert_all_well(vec![frozen, other], &uuids);
}

/// How many of the workers have not sent a heartbeat for so long.
fn silent_for(world: &World, seconds: u64) -> usize {
    let then = world.database.ago(seconds);
    let query = format!("SELECT id FROM carrot_worker WHERE heartbeat < {then}");
    world.rows(&query).len()
}

// MariaDB does not let them wait for so long, and SQLite locks no rows.
#[test]
fn services_whose_heartbeats_waited_for_the_database_do_not_call_each_other_dead() {
    let world = World::new(&witnessed("", 1));
    let services = [world.start(&[]), world.start(&[])];
    eventually("heartbeats for longer than anybody is waited for", || {
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
    eventually("heartbeats that are too old", || {
        silent_for(&world, 21) == 2
    });
    // One has its answer before the other, and beats on meanwhile.
    for (lock, left) in locks.iter_mut().zip([1, 0]) {
        lock.execute("COMMIT");
        eventually("another heartbeat", || silent_for(&world, 4) == left);
    }
    let uuid = world.send(&["note"]);
    for service in &services {
        assert!(!service.log().contains("has been silent for long"));
    }
    world.assert_all_well(services.into(), &[uuid]);
}
