//! Recording messages, marking them as published, taking due ones, requeueing.

use std::collections::{BTreeSet, HashSet};
use std::sync::{Arc, Barrier};

use carrot_actors::StoreError;
use carrot_actors::internals::state::{End, Status};
use carrot_actors::internals::store::{NewRow, Requeue, Requeued, Session};
use carrot_actors::message::Message;

use super::{claim, finishes, messages, open, published, trial, write};
use crate::support::{Database, cases, eventually};

cases! { on every_database:
    a_recorded_message_is_pending_and_becomes_published_when_marked,
    a_refused_row_fails_the_whole_recording,
    a_recorded_message_is_due_when_its_lease_expires_and_is_leased_by_the_session_that_takes_it,
    a_due_message_reads_as_it_was_recorded,
    a_message_that_can_not_be_published_is_failed_with_the_reason_if_it_is_still_pending,
    sessions_that_take_due_rows_at_the_same_time_take_each_once,
    a_final_message_is_requeued_as_a_new_one_and_a_running_one_is_not,
    all_failed_messages_are_requeued_at_once_and_no_others,
}

fn record(session: &mut dyn Session, count: usize) -> Vec<Message> {
    let messages = messages(count);
    let rows: Vec<NewRow> = messages.iter().map(NewRow::pending).collect();
    session.record(&rows).unwrap();
    messages
}

fn keys(messages: &[Message]) -> Vec<String> {
    messages.iter().map(|message| message.key.clone()).collect()
}

fn a_recorded_message_is_pending_and_becomes_published_when_marked(database: Database) {
    let (world, mut session, worker) = trial(database);
    let keys = keys(&record(session.as_mut(), 2));
    keys.iter()
        .for_each(|key| world.assert_status(key, Status::Pending));
    session.mark_published(&keys[..1]).unwrap();
    world.assert_status(&keys[0], Status::Published);
    world.assert_status(&keys[1], Status::Pending);
    // A mark that is written late changes nothing.
    claim(session.as_mut(), worker, &keys);
    session.mark_published(&keys).unwrap();
    world.assert_status(&keys[1], Status::InProgress);
    write(session.as_mut(), worker, &finishes(&keys, End::Completed));
    session.mark_published(&keys).unwrap();
    world.assert_status(&keys[0], Status::Completed);
}

cases! { on postgresql: a_mark_reads_only_its_own_rows_whatever_the_statistics_say }

/// Statistics that were taken while no row was PENDING make the index of pending rows look empty to the
/// planner.
fn a_mark_reads_only_its_own_rows_whatever_the_statistics_say(database: Database) {
    let (world, mut session, _) = trial(database);
    published(session.as_mut(), 2000);
    world.execute("ANALYZE carrot_messagelog");
    let keys = keys(&record(session.as_mut(), 2000));
    for part in keys.chunks(500) {
        session.mark_published(part).unwrap();
    }
    // PostgreSQL reports a session's counters when the session ends.
    drop(session);
    let counted = eventually("the counters of the session", || {
        let counts = world.rows(
            "SELECT indexrelname AS index, idx_tup_read AS read FROM pg_stat_user_indexes \
             WHERE schemaname = current_schema() AND relname = 'carrot_messagelog'",
        );
        let read = |index: &str| {
            let of = counts.iter().find(|row| row["index"] == index);
            of.and_then(|row| row["read"].as_i64()).unwrap_or_default()
        };
        let by_key = read("carrot_messagelog_uuid");
        (by_key >= 2000).then(|| (by_key, read("carrot_messagelog_pending")))
    });
    // Each row is read a few times, with its old versions, but not all rows for each of them.
    assert!(counted.0 < 100_000 && counted.1 < 100_000, "{counted:?}");
}

fn a_refused_row_fails_the_whole_recording(database: Database) {
    let (world, mut session, _) = trial(database);
    world.refuse("content", "forbidden");
    let mut rows: Vec<NewRow> = messages(3).iter().map(NewRow::pending).collect();
    rows[1].content = Some("what is forbidden".to_owned());
    let refused = session.record(&rows);
    assert!(
        matches!(
            refused,
            Err(StoreError::Refused(_) | StoreError::Unclear(_))
        ),
        "{refused:?}"
    );
    assert_eq!(world.count("PENDING"), 0);
    rows.remove(1);
    session.record(&rows).unwrap();
    assert_eq!(world.count("PENDING"), 2, "the session is good for more");
}

fn a_recorded_message_is_due_when_its_lease_expires_and_is_leased_by_the_session_that_takes_it(
    database: Database,
) {
    let (world, mut session, _) = trial(database);
    let sent = record(session.as_mut(), 3);
    assert!(
        session.take_due(10).unwrap().is_empty(),
        "it is its recorder's to publish"
    );
    world.end_leases();
    assert_eq!(
        session.take_due(2).unwrap().len(),
        2,
        "no more than asked for"
    );
    assert_eq!(session.take_due(10).unwrap().len(), 1);
    assert!(
        session.take_due(10).unwrap().is_empty(),
        "they are on a lease"
    );
    session.mark_published(&keys(&sent[..1])).unwrap();
    world.end_leases();
    assert_eq!(
        session.take_due(10).unwrap().len(),
        2,
        "what was not marked is due again"
    );
}

