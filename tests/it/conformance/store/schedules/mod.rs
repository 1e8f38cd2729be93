//! Advancing schedules: each occurrence is taken once.

pub mod saved;

use std::collections::HashSet;
use std::sync::{Arc, Barrier};

use carrot_actors::StoreError;
use carrot_actors::internals::state::Status;
use carrot_actors::internals::store::{
    Advance, Candidate, NewRow, Ready, Requeue, Requeued, ScheduleRow, ScheduleSpec, Session,
    Store, WhichSchedules,
};
use carrot_actors::message::{Message, Occurrence};
use chrono::{DateTime, TimeDelta, Utc};

use super::{messages, open, trial};
use crate::support::{Database, World, cases, text};

cases! { on every_database:
    the_next_run_of_a_new_schedule_is_computed_once_it_is_active,
    a_due_occurrence_is_taken_once_with_its_message,
    a_message_that_is_refused_leaves_all_schedules_as_they_were,
    sessions_that_take_occurrences_at_the_same_time_take_each_once,
    an_occurrence_that_has_a_message_gets_no_other,
    an_occurrence_has_one_message_also_after_a_requeue,
    an_unfinished_message_of_any_occurrence_or_of_a_manual_run_is_seen,
    a_delayed_message_is_due_at_its_time_and_not_before,
}

cases! { on every_server: sessions_that_compute_next_runs_skip_the_schedules_of_others }

fn spec(name: &str) -> ScheduleSpec {
    ScheduleSpec {
        interval_type: "hours".to_owned(),
        ..ScheduleSpec::new(name, "task", "default")
    }
}

#[track_caller]
fn add(session: &mut dyn Session, name: &str) -> i64 {
    session.add_schedule(&spec(name)).unwrap().unwrap()
}

#[track_caller]
fn find(session: &mut dyn Session, id: i64) -> ScheduleRow {
    let rows = session.schedules(&WhichSchedules::Id(id)).unwrap();
    rows.into_iter().next().unwrap()
}

/// Sets the next run to so many seconds from now, without messages.
fn next_in(seconds: i64) -> impl FnMut(&Candidate) -> Advance {
    move |candidate| Advance {
        next: Some(candidate.now + TimeDelta::seconds(seconds)),
        reckoned: true,
        anchor: None,
        refusal: None,
        messages: Vec::new(),
    }
}

/// One message for the due occurrence, and the next run in an hour.
fn one_message(candidate: &Candidate) -> Advance {
    Advance {
        messages: vec![candidate.row.message(candidate.row.next_run).unwrap()],
        ..next_in(3600)(candidate)
    }
}

#[track_caller]
fn advance(
    session: &mut dyn Session,
    ready: Ready,
    mut decide: impl FnMut(&Candidate) -> Advance,
) -> (usize, Vec<Message>) {
    let advanced = session.advance_schedules(ready, 1000, &[], &mut decide);
    let (count, messages) = advanced.unwrap();
    (count, messages.into_messages())
}

/// Adds a schedule that is due; its id.
#[track_caller]
fn due(session: &mut dyn Session, spec: &ScheduleSpec) -> i64 {
    let id = session.add_schedule(spec).unwrap().unwrap();
    assert_eq!(advance(session, Ready::Unplanned, next_in(-1)).0, 1);
    id
}

