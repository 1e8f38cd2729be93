//! Claiming, adopting, beginning and releasing.

use carrot_actors::internals::state::{End, Status};
use carrot_actors::internals::store::{
    Batch, Claim, ClaimRequest, NewRow, Requeue, Requeued, Session,
};

use super::{
    FRESH, SUSPECT, begin, claim, claims, finishes, messages, process, published,
    remove_silent_workers, trial, write,
};
use crate::support::{Database, cases};

cases! { on every_database:
    a_published_or_pending_message_is_claimed_as_fresh,
    a_final_message_is_not_claimed,
    a_message_of_a_live_worker_is_not_claimed,
    a_message_of_a_dead_worker_is_claimed_as_a_crash_suspect,
    a_message_of_the_worker_itself_is_claimed_as_a_crash_suspect,
    keys_that_differ_in_a_letter_case_or_blank_are_different_messages,
    the_claim_of_a_message_without_a_row_finds_none,
    a_message_without_a_row_is_adopted_once,
    a_row_that_is_adopted_as_final_stays_so,
    a_message_whose_row_has_come_is_not_cancelled,
    a_look_finds_rows_without_claiming_them,
    a_message_whose_second_copy_was_acknowledged_is_given_to_the_sweep_at_its_release,
    a_run_that_begins_is_counted_and_one_of_another_worker_does_not_begin,
    a_crash_suspect_whose_claim_was_lost_in_a_crash_begins,
    a_released_message_is_published_again_and_has_no_owner,
}

fn adopting(row: NewRow) -> Batch {
    Batch {
        claims: vec![ClaimRequest {
            key: row.key.clone(),
            adopt: Some(row),
        }],
        ..Batch::default()
    }
}

fn pending(session: &mut dyn Session) -> String {
    let row = NewRow::pending(&messages(1)[0]);
    session.record(std::slice::from_ref(&row)).unwrap();
    row.key
}

fn a_published_or_pending_message_is_claimed_as_fresh(database: Database) {
    let (world, mut session, worker) = trial(database);
    let mut keys = published(session.as_mut(), 3);
    keys.push(pending(session.as_mut()));
    assert_eq!(claim(session.as_mut(), worker, &keys), vec![FRESH; 4]);
    keys.iter()
        .for_each(|key| world.assert_status(key, Status::InProgress));
    let owner = &world.find(&keys[0]).unwrap()["owner"];
    assert_eq!(owner, worker.0);
}

fn a_final_message_is_not_claimed(database: Database) {
    let (world, mut session, worker) = trial(database);
    let keys = published(session.as_mut(), 4);
    let ends = [End::Completed, End::Failed, End::Cancelled, End::Expired];
    for (key, end) in keys.iter().zip(ends) {
        let key = std::slice::from_ref(key);
        write(session.as_mut(), worker, &finishes(key, end));
        let claimed = claim(session.as_mut(), worker, key);
        assert_eq!(claimed, [Claim::Final(end.status())]);
        world.assert_status(&key[0], end.status());
    }
}

fn a_message_of_a_live_worker_is_not_claimed(database: Database) {
    let (_world, mut session, worker) = trial(database);
    let other = session.register(&process(2)).unwrap();
    let keys = published(session.as_mut(), 2);
    claim(session.as_mut(), worker, &keys);
    let claimed = claim(session.as_mut(), other, &keys);
    assert_eq!(claimed, vec![Claim::Owned(worker); 2]);
}

fn a_message_of_a_dead_worker_is_claimed_as_a_crash_suspect(database: Database) {
    let (world, mut session, worker) = trial(database);
    let other = session.register(&process(2)).unwrap();
    let keys = published(session.as_mut(), 1);
    claim(session.as_mut(), worker, &keys);
    world.silence(worker, 18);
    assert_eq!(remove_silent_workers(session.as_mut()), 0);
    assert_eq!(
        claim(session.as_mut(), other, &keys),
        [Claim::Owned(worker)]
    );
    world.silence(worker, 21);
    assert_eq!(remove_silent_workers(session.as_mut()), 1);
    assert_eq!(claim(session.as_mut(), other, &keys), [SUSPECT]);
    session.deregister(&[other]).unwrap();
    session.heartbeat(worker, &process(1)).unwrap();
    assert_eq!(claim(session.as_mut(), worker, &keys), [SUSPECT]);
}

