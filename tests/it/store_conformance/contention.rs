//! Sessions that want the same rows at the same time.

use std::collections::HashMap;
use std::sync::Barrier;

use carrot_actors::store::{
    Batch, BatchResult, Claim, ClaimRequest, NewRow, Session, Store, StoreError, WorkerId,
};
use diesel::connection::SimpleConnection;

use super::{FRESH, Open, claim, claims, messages, process, published, trial};
use crate::support::{World, eventually};

const SESSIONS: usize = 8;

/// Writes the batch as the ledger does: what met another transaction is tried again.
#[track_caller]
fn write(session: &mut dyn Session, worker: WorkerId, batch: &Batch) -> BatchResult {
    for _ in 0..50 {
        match session.write(worker, batch) {
            Err(StoreError::Conflict(_)) => {}
            other => return other.unwrap(),
        }
    }
    panic!("it met other transactions again and again");
}

/// Who got each message: `work` once on each of so many sessions, at the same time.
fn race(
    store: &dyn Store,
    sessions: usize,
    work: impl Fn(usize, &mut dyn Session, WorkerId) -> Vec<(String, Claim)> + Sync,
) -> HashMap<String, usize> {
    let barrier = Barrier::new(sessions);
    let run = |nth: usize| {
        let mut session = store.connect().unwrap();
        let worker = session.register(&process(100)).unwrap();
        barrier.wait();
        work(nth, session.as_mut(), worker)
    };
    let run = &run;
    let verdicts: Vec<(String, Claim)> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..sessions)
            .map(|nth| scope.spawn(move || run(nth)))
            .collect();
        threads
            .into_iter()
            .flat_map(|thread| thread.join().unwrap())
            .collect()
    });
    let mut winners: HashMap<String, usize> = HashMap::new();
    for (key, verdict) in verdicts {
        assert!(
            matches!(verdict, FRESH | Claim::Owned(_)),
            "{key}: {verdict:?}"
        );
        *winners.entry(key).or_default() += usize::from(verdict == FRESH);
    }
    winners
}

pub fn adopts_once(open: Open) {
    let world = World::new("");
    let store = open(&world);
    let rows: Vec<NewRow> = messages(200)
        .iter()
        .map(|message| NewRow::pending(message).published())
        .collect();
    let winners = race(store.as_ref(), SESSIONS, |nth, session, worker| {
        let mut verdicts = Vec::new();
        for part in rows.chunks(20) {
            let request = |row: &NewRow| ClaimRequest {
                key: row.key.clone(),
                adopt: Some(row.clone()),
            };
            let mut batch = Batch {
                claims: part.iter().map(request).collect(),
                ..Batch::default()
            };
            batch.claims.rotate_left(nth);
            let claimed = write(session, worker, &batch).claims;
            verdicts.extend(batch.claims.into_iter().map(|claim| claim.key).zip(claimed));
        }
        verdicts
    });
    assert_eq!(winners.len(), rows.len());
    assert!(winners.values().all(|ours| *ours == 1), "{winners:?}");
    assert_eq!(world.count("IN_PROGRESS"), rows.len());
    assert_eq!(
        world.rows("SELECT id FROM carrot_messagelog").len(),
        rows.len()
    );
}

pub fn claims_in_opposite_orders(open: Open) {
    let (world, mut session, _) = trial(open);
    let store = open(&world);
    for _ in 0..20 {
        let keys = published(session.as_mut(), 200);
        let winners = race(store.as_ref(), 2, |nth, session, worker| {
            let mut batch = claims(&keys);
            if nth == 1 {
                batch.claims.reverse();
            }
            let claimed = write(session, worker, &batch).claims;
            batch
                .claims
                .into_iter()
                .map(|claim| claim.key)
                .zip(claimed)
                .collect()
        });
        assert_eq!(winners.len(), keys.len());
        assert!(winners.values().all(|ours| *ours == 1), "{winners:?}");
    }
}

/// A worker that registers and claims while an older claim waits for a row is alive, though that
/// claim's view of the database is older than it.
pub fn does_not_take_from_a_newborn(open: Open) {
    let (world, mut session, worker) = trial(open);
    let store = open(&world);
    let mut keys = published(session.as_mut(), 2);
    keys.sort();
    let mut blocker = world.postgres();
    blocker
        .batch_execute(&format!(
            "BEGIN; SELECT id FROM carrot_messagelog WHERE uuid = '{}' FOR UPDATE",
            keys[0]
        ))
        .unwrap();
    let claimed = std::thread::scope(|scope| {
        let mut waiting = store.connect().unwrap();
        let batch = claims(&keys);
        let claiming = scope.spawn(move || write(waiting.as_mut(), worker, &batch).claims);
        eventually("the wait for the row", || {
            let waits = world.rows(&format!(
                "SELECT pid FROM pg_stat_activity WHERE wait_event_type = 'Lock' \
                 AND query LIKE '%carrot_messagelog%' AND pid IN \
                     (SELECT pid FROM pg_locks WHERE relation = '{}.carrot_messagelog'::regclass)",
                world.name
            ));
            (!waits.is_empty()).then_some(())
        });
        let newborn = session.register(&process(2)).unwrap();
        assert_eq!(claim(session.as_mut(), newborn, &keys[1..]), [FRESH]);
        blocker.batch_execute("COMMIT").unwrap();
        let claimed = claiming.join().unwrap();
        assert_eq!(claimed[0], FRESH);
        (claimed[1].clone(), newborn)
    });
    assert_eq!(claimed.0, Claim::Owned(claimed.1));
}

pub fn recovers_once(open: Open) {
    let (world, mut session, worker) = trial(open);
    let keys = published(session.as_mut(), 500);
    claim(session.as_mut(), worker, &keys);
    session.deregister(&[worker]).unwrap();
    let store = open(&world);
    let barrier = Barrier::new(SESSIONS);
    let recover = || {
        let mut session = store.connect().unwrap();
        barrier.wait();
        let mut recovered = 0;
        loop {
            match session.recover(20).unwrap() {
                0 => return recovered,
                some => recovered += some,
            }
        }
    };
    let recover = &recover;
    let recovered: usize = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..SESSIONS).map(|_| scope.spawn(recover)).collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .sum()
    });
    assert_eq!(recovered, keys.len());
    assert_eq!(world.count("PENDING"), keys.len());
}