fn the_next_run_of_a_new_schedule_is_computed_once_it_is_active(database: Database) {
    let (world, mut session, _) = trial(database);
    let ids = ["a", "b", "c"].map(|name| add(session.as_mut(), name));
    session.activate_schedule(ids[2], false).unwrap();
    let agenda = session.agenda(&[]).unwrap();
    assert!(agenda.unplanned && agenda.next.is_none());
    assert!((agenda.now - session.now().unwrap()).abs() < TimeDelta::minutes(1));
    assert!(!session.agenda(&ids).unwrap().unplanned, "held back");

    let anchor = DateTime::from_timestamp(1_600_000_000, 5_000).unwrap();
    world.execute("UPDATE carrot_scheduledtask SET anchor = NULL");
    advance(session.as_mut(), Ready::Unplanned, |candidate| Advance {
        reckoned: false,
        ..next_in(-1)(candidate)
    });
    assert!(session.agenda(&[]).unwrap().unplanned);
    let (count, _) = advance(session.as_mut(), Ready::Unplanned, |candidate| Advance {
        anchor: Some(anchor),
        refusal: Some("no".to_owned().into()),
        ..next_in(60)(candidate)
    });
    assert_eq!(count, 2, "what is not active is not reckoned");
    let row = find(session.as_mut(), ids[0]);
    assert_eq!(
        (row.spec.anchor, row.refusal),
        (Some(anchor), Some("no".to_owned().into()))
    );
    let agenda = session.agenda(&[]).unwrap();
    assert!(!agenda.unplanned);
    let earliest = ids[..2]
        .iter()
        .filter_map(|id| find(session.as_mut(), *id).next_run)
        .min();
    assert_eq!(agenda.next, earliest);
    assert_eq!(advance(session.as_mut(), Ready::Due, next_in(60)).0, 0);
    session.activate_schedule(ids[2], true).unwrap();
    assert!(session.agenda(&[]).unwrap().unplanned);
}

fn a_due_occurrence_is_taken_once_with_its_message(database: Database) {
    let (world, mut session, _) = trial(database);
    let id = due(session.as_mut(), &spec("a"));
    let planned = find(session.as_mut(), id).next_run.unwrap();
    assert_eq!(session.agenda(&[]).unwrap().next, Some(planned));
    assert_eq!(session.agenda(&[id]).unwrap().next, None, "held back");

    let (count, messages) = advance(session.as_mut(), Ready::Due, one_message);
    assert_eq!((count, messages.len()), (1, 1));
    let row = world.find(&messages[0].key).unwrap();
    assert_eq!(
        (text(&row, "status"), &row["schedule_id"]),
        ("PENDING", &id.into())
    );
    assert_eq!(
        crate::support::milliseconds(&row, "planned_time"),
        planned.timestamp_millis()
    );
    let after = find(session.as_mut(), id);
    assert_eq!(after.last_run, Some(planned));
    assert!(after.next_run.unwrap() > session.now().unwrap());
    assert_eq!(advance(session.as_mut(), Ready::Due, one_message).0, 0);
    assert!(session.take_due(10).unwrap().is_empty(), "on a lease");
    // Nothing that happens to its message makes it due again.
    world.execute("DELETE FROM carrot_messagelog");
    assert_eq!(advance(session.as_mut(), Ready::Due, one_message).0, 0);
}

fn a_message_that_is_refused_leaves_all_schedules_as_they_were(database: Database) {
    let (world, mut session, _) = trial(database);
    world.refuse("task", "forbidden");
    let forbidden = ScheduleSpec {
        task: "forbidden".to_owned(),
        ..spec("a")
    };
    let bad = due(session.as_mut(), &forbidden);
    due(session.as_mut(), &spec("b"));
    let before = session.schedules(&WhichSchedules::All).unwrap();
    let refused = session.advance_schedules(Ready::Due, 10, &[], &mut one_message);
    assert!(
        matches!(
            refused,
            Err(StoreError::Refused(_) | StoreError::Unclear(_))
        ),
        "{refused:?}"
    );
    assert_eq!(session.schedules(&WhichSchedules::All).unwrap(), before);
    assert_eq!(world.count("PENDING"), 0);
    let (count, _) = session
        .advance_schedules(Ready::Due, 10, &[bad], &mut one_message)
        .unwrap();
    assert_eq!((count, world.count("PENDING")), (1, 1));
}

