//! Recording ends of runs: only the owner of a message may.

use carrot_actors::StoreError;
use carrot_actors::internals::state::{End, Status};
use carrot_actors::internals::store::{Batch, Claim, Finish, FinishResult};

use super::{FRESH, begin, claim, claims, finish, finishes, process, published, trial, write};
use crate::support::{Database, cases};

cases! { on every_database:
    the_end_of_a_run_is_recorded_with_all_its_columns,
    a_final_state_is_never_left,
    an_end_does_not_count_when_another_worker_owns_the_message,
    an_end_counts_when_the_message_has_no_owner,
    an_end_of_a_deleted_row_is_reported_as_gone,
    a_batch_that_is_refused_changes_nothing,
    an_end_that_was_made_storable_is_stored_to_the_letter,
    a_batch_of_everything_answers_in_the_order_of_its_items,
}

fn the_end_of_a_run_is_recorded_with_all_its_columns(database: Database) {
    let (world, mut session, worker) = trial(database);
    let keys = published(session.as_mut(), 2);
    claim(session.as_mut(), worker, &keys);
    let completed = Finish {
        attempts: 3,
        output: Some("\"ü\"".to_owned()),
        log: Some("a\nb".to_owned()),
        ..finish(&keys[0], End::Completed)
    };
    let failed = Finish {
        exception: Some("it broke".to_owned()),
        traceback: Some("here".to_owned()),
        ..finish(&keys[1], End::Failed)
    };
    let batch = Batch {
        finishes: vec![completed, failed],
        ..Batch::default()
    };
    let finished = write(session.as_mut(), worker, &batch).finished;
    assert_eq!(finished, [FinishResult::Written; 2]);
    let row = world.find(&keys[0]).unwrap();
    assert_eq!(
        (&row["status"], &row["attempts"]),
        (&"COMPLETED".into(), &3.into())
    );
    assert_eq!(
        (&row["output"], &row["log"]),
        (&"\"ü\"".into(), &"a\nb".into())
    );
    assert!(row["completion_time"].is_string() && row["failure_time"].is_null());
    let row = world.find(&keys[1]).unwrap();
    assert_eq!(
        (&row["status"], &row["exception"]),
        (&"FAILED".into(), &"it broke".into())
    );
    assert_eq!(row["traceback"], "here");
    assert!(row["failure_time"].is_string() && row["completion_time"].is_null());
}

fn a_final_state_is_never_left(database: Database) {
    let (world, mut session, worker) = trial(database);
    let keys = published(session.as_mut(), 1);
    claim(session.as_mut(), worker, &keys);
    write(session.as_mut(), worker, &finishes(&keys, End::Completed));
    for end in [End::Failed, End::Cancelled, End::Completed] {
        let again = write(session.as_mut(), worker, &finishes(&keys, end)).finished;
        assert_eq!(again, [FinishResult::Already]);
    }
    world.assert_status(&keys[0], Status::Completed);
}

fn an_end_does_not_count_when_another_worker_owns_the_message(database: Database) {
    let (world, mut session, worker) = trial(database);
    let other = session.register(&process(2)).unwrap();
    let keys = published(session.as_mut(), 1);
    claim(session.as_mut(), worker, &keys);
    session.deregister(&[worker]).unwrap();
    claim(session.as_mut(), other, &keys);
    let late = write(session.as_mut(), worker, &finishes(&keys, End::Failed)).finished;
    assert_eq!(late, [FinishResult::Taken]);
    world.assert_status(&keys[0], Status::InProgress);
    let right = write(session.as_mut(), other, &finishes(&keys, End::Completed)).finished;
    assert_eq!(right, [FinishResult::Written]);
    let late = write(session.as_mut(), worker, &finishes(&keys, End::Failed)).finished;
    assert_eq!(late, [FinishResult::Already]);
    world.assert_status(&keys[0], Status::Completed);
}

fn an_end_counts_when_the_message_has_no_owner(database: Database) {
    let (world, mut session, worker) = trial(database);
    let keys = published(session.as_mut(), 2);
    // The claim of the first message was lost. The sweep has taken the second one back.
    claim(session.as_mut(), worker, &keys[1..]);
    session.deregister(&[worker]).unwrap();
    assert_eq!(session.recover(10).unwrap(), 1);
    world.assert_status(&keys[1], Status::Pending);
    let finished = write(session.as_mut(), worker, &finishes(&keys, End::Completed)).finished;
    assert_eq!(finished, [FinishResult::Written; 2]);
    assert_eq!(world.count("COMPLETED"), 2);
    world.end_leases();
    assert!(
        session.take_due(10).unwrap().is_empty(),
        "what is final is not due"
    );
}

