//! Saving, changing and naming schedules.

use std::sync::Barrier;

use carrot_actors::internals::store::{
    Advance, EditResult, ReadySchedules, ScheduleSpec, Session, WhichSchedules,
};
use chrono::{DateTime, TimeDelta};

use super::{add, advance, due, find, next_in, spec};
use crate::conformance::store::{open, trial};
use crate::support::{Database, cases};

cases! { on every_database:
    a_schedule_is_saved_found_activated_and_removed,
    the_next_run_is_recomputed_if_an_edit_changes_the_timetable,
    one_of_several_sessions_that_give_the_same_name_succeeds,
}

fn a_schedule_is_saved_found_activated_and_removed(database: Database) {
    let (_world, mut session, _) = trial(database);
    let full = ScheduleSpec {
        name: Some("žluť 🥕 '\\\"?".to_owned()),
        task_args: Some("1, 'ž'".to_owned()),
        content: Some(r#"{"a": "ž'\\"}"#.to_owned()),
        exchange: Some("an exchange".to_owned()),
        routing_key: Some("a key".to_owned()),
        priority: 7,
        active: false,
        cron: Some("0 3 * * 1-5".to_owned()),
        time_zone: Some("Europe/Berlin".to_owned()),
        missed: "run_all".to_owned(),
        overlap: "skip".to_owned(),
        anchor: DateTime::from_timestamp(1_700_000_000, 123_456_000),
        ..spec("")
    };
    let id = session.add_schedule(&full).unwrap().unwrap();
    let row = find(session.as_mut(), id);
    assert_eq!((row.id, &row.spec), (id, &full));
    assert_eq!(
        (row.next_run, row.last_run, row.refusal),
        (None, None, None)
    );
    assert_eq!(
        session.add_schedule(&full).unwrap(),
        None,
        "the name is taken"
    );

    let other = add(session.as_mut(), "Other");
    let anchor = find(session.as_mut(), other).spec.anchor.unwrap();
    assert!((session.now().unwrap() - anchor).abs() < TimeDelta::minutes(1));
    let named = |session: &mut dyn Session, name: &str| {
        let rows = session.schedules(&WhichSchedules::Name(name)).unwrap();
        rows.iter().map(|row| row.id).collect::<Vec<_>>()
    };
    assert_eq!(named(session.as_mut(), "Other"), [other]);
    assert_eq!(named(session.as_mut(), "other"), [] as [i64; 0]);
    assert_eq!(session.schedules(&WhichSchedules::All).unwrap().len(), 2);

    assert!(session.activate_schedule(id, true).unwrap());
    assert!(session.activate_schedule(id, true).unwrap());
    assert!(find(session.as_mut(), id).spec.active);
    assert!(session.remove_schedule(id).unwrap());
    assert!(!session.remove_schedule(id).unwrap());
    assert!(!session.activate_schedule(id, false).unwrap());
}

fn the_next_run_is_recomputed_if_an_edit_changes_the_timetable(database: Database) {
    let (world, mut session, _) = trial(database);
    let id = due(session.as_mut(), &spec("a"));
    let was = find(session.as_mut(), id).spec;
    world.execute("UPDATE carrot_scheduledtask SET refusal = 'for a reason'");
    let to = ScheduleSpec {
        task_args: Some("1".to_owned()),
        ..was.clone()
    };
    assert_eq!(
        session.edit_schedule(id, &was, &to).unwrap(),
        EditResult::Saved
    );
    let row = find(session.as_mut(), id);
    assert_eq!((&row.spec, row.refusal), (&to, None));
    assert_eq!(
        session.edit_schedule(id, &was, &to).unwrap(),
        EditResult::Changed
    );
    assert!(
        !session.agenda(&[]).unwrap().has_unplanned,
        "its timetable is as it was"
    );
    for change in [
        (|spec: &mut ScheduleSpec| spec.interval_count = 7) as fn(&mut ScheduleSpec),
        |spec| spec.interval_type = "days".to_owned(),
        |spec| spec.cron = Some("@daily".to_owned()),
        |spec| spec.time_zone = Some("Europe/Berlin".to_owned()),
        |spec| spec.anchor = DateTime::from_timestamp(1_700_000_000, 0),
    ] {
        let was = find(session.as_mut(), id).spec;
        let mut to = was.clone();
        change(&mut to);
        assert_eq!(
            session.edit_schedule(id, &was, &to).unwrap(),
            EditResult::Saved
        );
        assert!(session.agenda(&[]).unwrap().has_unplanned, "{to:?}");
        assert_eq!(
            advance(session.as_mut(), ReadySchedules::Due, next_in(60)).0,
            0,
            "what it was due for is no more"
        );
        assert_eq!(
            advance(session.as_mut(), ReadySchedules::Unplanned, next_in(-1)).0,
            1
        );
    }
    assert_eq!(
        session.edit_schedule(-1, &was, &to).unwrap(),
        EditResult::Gone
    );
    // Any edit makes a schedule without a next run be looked at again, even with the same timetable.
    let refused = add(session.as_mut(), "refused");
    advance(session.as_mut(), ReadySchedules::Unplanned, |candidate| {
        Advance {
            next: None,
            refusal: Some("no".to_owned().into()),
            ..next_in(0)(candidate)
        }
    });
    assert!(!session.agenda(&[]).unwrap().has_unplanned);
    let was = find(session.as_mut(), refused).spec;
    let to = ScheduleSpec {
        priority: 1,
        ..was.clone()
    };
    session.edit_schedule(refused, &was, &to).unwrap();
    assert_eq!(find(session.as_mut(), refused).refusal, None);
    assert!(session.agenda(&[]).unwrap().has_unplanned);
}

fn one_of_several_sessions_that_give_the_same_name_succeeds(database: Database) {
    const SESSIONS: usize = 8;
    let (world, mut session, _) = trial(database);
    let store = open(&world);
    let ids: Vec<i64> = (0..SESSIONS)
        .map(|nth| add(session.as_mut(), &nth.to_string()))
        .collect();
    let barrier = Barrier::new(SESSIONS);
    let name = |id: i64| {
        let mut session = store.connect().unwrap();
        let was = find(session.as_mut(), id).spec;
        let renamed = ScheduleSpec {
            name: Some("renamed".to_owned()),
            ..was.clone()
        };
        barrier.wait();
        let added = session.add_schedule(&spec("added")).unwrap().is_some();
        let edited = session.edit_schedule(id, &was, &renamed).unwrap();
        assert!(
            matches!(edited, EditResult::Saved | EditResult::NameTaken),
            "{edited:?}"
        );
        (added, edited == EditResult::Saved)
    };
    let name = &name;
    let done: Vec<(bool, bool)> = std::thread::scope(|scope| {
        let threads = ids.iter().map(|id| scope.spawn(move || name(*id)));
        let threads: Vec<_> = threads.collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .collect()
    });
    assert_eq!(done.iter().filter(|(added, _)| *added).count(), 1);
    assert_eq!(done.iter().filter(|(_, renamed)| *renamed).count(), 1);
    // A schedule may keep its name in an edit, and Django may write any name.
    let row = session
        .schedules(&WhichSchedules::Name("added"))
        .unwrap()
        .remove(0);
    let same = session.edit_schedule(row.id, &row.spec, &row.spec).unwrap();
    assert_eq!(same, EditResult::Saved);
    world.execute("UPDATE carrot_scheduledtask SET task_name = 'same'");
}
