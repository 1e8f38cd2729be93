//! A service dies at each step of a message. Programs and sweeps that publish die in `deaths::publishers`.

use rustix::process::{Pid, Signal};

use crate::support::{
    Backend, Running, World, await_end, cases, eventually, lives, pids, traced_config,
};

cases! { on every_database_and_broker:
    a_message_whose_service_dies_after_the_claim_is_run_by_the_next,
    a_message_whose_service_dies_before_the_run_is_run_by_the_next,
    a_message_whose_service_dies_after_the_run_is_run_again,
    a_message_whose_service_dies_before_it_commits_the_end_is_run_again,
    a_message_whose_service_dies_before_it_claims_is_as_it_was,
    a_message_whose_end_was_committed_and_not_acknowledged_is_not_run_again,
    the_attempt_of_a_crash_suspect_is_counted_before_it_runs,
    a_message_that_keeps_killing_its_service_is_failed_and_its_neighbour_completes,
    a_message_that_may_crash_once_is_not_run_again_and_its_neighbour_is_run,
    a_message_that_may_crash_once_is_run_if_its_service_died_before_that,
    the_command_of_a_killed_service_dies_with_all_that_it_has_started,
    a_service_that_stops_returns_claimed_messages_as_django_carrot_expects_them,
    messages_of_a_service_that_dies_while_it_returns_them_are_run_by_the_next,
    a_message_of_a_dead_service_that_the_broker_has_lost_is_published_again,
    a_message_that_a_sweep_recovered_before_it_died_is_published_by_another,
}

pub fn world(backend: Backend) -> World {
    backend.world(&traced_config("", 1))
}

/// A service is killed at `failpoint`, when the task has begun `runs` times. The next service runs the
/// message again.
#[track_caller]
fn assert_run_again_after_death(backend: Backend, failpoint: &str, runs: usize) {
    let world = world(backend);
    let uuid = world.send(&["note"]);
    let mut first = world.launch(&[], failpoint);
    assert_eq!(first.wait(), -9);
    let row = world.find(&uuid).unwrap();
    assert_eq!(row["status"], "IN_PROGRESS", "{row}");
    assert_eq!(world.runs(&uuid).len(), runs);

    let second = world.start(&[]);
    world.assert_all_well(vec![second], &[&uuid]);
    assert_eq!(world.runs(&uuid).len(), runs + 1);
    // The first run, if any, was not recorded.
    assert_eq!(world.find(&uuid).unwrap()["attempts"], 1);
}

fn a_message_whose_service_dies_after_the_claim_is_run_by_the_next(backend: Backend) {
    assert_run_again_after_death(backend, "ledger.after-commit=kill", 0);
}

fn a_message_whose_service_dies_before_the_run_is_run_by_the_next(backend: Backend) {
    assert_run_again_after_death(backend, "consumer.before-run=kill", 0);
}

fn a_message_whose_service_dies_after_the_run_is_run_again(backend: Backend) {
    assert_run_again_after_death(backend, "consumer.ran=kill", 1);
}

fn a_message_whose_service_dies_before_it_commits_the_end_is_run_again(backend: Backend) {
    assert_run_again_after_death(backend, "ledger.before-commit=kill@2", 1);
}

fn a_message_whose_service_dies_before_it_claims_is_as_it_was(backend: Backend) {
    let world = world(backend);
    let uuid = world.send(&["note"]);
    let mut first = world.launch(&[], "ledger.before-commit=kill");
    assert_eq!(first.wait(), -9);
    assert_eq!(world.find(&uuid).unwrap()["status"], "PUBLISHED");

    let second = world.start(&[]);
    assert_eq!(world.assert_all_well(vec![second], &[&uuid]), 0);
    assert_eq!(world.runs(&uuid).len(), 1);
}