fn a_message_of_the_worker_itself_is_claimed_as_a_crash_suspect(database: Database) {
    let (_world, mut session, worker) = trial(database);
    let keys = published(session.as_mut(), 1);
    claim(session.as_mut(), worker, &keys);
    assert_eq!(claim(session.as_mut(), worker, &keys), [SUSPECT]);
}

fn the_claim_of_a_message_without_a_row_finds_none(database: Database) {
    let (_world, mut session, worker) = trial(database);
    let mut keys = published(session.as_mut(), 2);
    keys.insert(1, "unknown".to_owned());
    let claimed = claim(session.as_mut(), worker, &keys);
    assert_eq!(claimed, [FRESH, Claim::NoRow, FRESH]);
}

fn keys_that_differ_in_a_letter_case_or_blank_are_different_messages(database: Database) {
    let (world, mut session, worker) = trial(database);
    let keys = [
        "key",
        "KEY",
        "key ",
        " key",
        "kéy",
        "key\u{301}",
        "\u{1f955}",
        "\u{1f966}",
    ];
    let rows = keys.map(|key| NewRow {
        key: key.to_owned(),
        ..NewRow::pending(&messages(1)[0]).published()
    });
    for row in &rows {
        let claimed = write(session.as_mut(), worker, &adopting(row.clone())).claims;
        assert_eq!(claimed, [FRESH], "{:?}", row.key);
    }
    let ended = rows.map(|row| row.key);
    write(
        session.as_mut(),
        worker,
        &finishes(&ended[..1], End::Completed),
    );
    write(
        session.as_mut(),
        worker,
        &finishes(&ended[1..], End::Failed),
    );
    assert_eq!((world.count("COMPLETED"), world.count("FAILED")), (1, 7));
    let requeued = session
        .requeue(&Requeue::Keys(vec![ended[1].clone()]))
        .unwrap();
    assert!(
        matches!(&requeued[..], [Requeued::As { old, .. }] if *old == ended[1]),
        "{requeued:?}"
    );
    assert_eq!((world.count("COMPLETED"), world.count("FAILED")), (1, 6));
}

fn a_message_without_a_row_is_adopted_once(database: Database) {
    let (world, mut session, worker) = trial(database);
    let other = session.register(&process(2)).unwrap();
    let row = NewRow::pending(&messages(1)[0]).published();
    let batch = adopting(row.clone());
    assert_eq!(write(session.as_mut(), worker, &batch).claims, [FRESH]);
    let again = write(session.as_mut(), other, &batch).claims;
    assert_eq!(again, [Claim::Owned(worker)]);
    let found = world.find(&row.key).unwrap();
    assert_eq!(found["task"], "app.tasks.noop");
    assert!(found["publish_time"].is_string());
}

fn a_row_that_is_adopted_as_final_stays_so(database: Database) {
    let (world, mut session, worker) = trial(database);
    let row = NewRow::pending(&messages(1)[0]).ended(End::Cancelled, "rolled back".to_owned());
    let claimed = write(session.as_mut(), worker, &adopting(row.clone())).claims;
    assert_eq!(claimed, [Claim::Final(Status::Cancelled)]);
    assert_eq!(world.find(&row.key).unwrap()["exception"], "rolled back");
}

/// If the row has come since the look, no second row is inserted for a cancelled message.
fn a_message_whose_row_has_come_is_not_cancelled(database: Database) {
    let (world, mut session, worker) = trial(database);
    let keys = published(session.as_mut(), 1);
    let row = NewRow {
        key: keys[0].clone(),
        ..NewRow::pending(&messages(1)[0]).ended(End::Cancelled, "no row".to_owned())
    };
    let claimed = write(session.as_mut(), worker, &adopting(row)).claims;
    assert_eq!(claimed, [FRESH]);
    world.assert_status(&keys[0], Status::InProgress);
}

fn a_look_finds_rows_without_claiming_them(database: Database) {
    let (world, mut session, worker) = trial(database);
    let keys = published(session.as_mut(), 3);
    let mut looks = keys.clone();
    looks.insert(1, "unknown".to_owned());
    looks.push(keys[0].to_uppercase());
    let batch = Batch {
        claims: claims(&keys[..1]).claims,
        looks,
        ..Batch::default()
    };
    let result = write(session.as_mut(), worker, &batch);
    assert_eq!(result.claims, [FRESH]);
    let (mut found, mut there) = (result.looked, keys.clone());
    found.sort();
    there.sort();
    assert_eq!(found, there);
    // Only the first message is claimed.
    world.assert_status(&keys[1], Status::Published);
    world.assert_status(&keys[2], Status::Published);
}

