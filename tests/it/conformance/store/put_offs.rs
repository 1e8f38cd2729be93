//! Putting off runs.

use std::time::Duration;

use carrot_actors::internals::state::{Cause, End, Status};
use carrot_actors::internals::store::{
    Batch, Claim, NewRow, PutOff, PutOffDue, PutOffResult, Session, UndecodableRow, WorkerId,
};
use carrot_actors::internals::wire;
use carrot_actors::message::Message;
use serde_json::Value;

use super::{begin, claim, finishes, messages, process, published, trial, write};
use crate::support::{Database, World, cases, milliseconds, text};

cases! { on every_database:
    a_run_that_is_put_off_is_pending_with_the_reason_and_due_in_a_second,
    a_mark_that_comes_late_does_not_undo_a_put_off,
    each_put_off_waits_twice_as_long_up_to_half_a_minute,
    a_message_that_was_put_off_for_too_long_stays_with_its_worker,
    another_cause_or_a_run_that_began_restarts_the_patience,
    a_put_off_does_not_count_when_another_worker_owns_the_message_or_it_is_final,
    a_message_that_is_put_off_is_published_as_it_came_whatever_its_row_held,
    a_run_that_is_put_off_is_no_attempt_and_earlier_attempts_stay_counted,
    a_batch_with_put_offs_answers_in_the_order_of_its_items,
}

const PATIENCE: PutOffDue = PutOffDue::Later(Some(Duration::from_secs(10)));

fn of(key: &str, cause: Cause, due: PutOffDue) -> PutOff {
    let message = Message {
        key: key.to_owned(),
        ..messages(1).remove(0)
    };
    PutOff {
        row: NewRow::pending(&message),
        attempts: 0,
        crash_suspect: false,
        cause,
        reason: cause.format_reason("none is left"),
        due,
    }
}

fn put_off(session: &mut dyn Session, worker: WorkerId, put_off: PutOff) -> PutOffResult {
    let batch = Batch {
        put_offs: vec![put_off],
        ..Batch::default()
    };
    write(session, worker, &batch).put_offs[0]
}

/// Publishes and claims a message; its key.
fn claimed(session: &mut dyn Session, worker: WorkerId) -> String {
    let keys = published(session, 1);
    claim(session, worker, &keys);
    keys.into_iter().next().unwrap()
}

fn claim_one(session: &mut dyn Session, worker: WorkerId, key: &str) -> Vec<Claim> {
    claim(session, worker, &[key.to_owned()])
}

impl World {
    /// Sets the time of the first put-off to so many seconds ago.
    fn set_put_off_since(&self, key: &str, seconds: u64) {
        self.execute(&format!(
            "UPDATE carrot_messagelog SET put_off_since = {} WHERE uuid = '{key}'",
            self.database.ago(seconds)
        ));
    }

    /// In how many milliseconds the message is due, and how many milliseconds ago it was put off first.
    fn times(&self, key: &str) -> (i64, i64) {
        let now = format!("SELECT {} AS now", self.database.ago(0));
        let row = self.find(key).unwrap();
        let now = milliseconds(&self.rows(&now)[0], "now");
        (
            milliseconds(&row, "due_time") - now,
            now - milliseconds(&row, "put_off_since"),
        )
    }
}

fn assert_about(time: i64, seconds: i64) {
    assert!(
        (time - seconds * 1000).abs() < 900,
        "{time} ms, not {seconds} s"
    );
}

fn a_run_that_is_put_off_is_pending_with_the_reason_and_due_in_a_second(database: Database) {
    let (world, mut session, worker) = trial(database);
    let key = claimed(session.as_mut(), worker);
    let first = of(&key, Cause::Resources, PATIENCE);
    assert_eq!(
        put_off(session.as_mut(), worker, first),
        PutOffResult::Waits
    );
    let row = world.find(&key).unwrap();
    assert_eq!(row["status"], "PENDING");
    assert_eq!(row["put_off_reason"], "out of resources: none is left");
    assert_eq!(row["attempts"], 0);
    assert!(row["exception"].is_null() && row["failure_time"].is_null());
    let (due, since) = world.times(&key);
    assert_about(due, 1);
    assert_about(since, 0);
    assert!(session.take_due(10).unwrap().is_empty());
    session.make_due().unwrap();
    assert_eq!(session.take_due(10).unwrap().len(), 1);
}