fn a_message_whose_end_was_committed_and_not_acknowledged_is_not_run_again(backend: Backend) {
    let world = world(backend);
    let uuid = world.send(&["note"]);
    let mut first = world.launch(&[], "ledger.after-commit=kill@2");
    assert_eq!(first.wait(), -9);
    assert_eq!(world.find(&uuid).unwrap()["status"], "COMPLETED");
    if !backend.is_embedded {
        world.await_ready("default", 1);
    }

    let second = world.start(&[]);
    if !backend.is_embedded {
        second.await_log("is COMPLETED already");
    }
    assert_eq!(world.assert_all_well(vec![second], &[&uuid]), 0);
    assert_eq!(world.runs(&uuid).len(), 1);
}

fn the_attempt_of_a_crash_suspect_is_counted_before_it_runs(backend: Backend) {
    let world = backend.world(&traced_config("max_crashes = 4", 1));
    let uuid = world.send(&["hold"]);
    let attempts = || world.find(&uuid).unwrap()["attempts"].clone();
    let mut first = world.start(&[]);
    world.await_runs(&uuid, 1);
    assert_eq!(attempts(), 0);
    first.kill();

    let mut second = world.start(&[]);
    world.await_runs(&uuid, 2);
    assert_eq!(attempts(), 1);
    second.kill();

    let mut third = world.launch(&[], "consumer.before-run=kill");
    assert_eq!(third.wait(), -9);
    assert_eq!(attempts(), 2);

    world.release_tasks();
    let fourth = world.start(&[]);
    world.assert_all_well(vec![fourth], &[&uuid]);
    assert_eq!(attempts(), 3);
}

fn a_message_that_keeps_killing_its_service_is_failed_and_its_neighbour_completes(
    backend: Backend,
) {
    assert_failed_after_crashes(backend, 3);
}

fn a_message_that_may_crash_once_is_not_run_again_and_its_neighbour_is_run(backend: Backend) {
    assert_failed_after_crashes(backend, 1);
}

/// A message kills its service `most` times, which is as often as it may.
#[track_caller]
fn assert_failed_after_crashes(backend: Backend, most: usize) {
    let world = backend.world(&traced_config(&format!("max_crashes = {most}"), 1));
    let killer = world.send(&["killer"]);
    let neighbour = world.send(&["note"]);
    let is_failed = || world.find(&killer).unwrap()["status"] == "FAILED";
    let survivor = eventually("the message that kills is FAILED", || {
        let mut service = world.launch(&[], "");
        let code = eventually("the service dies or the message is FAILED", || {
            let ended = service.ended().map(Some);
            ended.or_else(|| is_failed().then_some(None))
        });
        match code {
            None => Some(service),
            Some(code) => {
                assert_eq!(code, -9);
                None
            }
        }
    });
    let row = world.find(&killer).unwrap();
    assert_eq!(row["attempts"], most, "{row}");
    let reason = row["exception"].as_str().unwrap();
    let told = format!("max_crashes = {most}");
    assert!(reason.contains(&told), "{reason}");
    assert_eq!(world.runs(&killer).len(), most);
    world.assert_all_well(vec![survivor], &[&neighbour]);
    assert_eq!(world.runs(&neighbour).len(), 1);
}

fn a_message_that_may_crash_once_is_run_if_its_service_died_before_that(backend: Backend) {
    let world = backend.world(&traced_config("max_crashes = 1", 1));
    let uuid = world.send(&["note"]);
    let mut first = world.launch(&[], "ledger.after-commit=kill");
    assert_eq!(first.wait(), -9);
    assert_eq!(world.find(&uuid).unwrap()["status"], "IN_PROGRESS");
    let second = world.start(&[]);
    world.assert_all_well(vec![second], &[&uuid]);
    assert_eq!(world.runs(&uuid).len(), 1);
    assert_eq!(world.find(&uuid).unwrap()["attempts"], 1);
}

/// The pids of all runs of the task `family`, each followed by that of its child.
fn family(world: &World) -> Vec<Pid> {
    pids(&world.read("family"))
}

