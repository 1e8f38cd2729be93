//! Pruning: final messages are deleted when they are older than the history keeps them.

use std::collections::HashMap;
use std::sync::Barrier;
use std::time::Duration;

use carrot_actors::StoreError;
use carrot_actors::config::History;
use carrot_actors::internals::state::{End, Status};
use carrot_actors::internals::store::{NewRow, Pruned, Session, Stretch, WorkerId};

use super::{claim, finishes, messages, process, published, trial, write};
use crate::support::{Database, World, cases};

cases! { on every_database:
    a_final_message_is_deleted_when_it_is_older_than_the_age_of_its_state,
    an_age_counts_from_the_end,
    unfinished_messages_and_schedules_are_never_deleted,
    a_state_without_an_age_is_kept,
    a_row_without_a_time_of_its_end_is_aged_by_its_recording,
    a_dry_run_counts_and_deletes_nothing,
    stretches_follow_each_other_to_the_end_and_report_recent_messages,
    a_message_that_is_published_later_does_not_end_the_walk,
    a_stretch_is_settled_when_nothing_in_it_will_grow_too_old,
    sessions_that_prune_together_delete_each_row_once,
}

const DAY: Duration = Duration::from_hours(24);

/// In seconds.
const A_DAY: u64 = DAY.as_secs();

const ENDS: [End; 4] = [End::Completed, End::Failed, End::Cancelled, End::Expired];

/// A history that keeps these states for so many days.
fn history(ages: &[(Status, u32)]) -> History {
    let age = |status| {
        let found = ages.iter().find(|(of, _)| *of == status);
        found.map(|(_, days)| DAY * *days)
    };
    History {
        completed: age(Status::Completed),
        failed: age(Status::Failed),
        cancelled: age(Status::Cancelled),
        expired: age(Status::Expired),
        every: DAY,
    }
}

/// A history that keeps every final state for a week.
fn a_week() -> History {
    history(&ENDS.map(|end| (end.status(), 7)))
}

fn stretch(history: &History, after: i64, limit: usize) -> Stretch<'_> {
    Stretch {
        after,
        limit,
        history,
        delete: true,
    }
}

/// Prunes all rows in one stretch: how many of each state were deleted.
#[track_caller]
fn prune(session: &mut dyn Session, history: &History) -> HashMap<Status, usize> {
    let pruned = session.prune(&stretch(history, 0, 1000)).unwrap();
    assert_eq!(pruned.next, None);
    pruned.counts
}

/// Messages that have ended like this.
fn ended(session: &mut dyn Session, worker: WorkerId, end: End, count: usize) -> Vec<String> {
    let keys = published(session, count);
    claim(session, worker, &keys);
    write(session, worker, &finishes(&keys, end));
    keys
}

impl World {
    /// Moves all times of these messages back.
    fn age(&self, keys: &[String], seconds: u64) {
        let keys: Vec<String> = keys.iter().map(|key| format!("'{key}'")).collect();
        let earlier = |column| self.database.before(column, seconds);
        self.execute(&format!(
            "UPDATE carrot_messagelog SET publish_time = {}, completion_time = {}, \
                 failure_time = {} WHERE uuid IN ({})",
            earlier("publish_time"),
            earlier("completion_time"),
            earlier("failure_time"),
            keys.join(", ")
        ));
    }

    fn left(&self) -> Vec<String> {
        let rows = self.rows("SELECT uuid FROM carrot_messagelog ORDER BY id");
        rows.iter()
            .map(|row| row["uuid"].as_str().unwrap().to_owned())
            .collect()
    }

    /// The id of the last of these messages.
    fn last_id(&self, keys: &[String]) -> i64 {
        self.find(keys.last().unwrap()).unwrap()["id"]
            .as_i64()
            .unwrap()
    }
}

fn a_final_message_is_deleted_when_it_is_older_than_the_age_of_its_state(database: Database) {
    let (world, mut session, worker) = trial(database);
    let history = history(&[
        (Status::Completed, 7),
        (Status::Failed, 90),
        (Status::Cancelled, 1),
        (Status::Expired, 2),
    ]);
    let mut young = Vec::new();
    for (end, days) in ENDS.into_iter().zip([7, 90, 1, 2]) {
        let keys = ended(session.as_mut(), worker, end, 3);
        world.age(&keys[..2], days * A_DAY + 1);
        world.age(&keys[2..], days * A_DAY - 60);
        young.extend_from_slice(&keys[2..]);
    }
    let counts = prune(session.as_mut(), &history);
    assert_eq!(counts, ENDS.map(|end| (end.status(), 2)).into());
    assert_eq!(world.left(), young);
    assert!(prune(session.as_mut(), &history).is_empty());
}

