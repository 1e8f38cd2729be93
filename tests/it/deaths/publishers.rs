//! A program or a sweep dies while it publishes.

use super::services::world;
use crate::support::{Backend, cases, eventually, traced_config};

cases! { on every_database_and_broker:
    a_message_whose_publisher_dies_before_it_publishes_is_published_by_the_sweep,
    a_message_whose_publisher_dies_before_it_marks_it_is_run_while_it_is_pending,
    a_message_that_a_sweep_took_before_it_died_is_published_by_another,
    a_message_that_a_sweep_published_before_it_died_is_published_again_and_run_once,
}

// On the embedded broker there is no second copy: a message is one row.
cases! { on every_database:
    a_message_that_was_published_twice_runs_once,
    a_message_that_was_published_twice_joins_its_own_run,
}

fn a_message_whose_publisher_dies_before_it_publishes_is_published_by_the_sweep(backend: Backend) {
    let world = world(backend);
    let uuid = world.send_and_die("note", "publish.recorded");
    let service = world.start(&[]);
    assert_eq!(world.assert_all_well(vec![service], &[&uuid]), 0);
    assert_eq!(world.runs(&uuid).len(), 1);
}

fn a_message_whose_publisher_dies_before_it_marks_it_is_run_while_it_is_pending(backend: Backend) {
    let world = world(backend);
    let uuid = world.send_and_die("note", "publish.published");
    assert_eq!(world.ready("default"), backend.copies(1, 0));
    let service = world.start(&[]);
    world.assert_all_well(vec![service], &[&uuid]);
    assert_eq!(world.runs(&uuid).len(), 1);
}

fn a_message_that_was_published_twice_runs_once(backend: Backend) {
    let world = world(backend);
    let uuid = world.send_and_die("note", "publish.published");
    let mut sweeper = world.launch_without_consuming("");
    world.await_ready("default", 2);
    assert_eq!(sweeper.terminate(), 0);

    let service = world.start(&[]);
    service.await_log("is COMPLETED already");
    world.assert_all_well(vec![service], &[&uuid]);
    assert_eq!(world.runs(&uuid).len(), 1);
}

fn a_message_that_was_published_twice_joins_its_own_run(backend: Backend) {
    let world = backend.world(&traced_config("", 2));
    let uuid = world.send_and_die("hold", "publish.published");
    let mut sweeper = world.launch_without_consuming("");
    world.await_ready("default", 2);
    assert_eq!(sweeper.terminate(), 0);

    let service = world.start(&[]);
    service.await_log("was delivered again while it is in hand");
    world.release_tasks();
    world.assert_all_well(vec![service], &[&uuid]);
    assert_eq!(world.runs(&uuid).len(), 1);
}

/// A sweep is killed at `failpoint` while it publishes a message.
#[track_caller]
fn assert_published_after_the_sweep_died(backend: Backend, failpoint: &str, copies: u32) {
    let world = world(backend);
    let uuid = world.send_and_die("note", "publish.recorded");
    world.execute(&format!(
        "UPDATE carrot_messagelog SET due_time = {}",
        backend.database.ago(1)
    ));
    let mut first = world.launch_without_consuming(failpoint);
    assert_eq!(first.wait(), -9);
    assert_eq!(world.find(&uuid).unwrap()["status"], "PENDING");

    let mut second = world.launch_without_consuming("");
    eventually("the message is published", || {
        (world.find(&uuid)?["status"] == "PUBLISHED").then_some(())
    });
    assert_eq!(second.terminate(), 0);
    assert_eq!(world.ready("default"), copies);
    let service = world.start(&[]);
    world.assert_all_well(vec![service], &[&uuid]);
    assert_eq!(world.runs(&uuid).len(), 1);
}

fn a_message_that_a_sweep_took_before_it_died_is_published_by_another(backend: Backend) {
    assert_published_after_the_sweep_died(backend, "sweep.taken=kill", 1);
}

fn a_message_that_a_sweep_published_before_it_died_is_published_again_and_run_once(
    backend: Backend,
) {
    assert_published_after_the_sweep_died(backend, "publish.published=kill", backend.copies(2, 1));
}
