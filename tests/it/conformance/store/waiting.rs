//! The queues of the embedded broker: messages that wait as rows.

use std::collections::HashMap;

use carrot_actors::StoreError;
use carrot_actors::internals::state::Status;
use carrot_actors::internals::store::{NewRow, Session, WorkerId};
use carrot_actors::message::Message;

use super::{FRESH, claim, messages, open, process, remove_silent_workers, trial};
use crate::support::{Backend, Database, cases, eventually};

cases! { on every_database:
    waiting_messages_are_taken_by_priority_and_age_and_by_one_worker,
    a_message_that_is_put_back_waits_again_unless_it_is_claimed_or_another_worker_took_it,
    all_unclaimed_messages_that_a_worker_took_from_a_queue_are_put_back,
    messages_that_a_dead_worker_took_wait_again,
    sessions_that_take_waiting_messages_at_the_same_time_take_each_once,
}

/// Records messages of these priorities, the oldest first, so that they wait in the queue; their keys.
fn record_waiting(session: &mut dyn Session, queue: &str, priorities: &[u8]) -> Vec<String> {
    let row = |priority: &u8| {
        let message = Message::new("app.tasks.noop", messages(1)[0].arguments.clone(), queue);
        NewRow::pending(&Message {
            priority: *priority,
            ..message
        })
    };
    let rows: Vec<NewRow> = priorities.iter().map(row).collect();
    let keys: Vec<String> = rows.into_iter().map(|row| record(session, row)).collect();
    session.mark_published(&keys).unwrap();
    keys
}

fn record(session: &mut dyn Session, row: NewRow) -> String {
    session.record(std::slice::from_ref(&row)).unwrap();
    row.key
}

/// Takes up to `limit` messages as the embedded broker does: it retries after a conflict.
#[track_caller]
fn take(session: &mut dyn Session, worker: WorkerId, queue: &str, limit: usize) -> Vec<String> {
    let (taken, undecodable) = eventually("a transaction of its own", || {
        match session.take_waiting(worker, queue, limit) {
            Err(StoreError::Conflict(_)) => None,
            other => Some(other.unwrap()),
        }
    });
    assert_eq!(undecodable, []);
    taken.into_iter().map(|message| message.key).collect()
}

/// Takes all that wait. A row that another statement has locked is skipped, and taken by a later call.
#[track_caller]
fn take_all(session: &mut dyn Session, worker: WorkerId, queue: &str) -> Vec<String> {
    let mut all = Vec::new();
    while session.is_any_waiting(queue).unwrap() {
        all.extend(take(session, worker, queue, 100));
    }
    all.sort_unstable();
    all
}

fn sorted(mut keys: Vec<String>) -> Vec<String> {
    keys.sort_unstable();
    keys
}

fn waiting_messages_are_taken_by_priority_and_age_and_by_one_worker(database: Database) {
    let (world, mut session, worker) = trial(Backend::embedded(database));
    let keys = record_waiting(session.as_mut(), "default", &[0, 5, 255, 0, 255]);
    record_waiting(session.as_mut(), "Default", &[255]);
    assert_eq!(session.count_waiting("default").unwrap(), 5);
    let order = [2, 4, 1, 0, 3].map(|nth: usize| keys[nth].clone());
    assert_eq!(take(session.as_mut(), worker, "default", 3), order[..3]);
    assert_eq!(session.count_waiting("default").unwrap(), 2);
    let other = session.register(&process(2)).unwrap();
    assert_eq!(take(session.as_mut(), other, "default", 10), order[3..]);
    assert!(!session.is_any_waiting("default").unwrap());
    assert_eq!(session.count_waiting("Default").unwrap(), 1);
    // They are taken, but not claimed.
    keys.iter()
        .for_each(|key| world.assert_status(key, Status::Published));
    assert_eq!(claim(session.as_mut(), worker, &order[..3]), [FRESH; 3]);
}