/// A message's age is counted from its end, not from its recording: what ran for a month has just ended.
fn an_age_counts_from_the_end(database: Database) {
    let (world, mut session, worker) = trial(database);
    let completed = ended(session.as_mut(), worker, End::Completed, 1);
    let failed = ended(session.as_mut(), worker, End::Failed, 1);
    world.execute(&format!(
        "UPDATE carrot_messagelog SET publish_time = {}",
        database.ago(30 * A_DAY)
    ));
    assert!(prune(session.as_mut(), &a_week()).is_empty());
    // Only the time that belongs to the state counts.
    world.execute(&format!(
        "UPDATE carrot_messagelog SET failure_time = {before} WHERE status = 'COMPLETED'; \
         UPDATE carrot_messagelog SET completion_time = {before} WHERE status = 'FAILED'",
        before = database.ago(20 * A_DAY)
    ));
    assert!(prune(session.as_mut(), &a_week()).is_empty());
    assert_eq!(world.left(), [completed, failed].concat());
}

fn unfinished_messages_and_schedules_are_never_deleted(database: Database) {
    let (world, mut session, worker) = trial(database);
    let rows: Vec<NewRow> = messages(1).iter().map(NewRow::pending).collect();
    session.record(&rows).unwrap();
    let published = published(session.as_mut(), 2);
    claim(session.as_mut(), worker, &published[1..]);
    world.execute(&format!(
        "INSERT INTO carrot_messagelog (uuid, status, task, priority) VALUES ('odd', 'STUCK', 't', 0); \
         INSERT INTO carrot_scheduledtask (interval_type, interval_count, task, active) \
             VALUES ('days', 1, 't', false); \
         UPDATE carrot_messagelog SET publish_time = {before}, completion_time = {before}, \
             failure_time = {before}",
        before = database.ago(3650 * A_DAY)
    ));
    let pruned = session.prune(&stretch(&a_week(), 0, 1000)).unwrap();
    assert_eq!(pruned, Pruned::default());
    assert_eq!(world.left().len(), 4);
    assert_eq!(world.rows("SELECT id FROM carrot_scheduledtask").len(), 1);
}

fn a_state_without_an_age_is_kept(database: Database) {
    let (world, mut session, worker) = trial(database);
    let mut kept = Vec::new();
    for end in ENDS {
        let keys = ended(session.as_mut(), worker, end, 1);
        if end != End::Failed {
            kept.extend(keys);
        }
    }
    world.age(&world.left(), 3650 * A_DAY);
    let counts = prune(session.as_mut(), &history(&[(Status::Failed, 7)]));
    assert_eq!(counts, [(Status::Failed, 1)].into());
    assert_eq!(world.left(), kept);
    assert!(prune(session.as_mut(), &history(&[])).is_empty());
}

/// A row without a time of its end counts from its recording, which was not later. A row without any time may
/// have ended just now, and is kept.
fn a_row_without_a_time_of_its_end_is_aged_by_its_recording(database: Database) {
    let (world, mut session, worker) = trial(database);
    let timed = ended(session.as_mut(), worker, End::Completed, 1);
    let failed = ended(session.as_mut(), worker, End::Failed, 1);
    world.execute(
        "UPDATE carrot_messagelog SET completion_time = NULL, failure_time = NULL; \
         INSERT INTO carrot_messagelog (uuid, status, task, priority) \
             VALUES ('timeless', 'COMPLETED', 't', 0)",
    );
    assert!(prune(session.as_mut(), &a_week()).is_empty());
    world.age(&[timed, failed].concat(), 8 * A_DAY);
    let counts = prune(session.as_mut(), &a_week());
    assert_eq!(counts, [(Status::Completed, 1), (Status::Failed, 1)].into());
    assert_eq!(world.left(), ["timeless"]);
}

fn a_dry_run_counts_and_deletes_nothing(database: Database) {
    let (world, mut session, worker) = trial(database);
    let keys = ended(session.as_mut(), worker, End::Completed, 3);
    world.age(&keys, 8 * A_DAY);
    let week = a_week();
    let dry = Stretch {
        delete: false,
        ..stretch(&week, 0, 2)
    };
    let pruned = session.prune(&dry).unwrap();
    assert_eq!(pruned.counts, [(Status::Completed, 2)].into());
    assert_eq!(pruned.next, Some(world.last_id(&keys[..2])));
    assert!(!pruned.settled, "it is still there");
    assert_eq!(world.left(), keys);
}