fn an_end_of_a_deleted_row_is_reported_as_gone(database: Database) {
    let (world, mut session, worker) = trial(database);
    let keys = published(session.as_mut(), 3);
    claim(session.as_mut(), worker, &keys);
    world.execute(&format!(
        "DELETE FROM carrot_messagelog WHERE uuid = '{}'",
        keys[1]
    ));
    let finished = write(session.as_mut(), worker, &finishes(&keys, End::Completed)).finished;
    use FinishResult::{Gone, Written};
    assert_eq!(finished, [Written, Gone, Written]);
    assert!(world.find(&keys[1]).is_none());
}

fn a_batch_that_is_refused_changes_nothing(database: Database) {
    let (world, mut session, worker) = trial(database);
    let keys = published(session.as_mut(), 3);
    claim(session.as_mut(), worker, &keys[..2]);
    let mut batch = finishes(&keys[..2], End::Completed);
    world.refuse("output", "forbidden");
    batch.finishes[1].output = Some("what is forbidden".to_owned());
    batch.claims = claims(&keys[2..]).claims;
    let refused = session.write(worker, &batch);
    assert!(
        matches!(
            refused,
            Err(StoreError::Refused(_) | StoreError::Unclear(_))
        ),
        "{refused:?}"
    );
    world.assert_status(&keys[0], Status::InProgress);
    world.assert_status(&keys[2], Status::Published);
    batch.finishes[1].output = None;
    let result = write(session.as_mut(), worker, &batch);
    assert_eq!(result.finished, [FinishResult::Written; 2]);
    assert_eq!(result.claims, [FRESH]);
}

fn an_end_that_was_made_storable_is_stored_to_the_letter(database: Database) {
    let (world, mut session, worker) = trial(database);
    let keys = published(session.as_mut(), 1);
    claim(session.as_mut(), worker, &keys);
    let long = "ž\u{1f955}".repeat(100_000);
    let with_nul = Finish {
        output: Some("a\0b".to_owned()),
        exception: Some(long.clone()),
        log: Some("\u{0}\u{1}\u{7f}\r\n\t'\"\\%_".to_owned()),
        ..finish(&keys[0], End::Failed)
    };
    let batch = Batch {
        finishes: vec![with_nul.storable()],
        ..Batch::default()
    };
    let finished = write(session.as_mut(), worker, &batch).finished;
    assert_eq!(finished, [FinishResult::Written]);
    let row = world.find(&keys[0]).unwrap();
    assert_eq!(row["output"], "a\u{fffd}b");
    assert!(row["exception"] == long.as_str(), "the exception differs");
    assert_eq!(row["log"], "\u{fffd}\u{1}\u{7f}\r\n\t'\"\\%_");
}

fn a_batch_of_everything_answers_in_the_order_of_its_items(database: Database) {
    let (world, mut session, worker) = trial(database);
    let other = session.register(&process(2)).unwrap();
    let keys = published(session.as_mut(), 6);
    claim(session.as_mut(), worker, &keys[..3]);
    claim(session.as_mut(), other, &keys[3..4]);
    let batch = Batch {
        finishes: vec![
            finish(&keys[0], End::Completed),
            finish(&keys[3], End::Completed),
        ],
        releases: vec![keys[1].clone()],
        republishes: Vec::new(),
        begins: [&keys[3], &keys[2]].map(|key| begin(key)).to_vec(),
        claims: claims(&[
            keys[5].clone(),
            keys[3].clone(),
            keys[0].clone(),
            keys[4].clone(),
        ])
        .claims,
        ..Batch::default()
    };
    let result = write(session.as_mut(), worker, &batch);
    assert_eq!(
        result.finished,
        [FinishResult::Written, FinishResult::Taken]
    );
    assert_eq!(result.begun, [false, true]);
    let expected = [
        FRESH,
        Claim::Owned(other),
        Claim::Final(Status::Completed),
        FRESH,
    ];
    assert_eq!(result.claims, expected);
    world.assert_status(&keys[1], Status::Published);
}
