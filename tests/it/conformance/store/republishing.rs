//! Giving back messages that the broker may drop or has lost: they are published again.

use carrot_actors::internals::state::{End, Status};
use carrot_actors::internals::store::{Batch, BrokerCopy, REDELIVERY_GRACE, Republish, Session};

use super::{FRESH, claim, finishes, process, published, trial, write};
use crate::support::{Database, World, cases, milliseconds};

cases! { on every_database:
    a_message_that_the_broker_may_drop_is_due_after_a_while_unless_it_is_claimed,
    a_message_that_the_broker_has_lost_is_due_at_once,
}

fn republishes(keys: &[String], copy: BrokerCopy) -> Batch {
    let republish = |key: &String| Republish {
        key: key.clone(),
        copy,
    };
    Batch {
        republishes: keys.iter().map(republish).collect(),
        ..Batch::default()
    }
}

/// In how many milliseconds a message is due.
fn due_in(world: &World, session: &mut dyn Session, key: &str) -> i64 {
    let now = session.now().unwrap().timestamp_millis();
    milliseconds(&world.find(key).unwrap(), "due_time") - now
}

fn a_message_that_the_broker_may_drop_is_due_after_a_while_unless_it_is_claimed(
    database: Database,
) {
    let (world, mut session, worker) = trial(database);
    let keys = published(session.as_mut(), 3);
    claim(session.as_mut(), worker, &keys[..2]);
    // The claim of the third message was lost in a crash of the database.
    write(
        session.as_mut(),
        worker,
        &republishes(&keys, BrokerCopy::MayBeDropped),
    );
    let grace = i64::try_from(REDELIVERY_GRACE.as_millis()).unwrap();
    for key in &keys {
        world.assert_status(key, Status::Pending);
        let due = due_in(&world, session.as_mut(), key);
        assert!((grace - 10_000..=grace).contains(&due), "{due}");
    }
    assert!(session.take_due(10).unwrap().is_empty());

    let claimed = claim(session.as_mut(), worker, &keys[..1]);
    assert_eq!(claimed, [FRESH], "the broker has delivered it again");
    session.make_due().unwrap();
    assert_eq!(session.take_due(10).unwrap().len(), 2);
}

fn a_message_that_the_broker_has_lost_is_due_at_once(database: Database) {
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
    write(
        session.as_mut(),
        worker,
        &republishes(&keys, BrokerCopy::Gone),
    );
    // The publisher of the first message marks it late.
    session.mark_published(&keys[..1]).unwrap();
    world.assert_status(&keys[0], Status::Pending);
    world.assert_status(&keys[1], Status::Completed);
    world.assert_status(&keys[2], Status::InProgress);
    let due = session.take_due(10).unwrap();
    assert_eq!(due.len(), 1, "it is due at once");
}