fn a_mark_that_comes_late_does_not_undo_a_put_off(database: Database) {
    let (world, mut session, worker) = trial(database);
    let row = NewRow::pending(&messages(1)[0]);
    let keys = [row.key.clone()];
    session.record(&[row]).unwrap();
    // The message is delivered and put off before its publisher marks it.
    claim(session.as_mut(), worker, &keys);
    let program = || of(&keys[0], Cause::Program, PATIENCE);
    put_off(session.as_mut(), worker, program());
    session.mark_published(&keys).unwrap();
    world.assert_status(&keys[0], Status::Pending);
    // The same holds when the sweep marks it.
    for _ in 0..2 {
        session.make_due().unwrap();
        assert_eq!(session.take_due(10).unwrap().len(), 1);
        claim(session.as_mut(), worker, &keys);
        put_off(session.as_mut(), worker, program());
        session.mark_published(&keys).unwrap();
        world.assert_status(&keys[0], Status::Pending);
    }
    // Only a mark by the last publisher counts: an older one changes nothing after a death.
    session.make_due().unwrap();
    session.take_due(10).unwrap();
    session.mark_published(&keys).unwrap();
    world.assert_status(&keys[0], Status::Published);
    claim(session.as_mut(), worker, &keys);
    session.deregister(&[worker]).unwrap();
    session.recover(10).unwrap();
    session.mark_published(&keys).unwrap();
    world.assert_status(&keys[0], Status::Pending);
    assert_eq!(session.take_due(10).unwrap().len(), 1);
    session.mark_published(&keys).unwrap();
    world.assert_status(&keys[0], Status::Published);
}

fn each_put_off_waits_twice_as_long_up_to_half_a_minute(database: Database) {
    let (world, mut session, worker) = trial(database);
    let key = claimed(session.as_mut(), worker);
    let without_limit = || of(&key, Cause::HandedBack, PutOffDue::Later(None));
    assert_eq!(
        put_off(session.as_mut(), worker, without_limit()),
        PutOffResult::Waits
    );
    for (so_far, next) in [(3, 4), (20, 21), (29, 30), (100_000, 30)] {
        world.set_put_off_since(&key, so_far);
        claim_one(session.as_mut(), worker, &key);
        assert_eq!(
            put_off(session.as_mut(), worker, without_limit()),
            PutOffResult::Waits
        );
        let (due, since) = world.times(&key);
        assert_about(due, next);
        assert_about(since, so_far.try_into().unwrap());
    }
    // `Now` makes it due at once, however often it was put off.
    let now = of(&key, Cause::HandedBack, PutOffDue::Now);
    assert_eq!(put_off(session.as_mut(), worker, now), PutOffResult::Waits);
    assert_about(world.times(&key).0, 0);
    // A first put-off in the future, by a clock that was set back since, does not count.
    world.execute("UPDATE carrot_messagelog SET put_off_since = '2199-01-01 00:00:00.000000'");
    let limited = || of(&key, Cause::HandedBack, PATIENCE);
    assert_eq!(
        put_off(session.as_mut(), worker, limited()),
        PutOffResult::Waits
    );
    assert_about(world.times(&key).0, 1);
    assert_about(world.times(&key).1, 0);
}

fn a_message_that_was_put_off_for_too_long_stays_with_its_worker(database: Database) {
    let (world, mut session, worker) = trial(database);
    let key = claimed(session.as_mut(), worker);
    let once_more = || of(&key, Cause::Program, PATIENCE);
    assert_eq!(
        put_off(session.as_mut(), worker, once_more()),
        PutOffResult::Waits
    );
    // The wait is cut so that the last attempt is at the end of the patience.
    world.set_put_off_since(&key, 8);
    claim_one(session.as_mut(), worker, &key);
    assert_eq!(
        put_off(session.as_mut(), worker, once_more()),
        PutOffResult::Waits
    );
    assert_about(world.times(&key).0, 2);
    world.set_put_off_since(&key, 11);
    claim_one(session.as_mut(), worker, &key);
    assert_eq!(
        put_off(session.as_mut(), worker, once_more()),
        PutOffResult::TooLong
    );
    let row = world.find(&key).unwrap();
    assert_eq!(
        (&row["status"], &row["owner"]),
        (&"IN_PROGRESS".into(), &worker.0.into())
    );
    assert_eq!(row["due_time"], Value::Null);
    let failed = write(session.as_mut(), worker, &finishes(&[key], End::Failed));
    assert_eq!(failed.finished.len(), 1);
    assert_eq!(world.count("FAILED"), 1);
}