fn sessions_that_take_occurrences_at_the_same_time_take_each_once(database: Database) {
    const SESSIONS: usize = 8;
    const SCHEDULES: usize = 150;
    let (world, mut session, _) = trial(database);
    for nth in 0..SCHEDULES {
        add(session.as_mut(), &nth.to_string());
    }
    advance(session.as_mut(), Ready::Unplanned, next_in(-1));
    let store: Arc<dyn Store> = Arc::from(open(&world));
    let barrier = Barrier::new(SESSIONS);
    let take = || {
        let mut session = store.connect().unwrap();
        barrier.wait();
        let mut taken = Vec::new();
        loop {
            match session.advance_schedules(Ready::Due, 7, &[], &mut one_message) {
                Ok((0, _)) => return taken,
                Ok((_, messages)) => taken.extend(messages.into_messages()),
                Err(StoreError::Conflict(_)) => {}
                Err(error) => panic!("{error}"),
            }
        }
    };
    let taken: Vec<Message> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..SESSIONS).map(|_| scope.spawn(take)).collect();
        threads
            .into_iter()
            .flat_map(|thread| thread.join().unwrap())
            .collect()
    });
    let schedules: HashSet<i64> = taken
        .iter()
        .map(|message| message.occurrence.unwrap().schedule)
        .collect();
    assert_eq!((taken.len(), schedules.len()), (SCHEDULES, SCHEDULES));
    assert_eq!(world.count("PENDING"), SCHEDULES);
}

fn sessions_that_compute_next_runs_skip_the_schedules_of_others(database: Database) {
    let (world, mut session, _) = trial(database);
    for nth in 0..20 {
        add(session.as_mut(), &nth.to_string());
    }
    let mut others = None;
    let decide = &mut |candidate: &Candidate| {
        // Another session advances while this one holds its five schedules.
        let mut other = open(&world).connect().unwrap();
        others.get_or_insert_with(|| advance(other.as_mut(), Ready::Unplanned, next_in(60)).0);
        next_in(60)(candidate)
    };
    let five = session.advance_schedules(Ready::Unplanned, 5, &[], decide);
    assert_eq!((five.unwrap().0, others), (5, Some(15)));
}

fn an_occurrence_that_has_a_message_gets_no_other(database: Database) {
    let (world, mut session, _) = trial(database);
    let id = due(session.as_mut(), &spec("a"));
    let first = find(session.as_mut(), id).next_run;
    assert_eq!(
        advance(session.as_mut(), Ready::Due, one_message).1.len(),
        1
    );
    // Set the schedule back, as a clock that was set back or a restored table does.
    world.execute("UPDATE carrot_scheduledtask SET next_run = last_run, last_run = NULL");
    let two = |candidate: &Candidate| {
        let later = candidate
            .row
            .next_run
            .map(|time| time + TimeDelta::milliseconds(1));
        let mut advance = one_message(candidate);
        advance.messages.push(candidate.row.message(later).unwrap());
        advance
    };
    let (schedules, messages) = advance(session.as_mut(), Ready::Due, two);
    assert_eq!((schedules, messages.len()), (1, 1));
    let planned = messages[0].occurrence.unwrap().planned;
    assert_eq!(planned, first.map(|time| time + TimeDelta::milliseconds(1)));
    assert_eq!(find(session.as_mut(), id).last_run, planned);
    assert_eq!(world.count("PENDING"), 2);
}

fn an_occurrence_has_one_message_also_after_a_requeue(database: Database) {
    let (world, mut session, _) = trial(database);
    let planned = DateTime::from_timestamp(1_700_000_000, 1_000);
    let of = |schedule, planned| {
        let mut rows = messages(1);
        rows[0].occurrence = Some(Occurrence { schedule, planned });
        rows
    };
    let record = |session: &mut dyn Session, messages: &[Message]| {
        let rows: Vec<NewRow> = messages.iter().map(NewRow::pending).collect();
        session.record(&rows)
    };
    let first = of(1, planned);
    record(session.as_mut(), &first).unwrap();
    assert!(record(session.as_mut(), &of(1, planned)).is_err());
    record(session.as_mut(), &of(2, planned)).unwrap();
    // Messages without an occurrence may be any number.
    record(session.as_mut(), &of(1, None)).unwrap();
    record(session.as_mut(), &of(1, None)).unwrap();

    // The message of a requeue has the same occurrence.
    world.execute("UPDATE carrot_messagelog SET status = 'FAILED'");
    let requeued = session
        .requeue(&Requeue::Keys(vec![first[0].key.clone()]))
        .unwrap();
    let [Requeued::As { new, .. }] = requeued.as_slice() else {
        panic!("{requeued:?}");
    };
    assert_eq!(new.occurrence, first[0].occurrence);
    assert!(record(session.as_mut(), &of(1, planned)).is_err());
}

