//! Heartbeats of workers, and the recovery of what dead workers owned.

use carrot_actors::internals::state::{End, Status};
use carrot_actors::internals::store::{WorkerId, WorkerProcess};

use super::{
    claim, finishes, process, published, remove_silent_workers, silent_workers, trial, write,
};
use crate::support::{Database, cases};

cases! { on every_database:
    only_messages_of_dead_workers_are_recovered,
    a_heartbeat_keeps_a_worker_alive_and_registers_it_again,
    workers_are_found_by_their_namespace,
    workers_without_a_heartbeat_for_20_s_are_silent,
}

fn only_messages_of_dead_workers_are_recovered(database: Database) {
    let (world, mut session, live) = trial(database);
    let [silent, gone] = [2, 3].map(|pid| session.register(&process(pid)).unwrap());
    let keys = published(session.as_mut(), 7);
    claim(session.as_mut(), live, &keys[..1]);
    claim(session.as_mut(), silent, &keys[1..3]);
    claim(session.as_mut(), gone, &keys[3..6]);
    write(
        session.as_mut(),
        gone,
        &finishes(&keys[5..6], End::Completed),
    );
    // This row belongs to a consumer of django-carrot. No service of ours can know whether that is dead.
    world.execute(&format!(
        "UPDATE carrot_messagelog SET status = 'IN_PROGRESS' WHERE uuid = '{}'",
        keys[6]
    ));
    assert_eq!(session.recover(10).unwrap(), 0);
    world.silence(silent, 21);
    assert_eq!(remove_silent_workers(session.as_mut()), 1);
    session.deregister(&[gone]).unwrap();
    assert_eq!(session.recover(3).unwrap(), 3, "no more than asked for");
    assert_eq!(session.recover(3).unwrap(), 1);
    assert_eq!(session.recover(3).unwrap(), 0);
    for key in &keys[1..5] {
        world.assert_status(key, Status::Pending);
        assert_eq!(world.find(key).unwrap()["suspect"], true);
    }
    world.assert_status(&keys[0], Status::InProgress);
    world.assert_status(&keys[5], Status::Completed);
    world.assert_status(&keys[6], Status::InProgress);
    assert_eq!(
        session.take_due(10).unwrap().len(),
        4,
        "they are due at once"
    );
}

fn a_heartbeat_keeps_a_worker_alive_and_registers_it_again(database: Database) {
    let (world, mut session, worker) = trial(database);
    let keys = published(session.as_mut(), 1);
    claim(session.as_mut(), worker, &keys);
    world.silence(worker, 30);
    session.heartbeat(worker, &process(1)).unwrap();
    assert_eq!(remove_silent_workers(session.as_mut()), 0);
    assert_eq!(session.recover(10).unwrap(), 0);
    session.deregister(&[worker]).unwrap();
    session.heartbeat(worker, &process(1)).unwrap();
    assert_eq!(session.recover(10).unwrap(), 0, "it is registered again");
    let workers = session.workers_in("namespace").unwrap();
    assert_eq!(workers, [(worker, process(1))]);
    let next = session.register(&process(2)).unwrap();
    assert_ne!(next, worker, "a number is never used again");
}

fn workers_are_found_by_their_namespace(database: Database) {
    let (_world, mut session, worker) = trial(database);
    let elsewhere = WorkerProcess {
        namespace: "elsewhere".to_owned(),
        host: "ü".repeat(300),
        ..process(2)
    };
    let other = session.register(&elsewhere).unwrap();
    let found = |(id, _): &(WorkerId, WorkerProcess)| *id;
    let here = session.workers_in("namespace").unwrap();
    assert_eq!(here.iter().map(found).collect::<Vec<_>>(), [worker]);
    assert_eq!(here[0].1, process(1));
    let there = session.workers_in("elsewhere").unwrap();
    assert_eq!(there.iter().map(found).collect::<Vec<_>>(), [other]);
    assert!(session.workers_in("nowhere").unwrap().is_empty());
    session.deregister(&[worker]).unwrap();
    assert!(session.workers_in("namespace").unwrap().is_empty());
}

fn workers_without_a_heartbeat_for_20_s_are_silent(database: Database) {
    let (world, mut session, _live) = trial(database);
    let [recent, silent] = [2, 3].map(|pid| session.register(&process(pid)).unwrap());
    world.silence(recent, 18);
    world.silence(silent, 21);
    assert_eq!(silent_workers(session.as_mut()), [silent]);
    let keys = published(session.as_mut(), 1);
    claim(session.as_mut(), silent, &keys);
    assert_eq!(
        session.recover(10).unwrap(),
        0,
        "silent is not dead: the database may have been away"
    );
    assert_eq!(remove_silent_workers(session.as_mut()), 1);
    assert_eq!(session.recover(10).unwrap(), 1);
}