fn a_message_that_is_put_back_waits_again_unless_it_is_claimed_or_another_worker_took_it(
    database: Database,
) {
    let (world, mut session, worker) = trial(Backend::embedded(database));
    let keys = record_waiting(session.as_mut(), "default", &[0; 5]);
    assert_eq!(take_all(session.as_mut(), worker, "default").len(), 5);
    claim(session.as_mut(), worker, &keys[..1]);
    let other = session.register(&process(2)).unwrap();
    session.put_back(other, &keys).unwrap();
    assert!(!session.is_any_waiting("default").unwrap());
    session.put_back(worker, &keys[..3]).unwrap();
    let back = take_all(session.as_mut(), other, "default");
    assert_eq!(back, sorted(keys[1..3].to_vec()));
    world.assert_status(&keys[0], Status::InProgress);
    assert_eq!(world.find(&keys[0]).unwrap()["owner"], worker.0);
}

fn all_unclaimed_messages_that_a_worker_took_from_a_queue_are_put_back(database: Database) {
    let (world, mut session, worker) = trial(Backend::embedded(database));
    let other = session.register(&process(2)).unwrap();
    let keys = record_waiting(session.as_mut(), "default", &[2, 1, 0, 0]);
    let elsewhere = record_waiting(session.as_mut(), "Default", &[0]);
    assert_eq!(take(session.as_mut(), other, "default", 1), keys[..1]);
    take_all(session.as_mut(), worker, "default");
    take_all(session.as_mut(), worker, "Default");
    claim(session.as_mut(), worker, &keys[1..2]);

    session.put_back_all(worker, "default").unwrap();
    let back = take_all(session.as_mut(), worker, "default");
    assert_eq!(back, sorted(keys[2..].to_vec()));
    assert!(!session.is_any_waiting("Default").unwrap());
    world.assert_status(&keys[1], Status::InProgress);
    for (key, owner) in [
        (&keys[0], other),
        (&keys[1], worker),
        (&elsewhere[0], worker),
    ] {
        assert_eq!(world.find(key).unwrap()["owner"], owner.0);
    }
}

fn messages_that_a_dead_worker_took_wait_again(database: Database) {
    let (world, mut session, worker) = trial(Backend::embedded(database));
    let keys = record_waiting(session.as_mut(), "default", &[0; 3]);
    let dead = session.register(&process(2)).unwrap();
    take_all(session.as_mut(), dead, "default");
    claim(session.as_mut(), dead, &keys[..1]);
    assert!(!session.is_any_waiting("default").unwrap());
    world.silence(dead, 21);
    assert_eq!(remove_silent_workers(session.as_mut()), 1);
    // The sweep recovers what was claimed.
    let taken = take_all(session.as_mut(), worker, "default");
    assert_eq!(taken, sorted(keys[1..].to_vec()));
}

fn sessions_that_take_waiting_messages_at_the_same_time_take_each_once(database: Database) {
    const SESSIONS: usize = 8;
    let (world, mut session, _) = trial(Backend::embedded(database));
    let keys = record_waiting(session.as_mut(), "default", &[0; 200]);
    let store = open(&world);
    let takers: Vec<_> = (0..SESSIONS)
        .map(|_| {
            let mut session = store.connect().unwrap();
            let worker = session.register(&process(100)).unwrap();
            (session, worker)
        })
        .collect();
    let taken: Vec<String> = std::thread::scope(|scope| {
        let threads: Vec<_> = takers
            .into_iter()
            .map(|(mut session, worker)| {
                scope.spawn(move || take_in_parts(session.as_mut(), worker))
            })
            .collect();
        let taken = threads.into_iter().map(|thread| thread.join().unwrap());
        taken.flatten().collect()
    });
    let mut times: HashMap<String, usize> = HashMap::new();
    for key in taken {
        *times.entry(key).or_default() += 1;
    }
    assert_eq!(times.len(), keys.len());
    assert!(times.values().all(|times| *times == 1), "{times:?}");
}

/// Takes all that wait, a few at a time.
fn take_in_parts(session: &mut dyn Session, worker: WorkerId) -> Vec<String> {
    let mut taken = Vec::new();
    while session.is_any_waiting("default").unwrap() {
        taken.extend(take(session, worker, "default", 8));
    }
    taken
}