fn an_unfinished_message_of_any_occurrence_or_of_a_manual_run_is_seen(database: Database) {
    let (world, mut session, _) = trial(database);
    let skipping = ScheduleSpec {
        overlap: "skip".to_owned(),
        ..spec("a")
    };
    let id = due(session.as_mut(), &skipping);
    let seen = |session: &mut dyn Session| {
        world.execute("UPDATE carrot_scheduledtask SET next_run = anchor");
        let mut unfinished = None;
        advance(session, Ready::Due, |candidate| {
            unfinished = Some(candidate.unfinished.clone());
            next_in(60)(candidate)
        });
        unfinished.unwrap()
    };
    assert_eq!(seen(session.as_mut()), None);
    world.execute("UPDATE carrot_scheduledtask SET next_run = anchor");
    let message = advance(session.as_mut(), Ready::Due, one_message)
        .1
        .remove(0);
    for status in [Status::Pending, Status::Published, Status::InProgress] {
        set_status(&world, status.as_str());
        let unfinished = seen(session.as_mut()).unwrap();
        assert_eq!(
            (unfinished.key, unfinished.status),
            (message.key.clone(), status)
        );
        let now = session.now().unwrap();
        assert!(
            now - unfinished.since < TimeDelta::minutes(1),
            "{}",
            unfinished.since
        );
    }
    for status in ["COMPLETED", "FAILED", "CANCELLED", "EXPIRED"] {
        set_status(&world, status);
        assert_eq!(seen(session.as_mut()), None, "{status}");
    }
    // A requeued message of an earlier occurrence is seen too, although that occurrence was known to be
    // finished.
    world.execute("UPDATE carrot_scheduledtask SET next_run = last_run");
    advance(session.as_mut(), Ready::Due, |candidate| {
        let later = candidate.now - TimeDelta::milliseconds(500);
        Advance {
            messages: vec![candidate.row.message(Some(later)).unwrap()],
            ..next_in(60)(candidate)
        }
    });
    set_status(&world, "COMPLETED");
    assert_eq!(seen(session.as_mut()), None);
    assert_eq!(seen(session.as_mut()), None);
    let requeue = Requeue::Keys(vec![message.key]);
    let [Requeued::As { new, .. }] = &session.requeue(&requeue).unwrap()[..] else {
        panic!("it is not requeued");
    };
    assert_eq!(seen(session.as_mut()).unwrap().key, new.key);
    assert_eq!(seen(session.as_mut()).unwrap().key, new.key);
    set_status(&world, "COMPLETED");
    assert_eq!(seen(session.as_mut()), None);
    // A message without an occurrence is seen too.
    let message = find(session.as_mut(), id).message(None).unwrap();
    session.record(&[NewRow::pending(&message)]).unwrap();
    assert_eq!(seen(session.as_mut()).unwrap().key, message.key);
    set_status(&world, "COMPLETED");
    assert_eq!(seen(session.as_mut()), None);
}

fn set_status(world: &World, status: &str) {
    world.execute(&format!("UPDATE carrot_messagelog SET status = '{status}'"));
}

fn a_delayed_message_is_due_at_its_time_and_not_before(database: Database) {
    let (world, mut session, _) = trial(database);
    let now: DateTime<Utc> = session.now().unwrap();
    let messages = messages(2);
    let rows = [
        NewRow::delayed(&messages[0], now + TimeDelta::hours(1)),
        NewRow::delayed(&messages[1], now - TimeDelta::milliseconds(1)),
    ];
    session.record(&rows).unwrap();
    let taken = session.take_due(10).unwrap();
    assert_eq!(taken.len(), 1);
    assert_eq!(taken[0].as_ref().unwrap().key, messages[1].key);
    let row = world.find(&messages[0].key).unwrap();
    let due = crate::support::milliseconds(&row, "due_time");
    assert_eq!(due, (now + TimeDelta::hours(1)).timestamp_millis());
    assert_eq!(row["publish_time"], row["due_time"]);
}
