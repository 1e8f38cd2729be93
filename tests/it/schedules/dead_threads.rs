//! A scheduler that dies by a panic is started again by its service.

use serde_json::json;

use super::{assert_each_second_has_one, row, stop};
use crate::support::{Backend, cases, recovers, traced_config};

cases! { on postgresql, embedded_sqlite:
    the_scheduler_goes_on_when_its_threads_have_died,
    the_scheduler_goes_on_when_its_actor_has_died,
}

#[track_caller]
fn assert_goes_on(backend: Backend, failpoint: &str, death: &str) {
    let world = backend.world(&traced_config("max_crashes = 1000", 4));
    let row = row("a", "note", 1, &json!({"missed": "run_all"}));
    let id = world.insert_schedule(&row);
    let service = world.launch(&[], failpoint);
    service.await_log(death);
    let before = world.occurrences(id).len();
    recovers(|| world.await_occurrences(id, before + 2));
    assert_each_second_has_one(&world.end_schedules());
    assert_eq!(service.log().matches(death).count(), 1, "{}", service.log());
    stop(vec![service]);
}

fn the_scheduler_goes_on_when_its_threads_have_died(backend: Backend) {
    assert_goes_on(backend, "schedule.looks=panic@3", "the scheduler died");
}

fn the_scheduler_goes_on_when_its_actor_has_died(backend: Backend) {
    assert_goes_on(
        backend,
        "scheduler.started=panic",
        "the scheduler's actor died",
    );
}
