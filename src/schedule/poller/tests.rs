use crossbeam_channel::unbounded;

use super::*;
use crate::schedule::decide::tests::{at, candidate};
use crate::store::Agenda;

fn taker() -> SchedulePoller {
    SchedulePoller::new(unbounded().0)
}

impl SchedulePoller {
    /// A transaction with a schedule.
    fn hand(&self, ready: ReadySchedules, id: i64) -> SchedulingBatch {
        let (blamed, held) = (self.blamed.clone(), self.held_before());
        let mut hand = SchedulingBatch::new(ready, Watch::begun(at(0)), BATCH_BYTES, blamed, held);
        let mut candidate = candidate(14, |_| ());
        candidate.row.id = id;
        hand.decide(&candidate);
        hand
    }

    /// The database refuses that of a schedule.
    fn is_refused(&mut self, ready: ReadySchedules, id: i64) -> Look {
        let hand = self.hand(ready, id);
        self.find_the_bad_one(&hand, "no")
    }

    /// It takes that of a schedule.
    fn is_taken(&mut self, ready: ReadySchedules, id: i64) {
        let hand = self.hand(ready, id);
        self.see(&hand);
    }
}

#[test]
fn whom_another_service_has_seen_to_is_blamed_no_more() {
    let mut taker = taker();
    taker.is_refused(ReadySchedules::Due, 1);
    taker.is_refused(ReadySchedules::Unplanned, 2);
    assert_eq!(taker.blamed.len(), 2, "neither has had its turn");
    taker.is_taken(ReadySchedules::Due, 3);
    assert!(!taker.blamed.contains_key(&1));
    taker.is_taken(ReadySchedules::Unplanned, 2);
    assert!(taker.blamed.is_empty() && taker.held.contains_key(&2));
    assert_eq!(taker.held_at(Instant::now()), [2]);
}

#[test]
fn a_database_that_refuses_all_but_notes_is_not_hurried() {
    let mut taker = taker();
    let mut refuses_but_notes = |id: i64| {
        let look = taker.is_refused(ReadySchedules::Due, id);
        taker.is_taken(ReadySchedules::Due, id);
        look
    };
    assert_eq!([1, 2].map(&mut refuses_but_notes), [AT_ONCE; 2]);
    assert_eq!([3, 4].map(&mut refuses_but_notes), [Look::In(LOOK); 2]);
    // Those that are held back for a minute must not take it up.
    let rest: Duration = (5..1000)
        .map(|id| match refuses_but_notes(id) {
            Look::In(wait) => wait,
            other => panic!("{other:?}"),
        })
        .skip(495)
        .sum();
    assert!(rest < HOLD / 2, "{rest:?}");
    // Another one is taken.
    taker.is_taken(ReadySchedules::Due, 1000);
    assert_eq!(taker.is_refused(ReadySchedules::Due, 1001), AT_ONCE);
}

#[test]
fn what_came_while_a_schedule_was_held_back_is_neither_lost_nor_missed() {
    let mut taker = taker();
    taker.is_refused(ReadySchedules::Due, 1);
    taker.is_taken(ReadySchedules::Due, 1);
    // Meanwhile the others were on time.
    let mut watch = Watch::begun(at(0));
    watch.looks(&Agenda {
        now: at(54),
        next: None,
        has_unplanned: false,
        has_malformed: false,
    });
    let late = candidate(54, |spec| spec.missed = "skip".to_owned());
    let runs = |taker: &SchedulePoller| {
        [ReadySchedules::Due, ReadySchedules::Unplanned].map(|ready| {
            let mut hand = SchedulingBatch::new(
                ready,
                watch,
                BATCH_BYTES,
                HashMap::new(),
                taker.held_before(),
            );
            hand.decide(&late).messages.len()
        })
    };
    assert_eq!(runs(&taker), [5, 5]);
    forget_those_free(&mut taker.held, Instant::now());
    assert_eq!(runs(&taker), [5, 5], "it is held back still");
    // It has not been active since.
    forget_those_free(&mut taker.held, Instant::now() + HOLD);
    assert_eq!(runs(&taker), [1, 0]);
}