fn another_cause_or_a_run_that_began_restarts_the_patience(database: Database) {
    let (world, mut session, worker) = trial(database);
    let key = claimed(session.as_mut(), worker);
    let other = session.register(&process(2)).unwrap();
    let mut late = |cause| {
        claim_one(session.as_mut(), worker, &key);
        let put_back = put_off(session.as_mut(), worker, of(&key, cause, PATIENCE));
        assert_about(world.times(&key).1, 0);
        world.set_put_off_since(&key, 1000);
        put_back
    };
    assert_eq!(late(Cause::Resources), PutOffResult::Waits);
    // Another cause counts from the start.
    assert_eq!(late(Cause::Program), PutOffResult::Waits);
    assert_eq!(late(Cause::UnknownTask), PutOffResult::Waits);
    assert_eq!(late(Cause::Resources), PutOffResult::Waits);
    // So does a put-off after a run whose worker died.
    claim_one(session.as_mut(), worker, &key);
    session.deregister(&[worker]).unwrap();
    session.recover(10).unwrap();
    let row = world.find(&key).unwrap();
    assert!(
        row["put_off_since"].is_null() && row["put_off_reason"].is_null(),
        "{row}"
    );
    // So does one after another worker took the message from the dead one.
    let once_more = || of(&key, Cause::Resources, PATIENCE);
    session.heartbeat(worker, &process(1)).unwrap();
    claim_one(session.as_mut(), worker, &key);
    put_off(session.as_mut(), worker, once_more());
    world.set_put_off_since(&key, 1000);
    claim_one(session.as_mut(), worker, &key);
    session.deregister(&[worker]).unwrap();
    claim_one(session.as_mut(), other, &key);
    assert_eq!(
        put_off(session.as_mut(), other, once_more()),
        PutOffResult::Waits
    );
    assert_about(world.times(&key).1, 0);
}

fn a_put_off_does_not_count_when_another_worker_owns_the_message_or_it_is_final(
    database: Database,
) {
    let (world, mut session, worker) = trial(database);
    let other = session.register(&process(2)).unwrap();
    let key = claimed(session.as_mut(), other);
    let before = world.find(&key).unwrap();
    let ours = |due| of(&key, Cause::Resources, due);
    assert_eq!(
        put_off(session.as_mut(), worker, ours(PATIENCE)),
        PutOffResult::Taken
    );
    assert_eq!(world.find(&key).unwrap(), before);
    // A message without an owner may be put off.
    session.deregister(&[other]).unwrap();
    session.recover(10).unwrap();
    assert_eq!(
        put_off(session.as_mut(), worker, ours(PATIENCE)),
        PutOffResult::Waits
    );
    // It may also be refused as too long.
    world.set_put_off_since(&key, 1000);
    assert_eq!(
        put_off(session.as_mut(), worker, ours(PATIENCE)),
        PutOffResult::TooLong
    );
    let row = world.find(&key).unwrap();
    assert_eq!(
        (&row["status"], &row["owner"]),
        (&"IN_PROGRESS".into(), &worker.0.into())
    );
    write(
        session.as_mut(),
        worker,
        &finishes(std::slice::from_ref(&key), End::Failed),
    );
    let before = world.find(&key).unwrap();
    assert_eq!(
        put_off(session.as_mut(), worker, ours(PutOffDue::Now)),
        PutOffResult::Already
    );
    assert_eq!(world.find(&key).unwrap(), before);
    let gone = of("unknown", Cause::Resources, PATIENCE);
    assert_eq!(put_off(session.as_mut(), worker, gone), PutOffResult::Gone);
}

