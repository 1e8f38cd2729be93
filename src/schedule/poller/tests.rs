use crossbeam_channel::unbounded;

use super::*;
use crate::schedule::decide::tests::{at, candidate};

fn poller() -> SchedulePoller {
    SchedulePoller::new(unbounded().0)
}

impl SchedulePoller {
    /// A transaction with one schedule.
    fn transaction(&self, ready: ReadySchedules, id: i64) -> SchedulingBatch {
        let (unnoted, held_histories) = (self.unnoted.clone(), self.held_histories());
        let mut batch = SchedulingBatch::new(
            ready,
            PollHistory::started(at(0)),
            BATCH_BYTES,
            unnoted,
            held_histories,
        );
        let mut candidate = candidate(14, |_| ());
        candidate.row.id = id;
        batch.decide(&candidate);
        batch
    }

    /// Has the database refuse the transaction of a schedule.
    fn refuse(&mut self, ready: ReadySchedules, id: i64) -> NextPoll {
        let batch = self.transaction(ready, id);
        self.narrow_down(&batch, "no")
    }

    /// Has the database accept the transaction of a schedule.
    fn accept(&mut self, ready: ReadySchedules, id: i64) {
        let batch = self.transaction(ready, id);
        self.apply_notes(&batch);
    }
}

#[test]
fn the_refusal_of_a_schedule_that_another_service_has_advanced_is_forgotten() {
    let mut poller = poller();
    poller.refuse(ReadySchedules::Due, 1);
    poller.refuse(ReadySchedules::Unplanned, 2);
    assert_eq!(poller.unnoted.len(), 2, "neither has had its turn");
    poller.accept(ReadySchedules::Due, 3);
    assert!(!poller.unnoted.contains_key(&1));
    poller.accept(ReadySchedules::Unplanned, 2);
    assert!(poller.unnoted.is_empty() && poller.held.contains_key(&2));
    assert_eq!(poller.held_ids(Instant::now()), [2]);
}

#[test]
fn the_poller_slows_down_while_the_database_refuses_all_but_notes() {
    let mut poller = poller();
    let mut refuses_but_notes = |id: i64| {
        let next = poller.refuse(ReadySchedules::Due, id);
        poller.accept(ReadySchedules::Due, id);
        next
    };
    assert_eq!([1, 2].map(&mut refuses_but_notes), [AT_ONCE; 2]);
    assert_eq!(
        [3, 4].map(&mut refuses_but_notes),
        [NextPoll::In(POLL_INTERVAL); 2]
    );
    // Retrying the schedules that are held back for a minute must not take the whole minute.
    let rest: Duration = (5..1000)
        .map(|id| match refuses_but_notes(id) {
            NextPoll::In(wait) => wait,
            other => panic!("{other:?}"),
        })
        .skip(495)
        .sum();
    assert!(rest < HOLD_BACK_FOR / 2, "{rest:?}");
    // The database accepts another schedule.
    poller.accept(ReadySchedules::Due, 1000);
    assert_eq!(poller.refuse(ReadySchedules::Due, 1001), AT_ONCE);
}

#[test]
fn an_occurrence_that_came_while_its_schedule_was_held_back_is_neither_lost_nor_missed() {
    let mut poller = poller();
    poller.refuse(ReadySchedules::Due, 1);
    poller.accept(ReadySchedules::Due, 1);
    // Meanwhile the other schedules were on time.
    let mut history = PollHistory::started(at(0));
    history.record_poll(&Agenda {
        now: at(54),
        next: None,
        has_unplanned: false,
        has_malformed: false,
    });
    let late = candidate(54, |spec| spec.missed = "skip".to_owned());
    let runs = |poller: &SchedulePoller| {
        [ReadySchedules::Due, ReadySchedules::Unplanned].map(|ready| {
            let mut batch = SchedulingBatch::new(
                ready,
                history,
                BATCH_BYTES,
                HashMap::new(),
                poller.held_histories(),
            );
            batch.decide(&late).messages.len()
        })
    };
    assert_eq!(runs(&poller), [5, 5]);
    forget_released(&mut poller.held, Instant::now());
    assert_eq!(runs(&poller), [5, 5], "it is held back still");
    // It has not been active since.
    forget_released(&mut poller.held, Instant::now() + HOLD_BACK_FOR);
    assert_eq!(runs(&poller), [1, 0]);
}
