//! Claiming, adopting, beginning and releasing.

use carrot_actors::internals::state::{End, Status};
use carrot_actors::internals::store::{
    Batch, Claim, ClaimRequest, NewRow, Requeue, Requeued, Session,
};

use super::{
    FRESH, SUSPECT, begin, claim, claims, finishes, messages, process, published,
    remove_silent_workers, trial, write,
};
use crate::support::Database;

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

pub fn claims_fresh(database: Database) {
    let (world, mut session, worker) = trial(database);
    let mut keys = published(session.as_mut(), 3);
    keys.push(pending(session.as_mut()));
    assert_eq!(claim(session.as_mut(), worker, &keys), vec![FRESH; 4]);
    keys.iter()
        .for_each(|key| world.is_in(key, Status::InProgress));
    let owner = &world.find(&keys[0]).unwrap()["owner"];
    assert_eq!(owner, worker.0);
}

pub fn knows_the_final(database: Database) {
    let (world, mut session, worker) = trial(database);
    let keys = published(session.as_mut(), 4);
    let ends = [End::Completed, End::Failed, End::Cancelled, End::Expired];
    for (key, end) in keys.iter().zip(ends) {
        let key = std::slice::from_ref(key);
        write(session.as_mut(), worker, &finishes(key, end));
        let claimed = claim(session.as_mut(), worker, key);
        assert_eq!(claimed, [Claim::Final(end.status())]);
        world.is_in(&key[0], end.status());
    }
}

pub fn leaves_the_owned(database: Database) {
    let (_world, mut session, worker) = trial(database);
    let other = session.register(&process(2)).unwrap();
    let keys = published(session.as_mut(), 2);
    claim(session.as_mut(), worker, &keys);
    let claimed = claim(session.as_mut(), other, &keys);
    assert_eq!(claimed, vec![Claim::Owned(worker); 2]);
}

pub fn takes_from_the_dead(database: Database) {
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

pub fn joins_its_own(database: Database) {
    let (_world, mut session, worker) = trial(database);
    let keys = published(session.as_mut(), 1);
    claim(session.as_mut(), worker, &keys);
    assert_eq!(claim(session.as_mut(), worker, &keys), [SUSPECT]);
}

pub fn finds_no_row(database: Database) {
    let (_world, mut session, worker) = trial(database);
    let mut keys = published(session.as_mut(), 2);
    keys.insert(1, "unknown".to_owned());
    let claimed = claim(session.as_mut(), worker, &keys);
    assert_eq!(claimed, [FRESH, Claim::NoRow, FRESH]);
}

pub fn tells_keys_apart(database: Database) {
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
        matches!(&requeued[..], [Requeued::Replaced { old, .. }] if *old == ended[1]),
        "{requeued:?}"
    );
    assert_eq!((world.count("COMPLETED"), world.count("FAILED")), (1, 6));
}

pub fn adopts(database: Database) {
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

pub fn adopts_the_final(database: Database) {
    let (world, mut session, worker) = trial(database);
    let row = NewRow::pending(&messages(1)[0]).ended(End::Cancelled, "rolled back".to_owned());
    let claimed = write(session.as_mut(), worker, &adopting(row.clone())).claims;
    assert_eq!(claimed, [Claim::Final(Status::Cancelled)]);
    assert_eq!(world.find(&row.key).unwrap()["exception"], "rolled back");
}

/// A row that is to say that there is none is not written beside one.
pub fn adopts_the_missing(database: Database) {
    let (world, mut session, worker) = trial(database);
    let keys = published(session.as_mut(), 1);
    let row = NewRow {
        key: keys[0].clone(),
        ..NewRow::pending(&messages(1)[0]).ended(End::Cancelled, "no row".to_owned())
    };
    let claimed = write(session.as_mut(), worker, &adopting(row)).claims;
    assert_eq!(claimed, [FRESH]);
    world.is_in(&keys[0], Status::InProgress);
}

pub fn looks(database: Database) {
    let (world, mut session, worker) = trial(database);
    let keys = published(session.as_mut(), 3);
    let mut looks = keys.clone();
    looks.insert(1, "unknown".to_owned());
    looks.push(keys[0].to_uppercase());
    let batch = Batch {
        claims: claims(&keys[..1]).claims,
        row_checks: looks,
        ..Batch::default()
    };
    let result = write(session.as_mut(), worker, &batch);
    assert_eq!(result.claims, [FRESH]);
    let (mut found, mut there) = (result.with_row, keys.clone());
    found.sort();
    there.sort();
    assert_eq!(found, there);
    // None but the one is claimed.
    world.is_in(&keys[1], Status::Published);
    world.is_in(&keys[2], Status::Published);
}

pub fn counts_begins(database: Database) {
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
        crash_suspect: true,
    };
    assert_eq!(claimed, [suspect]);
}

pub fn begins_what_is_nobodys(database: Database) {
    let (world, mut session, worker) = trial(database);
    let other = session.register(&process(2)).unwrap();
    let keys = published(session.as_mut(), 2);
    claim(session.as_mut(), worker, &keys);
    // As if the database had crashed and forgotten the claim, and an end was recorded since.
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
    world.is_in(&keys[1], Status::Completed);
    assert_eq!(
        claim(session.as_mut(), other, &keys[..1]),
        [Claim::Owned(worker)]
    );
}

pub fn leaves_to_the_sweep(database: Database) {
    let (world, mut session, worker) = trial(database);
    let other = session.register(&process(2)).unwrap();
    let keys = published(session.as_mut(), 2);
    claim(session.as_mut(), worker, &keys);
    // The broker has delivered the first one again, to another, who acknowledges it.
    assert_eq!(
        claim(session.as_mut(), other, &keys[..1]),
        [Claim::Owned(worker)]
    );
    let release = Batch {
        releases: keys.clone(),
        ..Batch::default()
    };
    write(session.as_mut(), worker, &release);
    world.is_in(&keys[0], Status::Pending);
    world.is_in(&keys[1], Status::Published);
    let due = session.take_due(10).unwrap();
    assert_eq!(due.len(), 1, "the broker has no copy of it any more");
}

pub fn releases(database: Database) {
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
    world.is_in(&keys[0], Status::Published);
    world.is_in(&keys[1], Status::Completed);
    world.is_in(&keys[2], Status::InProgress);
    let claimed = claim(session.as_mut(), other, &keys[..1]);
    assert_eq!(
        claimed,
        [FRESH],
        "who gives a message back has not vanished with it"
    );
}