fn a_message_that_is_put_off_is_published_as_it_came_whatever_its_row_held(database: Database) {
    let (world, mut session, worker) = trial(database);
    let key = claimed(session.as_mut(), worker);
    world.execute(
        "UPDATE carrot_messagelog SET task = 'another', task_args = '(open(', content = 'x', \
         queue = '', exchange = 'amq.topic', routing_key = 'nowhere', priority = 7",
    );
    let body = r#"{"args": [1, 2.5, "ž\ud83e\udd55'\n"], "kwargs": {"k": [null, 1e+400]}}"#;
    let message = Message {
        key: key.clone(),
        exchange: "amq.direct".to_owned(),
        routing_key: "by this".to_owned(),
        priority: 3,
        ..Message::new("app.ž", wire::decode(body.as_bytes()).unwrap(), "default")
    };
    let put = PutOff {
        row: NewRow::pending(&message),
        ..of(&key, Cause::UnknownTask, PutOffDue::Now)
    };
    assert!(put.row.decodes_to(&message));
    assert_eq!(put_off(session.as_mut(), worker, put), PutOffResult::Waits);
    let due: Vec<Result<Message, UndecodableRow>> = session.take_due(10).unwrap();
    assert_eq!(due, [Ok(message)]);
}

fn a_run_that_is_put_off_is_no_attempt_and_earlier_attempts_stay_counted(database: Database) {
    let (world, mut session, worker) = trial(database);
    let key = claimed(session.as_mut(), worker);
    // The attempt of a crash suspect is counted before it runs, but this run does not begin.
    session.deregister(&[worker]).unwrap();
    session.heartbeat(worker, &process(1)).unwrap();
    claim_one(session.as_mut(), worker, &key);
    let begun = Batch {
        begins: vec![begin(&key)],
        ..Batch::default()
    };
    assert_eq!(write(session.as_mut(), worker, &begun).begun, [true]);
    put_off(
        session.as_mut(),
        worker,
        of(&key, Cause::Resources, PATIENCE),
    );
    let suspect = |attempts| Claim::Ours {
        attempts,
        crash_suspect: true,
    };
    let mut claims = || claim_one(session.as_mut(), worker, &key);
    assert_eq!(claims(), [suspect(0)]);
    // Attempts that a death in this process has counted stay counted.
    let counted = PutOff {
        attempts: 2,
        crash_suspect: true,
        ..of(&key, Cause::Resources, PATIENCE)
    };
    world.execute("UPDATE carrot_messagelog SET suspect = (1 = 0)");
    assert_eq!(
        put_off(session.as_mut(), worker, counted),
        PutOffResult::Waits
    );
    assert_eq!(text(&world.find(&key).unwrap(), "status"), "PENDING");
    assert_eq!(claim(session.as_mut(), worker, &[key]), [suspect(2)]);
}

fn a_batch_with_put_offs_answers_in_the_order_of_its_items(database: Database) {
    let (world, mut session, worker) = trial(database);
    let other = session.register(&process(2)).unwrap();
    let keys = published(session.as_mut(), 5);
    claim(session.as_mut(), worker, &keys[..3]);
    claim(session.as_mut(), other, &keys[3..4]);
    let mut finished = finishes(&keys[..1], End::Completed);
    let put = |key: &String| of(key, Cause::Resources, PATIENCE);
    finished.put_offs = [&keys[2], &keys[3], &keys[1]].map(put).to_vec();
    finished.claims = super::claims(&keys[4..]).claims;
    let result = write(session.as_mut(), worker, &finished);
    assert_eq!(result.finished.len(), 1);
    assert_eq!(
        result.put_offs,
        [
            PutOffResult::Waits,
            PutOffResult::Taken,
            PutOffResult::Waits
        ]
    );
    assert_eq!(result.claims, [super::FRESH]);
    world.assert_status(&keys[1], Status::Pending);
    world.assert_status(&keys[2], Status::Pending);
    world.assert_status(&keys[3], Status::InProgress);
}