fn the_command_of_a_killed_service_dies_with_all_that_it_has_started(backend: Backend) {
    let world = world(backend);
    let uuid = world.send(&["family"]);
    let mut first = world.start(&[]);
    eventually("the command and its child run", || {
        family(&world).len() == 2
    });
    let orphans = family(&world);
    assert!(orphans.iter().all(|pid| lives(*pid)));
    first.kill();

    let second = world.start(&[]);
    world.await_runs(&uuid, 2);
    orphans.into_iter().for_each(await_end);
    world.release_tasks();
    world.assert_all_well(vec![second], &[&uuid]);
    family(&world).into_iter().for_each(await_end);
}

/// A service that runs `hold` and has claimed more messages behind it; and the uuids of all messages.
///
/// A service claims ahead only while commits take longer than its tasks, so commits are slow at first.
pub fn service_with_claimed_messages(world: &World, failpoints: &str) -> (Running, Vec<String>) {
    world.declare_queue("default");
    let mut uuids = world.post("default", "note", 10);
    uuids.extend(world.post("default", "hold", 1));
    uuids.extend(world.post("default", "note", 40));
    let service = world.with_slow_commits(|| {
        let service = world.launch(&[], failpoints);
        world.await_runs(&uuids[10], 1);
        eventually("messages are claimed ahead", || {
            world.count("IN_PROGRESS") > 1
        });
        service
    });
    (service, uuids)
}

fn a_service_that_stops_returns_claimed_messages_as_django_carrot_expects_them(backend: Backend) {
    let world = world(backend);
    let (mut service, uuids) = service_with_claimed_messages(&world, "");
    service.signal(Signal::TERM);
    service.await_log("messages go back");
    world.release_tasks();
    assert_eq!(service.wait(), 0);

    // The messages may have run in another order.
    assert!((1..=11).contains(&world.count("COMPLETED")));
    assert_eq!(world.runs(&uuids[10]).len(), 1);
    let back = world.rows("SELECT * FROM carrot_messagelog WHERE status <> 'COMPLETED'");
    for row in &back {
        assert_eq!(row["status"], "PUBLISHED", "{row}");
        assert!(row["owner"].is_null(), "{row}");
    }
    assert_eq!(world.ready("default") as usize, back.len());

    let next = world.start(&[]);
    assert_eq!(world.assert_all_well(vec![next], &uuids), 0);
    assert!(uuids.iter().all(|uuid| world.runs(uuid).len() == 1));
}

fn messages_of_a_service_that_dies_while_it_returns_them_are_run_by_the_next(backend: Backend) {
    let world = world(backend);
    let (mut service, uuids) = service_with_claimed_messages(&world, "ledger.before-release=kill");
    service.signal(Signal::TERM);
    assert_eq!(service.wait(), -9);
    assert!(world.count("IN_PROGRESS") > 1);

    world.release_tasks();
    let next = world.start(&[]);
    world.assert_all_well(vec![next], &uuids);
    assert_eq!(world.runs(&uuids[10]).len(), 2);
}

/// Kills a service while it runs `hold`, and removes the message from the broker; its uuid.
fn killed_and_purged(world: &World) -> String {
    let uuid = world.send(&["hold"]);
    let mut first = world.start(&[]);
    world.await_runs(&uuid, 1);
    first.kill();
    if !world.is_embedded() {
        world.await_ready("default", 1);
        assert!(world.take("default").is_some());
    }
    world.release_tasks();
    uuid
}

fn a_message_of_a_dead_service_that_the_broker_has_lost_is_published_again(backend: Backend) {
    let world = world(backend);
    let uuid = killed_and_purged(&world);
    let second = world.start(&[]);
    world.assert_all_well(vec![second], &[&uuid]);
    assert_eq!(world.runs(&uuid).len(), 2);
}

fn a_message_that_a_sweep_recovered_before_it_died_is_published_by_another(backend: Backend) {
    let world = world(backend);
    let uuid = killed_and_purged(&world);
    let mut second = world.launch(&[], "sweep.recovered=kill");
    assert_eq!(second.wait(), -9);
    assert_eq!(world.find(&uuid).unwrap()["status"], "PENDING");

    let third = world.start(&[]);
    world.assert_all_well(vec![third], &[&uuid]);
    assert_eq!(world.runs(&uuid).len(), 2);
}