fn a_message_that_is_published_later_does_not_end_the_walk(database: Database) {
    let (world, mut session, worker) = trial(database);
    let in_a_month = session.now().unwrap() + DAY * 30;
    let later = messages(2);
    let row = |message| NewRow::delayed(message, in_a_month);
    let later: Vec<NewRow> = later.iter().map(row).collect();
    session.record(&later).unwrap();
    let old = ended(session.as_mut(), worker, End::Completed, 2);
    world.age(&old, 8 * A_DAY);
    let week = a_week();
    let pruned = session.prune(&stretch(&week, 0, 2)).unwrap();
    assert!(!pruned.recent && !pruned.settled);
    let after = pruned.next.unwrap();
    let pruned = session.prune(&stretch(&week, after, 2)).unwrap();
    assert_eq!(pruned.counts, [(Status::Completed, 2)].into());
}

fn stretches_follow_each_other_to_the_end_and_report_recent_messages(database: Database) {
    let (world, mut session, worker) = trial(database);
    let old = ended(session.as_mut(), worker, End::Completed, 5);
    world.age(&old, 8 * A_DAY);
    let young = ended(session.as_mut(), worker, End::Completed, 3);
    let week = a_week();
    let mut walk = Vec::new();
    let mut after = Some(0);
    while let Some(from) = after {
        let pruned = session.prune(&stretch(&week, from, 2)).unwrap();
        assert!(pruned.next.is_none_or(|next| next > from));
        let deleted = pruned.counts.values().sum::<usize>();
        walk.push((deleted, pruned.recent, pruned.settled));
        after = pruned.next;
    }
    assert_eq!(
        walk,
        [
            (2, false, true),
            (2, false, true),
            (1, false, false),
            (0, true, false),
            (0, false, false)
        ]
    );
    assert_eq!(world.left(), young);
}

/// A stretch is not settled while it holds a row that may still grow too old.
fn a_stretch_is_settled_when_nothing_in_it_will_grow_too_old(database: Database) {
    let (world, mut session, worker) = trial(database);
    let failed = ended(session.as_mut(), worker, End::Failed, 1);
    let completed = ended(session.as_mut(), worker, End::Completed, 1);
    let running = published(session.as_mut(), 1);
    world.age(&[&failed[..], &completed, &running].concat(), 8 * A_DAY);
    let mut settled = |days, limit| {
        let history = history(&[(Status::Completed, days)]);
        session.prune(&stretch(&history, 0, limit)).unwrap().settled
    };
    assert!(!settled(30, 2), "one is not old enough yet");
    assert!(settled(7, 2), "one is kept for good, the other is gone");
    assert!(!settled(7, 2), "one is not over yet");
    assert_eq!(world.left(), [failed, running].concat());
}

cases! { on every_server: pruning_skips_locked_rows }

/// Locked rows are skipped, whether they are to be deleted or not finished.
fn pruning_skips_locked_rows(database: Database) {
    let (world, mut session, worker) = trial(database);
    let running = published(session.as_mut(), 1);
    let keys = ended(session.as_mut(), worker, End::Failed, 20);
    world.age(&[&keys[..], &running].concat(), 8 * A_DAY);
    let mut other = world.client();
    other.execute(&format!(
        "BEGIN; SELECT id FROM carrot_messagelog WHERE uuid IN ('{}', '{}') FOR UPDATE",
        keys[1], running[0]
    ));
    let pruned = session.prune(&stretch(&a_week(), 0, 21)).unwrap();
    assert_eq!(pruned.counts, [(Status::Failed, 19)].into());
    assert!(!pruned.settled);
    let left = [&running[..], &keys[1..2]].concat();
    assert_eq!(world.left(), left);
    other.execute("COMMIT");
    assert_eq!(
        prune(session.as_mut(), &a_week()),
        [(Status::Failed, 1)].into()
    );
    assert_eq!(world.left(), running);
}

fn sessions_that_prune_together_delete_each_row_once(database: Database) {
    const SESSIONS: usize = 8;
    let (world, mut session, worker) = trial(database);
    let old = ended(session.as_mut(), worker, End::Completed, 600);
    world.age(&old, 8 * A_DAY);
    let young = ended(session.as_mut(), worker, End::Failed, 1);
    let store = super::open(&world);
    let barrier = Barrier::new(SESSIONS);
    let walk = || {
        let mut session = store.connect().unwrap();
        session.register(&process(2)).unwrap();
        barrier.wait();
        let (mut deleted, mut after) = (0, Some(0));
        while let Some(from) = after {
            let pruned = match session.prune(&stretch(&a_week(), from, 20)) {
                Err(StoreError::Conflict(_)) => continue,
                pruned => pruned.unwrap(),
            };
            deleted += pruned.counts.values().sum::<usize>();
            after = pruned.next;
        }
        deleted
    };
    let walk = &walk;
    let deleted: usize = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..SESSIONS).map(|_| scope.spawn(walk)).collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .sum()
    });
    assert_eq!(deleted, old.len());
    assert_eq!(world.left(), young);
}