fn a_run_that_begins_is_counted_and_one_of_another_worker_does_not_begin(database: Database) {
    let (world, mut session, worker) = trial(database);
    let other = session.register(&process(2)).unwrap();
    let keys = published(session.as_mut(), 2);
    claim(session.as_mut(), worker, &keys[..1]);
    claim(session.as_mut(), other, &keys[1..]);
    let begins = Batch {
        begins: [keys[0].as_str(), &keys[1], "unknown"].map(begin).to_vec(),
        ..Batch::default()
    };
    let begun = write(session.as_mut(), worker, &begins).begun;
    assert_eq!(begun, [true, false, false]);
    let again = write(session.as_mut(), worker, &begins).begun;
    assert_eq!(again, begun, "what is written twice counts once");
    assert_eq!(world.find(&keys[0]).unwrap()["attempts"], 1);
    assert_eq!(world.find(&keys[1]).unwrap()["attempts"], 0);
    session.deregister(&[worker]).unwrap();
    let claimed = claim(session.as_mut(), other, &keys[..1]);
    let suspect = Claim::Ours {
        attempts: 1,
        suspect: true,
    };
    assert_eq!(claimed, [suspect]);
}

fn a_crash_suspect_whose_claim_was_lost_in_a_crash_begins(database: Database) {
    let (world, mut session, worker) = trial(database);
    let other = session.register(&process(2)).unwrap();
    let keys = published(session.as_mut(), 2);
    claim(session.as_mut(), worker, &keys);
    // The database has crashed and lost the claim. The end of the run is recorded since.
    world.execute("UPDATE carrot_messagelog SET status = 'PUBLISHED', owner = NULL");
    write(
        session.as_mut(),
        other,
        &finishes(&keys[1..], End::Completed),
    );
    let begins = Batch {
        begins: keys.iter().map(|key| begin(key)).collect(),
        ..Batch::default()
    };
    let begun = write(session.as_mut(), worker, &begins).begun;
    assert_eq!(begun, [true, false]);
    let row = world.find(&keys[0]).unwrap();
    assert_eq!(row["attempts"], 1, "{row}");
    world.assert_status(&keys[1], Status::Completed);
    assert_eq!(
        claim(session.as_mut(), other, &keys[..1]),
        [Claim::Owned(worker)]
    );
}

fn a_message_whose_second_copy_was_acknowledged_is_given_to_the_sweep_at_its_release(
    database: Database,
) {
    let (world, mut session, worker) = trial(database);
    let other = session.register(&process(2)).unwrap();
    let keys = published(session.as_mut(), 2);
    claim(session.as_mut(), worker, &keys);
    // The broker delivers the first message again, to another service, which acknowledges it.
    assert_eq!(
        claim(session.as_mut(), other, &keys[..1]),
        [Claim::Owned(worker)]
    );
    let release = Batch {
        releases: keys.clone(),
        ..Batch::default()
    };
    write(session.as_mut(), worker, &release);
    world.assert_status(&keys[0], Status::Pending);
    world.assert_status(&keys[1], Status::Published);
    let due = session.take_due(10).unwrap();
    assert_eq!(due.len(), 1, "the broker has no copy of it any more");
}

fn a_released_message_is_published_again_and_has_no_owner(database: Database) {
    let (world, mut session, worker) = trial(database);
    let other = session.register(&process(2)).unwrap();
    let keys = published(session.as_mut(), 3);
    claim(session.as_mut(), worker, &keys[..2]);
    claim(session.as_mut(), other, &keys[2..]);
    write(
        session.as_mut(),
        worker,
        &finishes(&keys[1..2], End::Completed),
    );
    let releases = Batch {
        releases: keys.clone(),
        ..Batch::default()
    };
    write(session.as_mut(), worker, &releases);
    world.assert_status(&keys[0], Status::Published);
    world.assert_status(&keys[1], Status::Completed);
    world.assert_status(&keys[2], Status::InProgress);
    let claimed = claim(session.as_mut(), other, &keys[..1]);
    assert_eq!(
        claimed,
        [FRESH],
        "who gives a message back has not vanished with it"
    );
}