fn a_due_message_reads_as_it_was_recorded(database: Database) {
    let (world, mut session, _) = trial(database);
    let mut sent = messages(2);
    sent[0].priority = 255;
    sent[1].exchange = "an exchange".to_owned();
    sent[1].routing_key = "a key".to_owned();
    let kwargs = serde_json::json!({"a": [1, 2.5, null, true], "ü": "'\"\\"});
    sent[1].arguments.kwargs = kwargs.as_object().unwrap().clone().into();
    let rows: Vec<NewRow> = sent.iter().map(NewRow::pending).collect();
    session.record(&rows).unwrap();
    world.end_leases();
    let taken = session.take_due(10).unwrap();
    let mut taken: Vec<Message> = taken.into_iter().map(Result::unwrap).collect();
    taken.sort_by_key(|message| message.key != sent[0].key);
    assert_eq!(taken, sent);
}

fn a_message_that_can_not_be_published_is_failed_with_the_reason_if_it_is_still_pending(
    database: Database,
) {
    let (world, mut session, _) = trial(database);
    let pending = keys(&record(session.as_mut(), 1)).remove(0);
    let published = published(session.as_mut(), 1).remove(0);
    let reason = |key: &String| (key.clone(), "no such queue".to_owned());
    let failures = [reason(&pending), reason(&published)];
    session.fail_pending(&failures).unwrap();
    let row = world.find(&pending).unwrap();
    assert_eq!(
        (&row["status"], &row["exception"]),
        (&"FAILED".into(), &"no such queue".into())
    );
    assert!(row["failure_time"].is_string());
    world.assert_status(&published, Status::Published);
}

fn sessions_that_take_due_rows_at_the_same_time_take_each_once(database: Database) {
    const SESSIONS: usize = 8;
    let (world, mut session, _) = trial(database);
    let sent = record(session.as_mut(), 1000);
    world.end_leases();
    let store = Arc::from(open(&world));
    let store: &Arc<dyn carrot_actors::internals::store::Store> = &store;
    let barrier = Barrier::new(SESSIONS);
    let take = || {
        let mut session = store.connect().unwrap();
        let mut taken = Vec::new();
        barrier.wait();
        loop {
            let (step, undecodable) = session.take_due_but(30, &BTreeSet::new()).unwrap();
            assert_eq!(undecodable, []);
            if step.is_empty() {
                return taken;
            }
            taken.extend(step.iter().map(|message| message.key.clone()));
        }
    };
    let taken: Vec<String> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..SESSIONS).map(|_| scope.spawn(take)).collect();
        threads
            .into_iter()
            .flat_map(|thread| thread.join().unwrap())
            .collect()
    });
    assert_eq!(taken.len(), sent.len(), "none twice");
    let distinct: HashSet<String> = taken.into_iter().collect();
    assert_eq!(distinct, keys(&sent).into_iter().collect());
}

fn a_final_message_is_requeued_as_a_new_one_and_a_running_one_is_not(database: Database) {
    let (world, mut session, worker) = trial(database);
    let keys = published(session.as_mut(), 3);
    claim(session.as_mut(), worker, &keys[..2]);
    write(session.as_mut(), worker, &finishes(&keys[..1], End::Failed));
    let waiting = messages(1).remove(0);
    session.record(&[NewRow::pending(&waiting)]).unwrap();
    let asked = [keys.clone(), vec![waiting.key, "unknown".to_owned()]].concat();
    let results = session.requeue(&Requeue::Keys(asked)).unwrap();
    assert_eq!(results.len(), 5);
    let mut not_final = Vec::new();
    let mut replaced = Vec::new();
    for result in results {
        match result {
            Requeued::As {
                old,
                was_published,
                new,
            } => {
                assert_eq!(was_published, old == keys[2]);
                replaced.push(old.clone());
                assert!(world.find(&old).is_none());
                world.assert_status(&new.key, Status::Pending);
                assert_eq!(new.task, "app.tasks.noop");
            }
            Requeued::NotFinal { status, .. } => not_final.push(status),
            Requeued::Unknown(key) => assert_eq!(key, "unknown"),
            Requeued::Undecodable(row) => panic!("{row:?}"),
        }
    }
    not_final.sort();
    assert_eq!(not_final, ["IN_PROGRESS", "PENDING"]);
    replaced.sort();
    let mut final_or_lost = [keys[0].clone(), keys[2].clone()];
    final_or_lost.sort();
    assert_eq!(replaced, final_or_lost);
}

fn all_failed_messages_are_requeued_at_once_and_no_others(database: Database) {
    let (world, mut session, worker) = trial(database);
    let keys = published(session.as_mut(), 6);
    claim(session.as_mut(), worker, &keys);
    write(session.as_mut(), worker, &finishes(&keys[..3], End::Failed));
    write(
        session.as_mut(),
        worker,
        &finishes(&keys[3..], End::Completed),
    );
    let last = session.last_failed().unwrap().unwrap();
    let (requeued, next) = session.requeue_failed(0, last).unwrap();
    assert_eq!((requeued.len(), next), (3, None));
    assert_eq!(session.last_failed().unwrap(), None);
    assert_eq!((world.count("PENDING"), world.count("COMPLETED")), (3, 3));
}
