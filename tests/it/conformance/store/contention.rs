//! Sessions that compete for the same rows.

use std::collections::HashMap;
use std::sync::Barrier;

use carrot_actors::StoreError;
use carrot_actors::internals::store::{
    Batch, BatchResult, Claim, ClaimRequest, NewRow, Session, Store, WorkerId,
};
use serde_json::Value;

use super::{FRESH, claim, claims, messages, open, process, published, trial};
use crate::support::{Database, World, cases, eventually};

cases! { on every_database:
    each_new_message_is_claimed_by_one_of_eight_sessions,
    batches_claimed_in_opposite_orders_finish_and_claim_each_message_once,
    sessions_that_recover_together_take_each_row_once,
}

const SESSIONS: usize = 8;

/// Writes the batch as the ledger does: it retries after a conflict with another transaction.
#[track_caller]
fn write(session: &mut dyn Session, worker: WorkerId, batch: &Batch) -> BatchResult {
    for _ in 0..50 {
        match session.write(worker, batch) {
            Err(StoreError::Conflict(_)) => {}
            other => return other.unwrap(),
        }
    }
    panic!("50 conflicts with other transactions");
}

/// Runs `work` once in each of `sessions` sessions at the same time, and returns which of them got each
/// message.
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

fn each_new_message_is_claimed_by_one_of_eight_sessions(database: Database) {
    let world = World::on(database, "");
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

fn batches_claimed_in_opposite_orders_finish_and_claim_each_message_once(database: Database) {
    let (world, mut session, _) = trial(database);
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

cases! { on every_server: a_claim_that_waited_takes_nothing_from_a_worker_that_registered_meanwhile }

/// A worker registers and claims while an older claim waits for a row. It counts as alive, although the
/// snapshot of the older claim does not contain it.
fn a_claim_that_waited_takes_nothing_from_a_worker_that_registered_meanwhile(database: Database) {
    let (world, mut session, worker) = trial(database);
    let store = open(&world);
    let mut keys = published(session.as_mut(), 2);
    keys.sort();
    let mut blocker = world.client();
    blocker.execute(&format!(
        "BEGIN; UPDATE carrot_messagelog SET uuid = uuid WHERE uuid = '{}'",
        keys[0]
    ));
    let claimed = std::thread::scope(|scope| {
        let mut waiting = store.connect().unwrap();
        let batch = claims(&keys);
        let claiming = scope.spawn(move || write(waiting.as_mut(), worker, &batch).claims);
        eventually("the claim waits for the row", || !world.waits().is_empty());
        let newborn = session.register(&process(2)).unwrap();
        assert_eq!(claim(session.as_mut(), newborn, &keys[1..]), [FRESH]);
        blocker.execute("COMMIT");
        let claimed = claiming.join().unwrap();
        assert_eq!(claimed[0], FRESH);
        (claimed[1].clone(), newborn)
    });
    assert_eq!(claimed.0, Claim::Owned(claimed.1));
}

cases! { on postgresql: a_row_that_is_committed_during_a_claim_is_not_reported_as_owned }

/// A row that is committed between two statements of a claim has no owner. The message must not be
/// acknowledged as one that another worker owns.
fn a_row_that_is_committed_during_a_claim_is_not_reported_as_owned(database: Database) {
    let (world, mut session, worker) = trial(database);
    let other = session.register(&process(2)).unwrap();
    let mut keys = published(session.as_mut(), 1);
    claim(session.as_mut(), other, &keys);
    keys.push("late".to_owned());
    // The claim reads what other workers own after it has looked for free messages. Stop it in between.
    world.execute(
        "CREATE FUNCTION pause() RETURNS trigger LANGUAGE plpgsql AS \
         'BEGIN PERFORM pg_advisory_xact_lock(17); RETURN NEW; END'; \
         CREATE TRIGGER pause BEFORE UPDATE OF due_time ON carrot_messagelog \
         FOR EACH ROW WHEN (OLD.status = 'IN_PROGRESS') EXECUTE FUNCTION pause()",
    );
    let mut blocker = world.client();
    blocker.execute("BEGIN; SELECT pg_advisory_xact_lock(17)");
    let claimed = std::thread::scope(|scope| {
        let mut waiting = open(&world).connect().unwrap();
        let batch = claims(&keys);
        let claiming = scope.spawn(move || write(waiting.as_mut(), worker, &batch).claims);
        eventually("the claim is stopped by the trigger", || {
            !world.waits().is_empty()
        });
        world.insert_published("default", "noop", &keys[1..]);
        blocker.execute("COMMIT");
        claiming.join().unwrap()
    });
    assert_eq!(claimed, [Claim::Owned(other), Claim::NoRow]);
    assert_eq!(claim(session.as_mut(), worker, &keys[1..]), [FRESH]);
}

fn sessions_that_recover_together_take_each_row_once(database: Database) {
    let (world, mut session, worker) = trial(database);
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

impl World {
    /// The transactions of this world that wait for a lock.
    fn waits(&self) -> Vec<Value> {
        match self.database {
            Database::Postgresql => self.rows(&format!(
                "SELECT pid FROM pg_stat_activity WHERE wait_event_type = 'Lock' \
                 AND query LIKE '%carrot_messagelog%' AND pid IN \
                     (SELECT pid FROM pg_locks WHERE relation = '{}.carrot_messagelog'::regclass)",
                self.name
            )),
            Database::Sqlite => Vec::new(),
            #[cfg(feature = "mysql")]
            Database::Mariadb => {
                // InnoDB refreshes that table only if nobody has read it for 0.1 s.
                std::thread::sleep(std::time::Duration::from_millis(150));
                self.rows(
                    "SELECT t.trx_id FROM information_schema.innodb_trx t \
                     JOIN information_schema.processlist p ON p.id = t.trx_mysql_thread_id \
                     WHERE t.trx_state = 'LOCK WAIT' AND p.db = database()",
                )
            }
        }
    }
}
