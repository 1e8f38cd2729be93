//! The second signal, and the end of the grace time: it stops hard.

use std::fs;

use rustix::process::Signal;

use crate::support::{Running, World, eventually};

const ENDLESS: &str = r#"
[[queues]]
name = "default"
prefetch_factor = 5
[tasks.work]
command = ["sh", "-c", "sleep 1000 & echo $$ $! >pids.new; mv pids.new pids; wait"]
"#;

/// A command that has begun, with a child of its own.
fn begun(world: &World) -> Vec<u32> {
    let pids = eventually("the command", || {
        fs::read_to_string(world.directory().join("pids")).ok()
    });
    pids.split_whitespace()
        .map(|pid| pid.parse().unwrap())
        .collect()
}

fn lives(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat.rsplit_once(") ").map(|(_, state)| state.to_owned());
    state.is_some_and(|state| !state.starts_with(['Z', 'X']))
}

/// What must hold after `stop` has stopped a running command hard.
fn halts(world: &World, stop: impl Fn(&mut Running)) {
    let uuids = world.enqueue("default", "work", 3);
    let mut service = world.start(&[]);
    let pids = begun(world);
    assert!(pids.iter().all(|pid| lives(*pid)));

    stop(&mut service);

    assert_eq!(service.wait(), 75);
    eventually("the end of the command and its child", || {
        !pids.iter().any(|pid| lives(*pid))
    });
    world.await_ready("default", 3);
    assert_eq!(world.count("FAILED"), 0, "a kill of ours is not an end");

    world.configure(&ENDLESS.replace("sleep 1000 &", "true; exit 0 #"));
    let mut next = world.start(&[]);
    for uuid in uuids {
        assert_eq!(world.ended(&uuid)["status"], "COMPLETED");
    }
    assert_eq!(next.terminate(), 0);
    assert_eq!(world.ready("default"), 0);
}

#[test]
fn a_second_signal_kills_the_running_command_with_its_group_and_leaves_its_message() {
    let world = World::new(ENDLESS);
    halts(&world, |service| {
        service.signal(Signal::TERM);
        service.await_log("waiting for 1 running tasks");
        service.signal(Signal::INT);
    });
}

#[test]
fn the_end_of_the_grace_kills_the_running_command_with_its_group_and_leaves_its_message() {
    let world = World::new(&format!("shutdown_grace = \"300ms\"\n{ENDLESS}"));
    halts(&world, |service| {
        service.signal(Signal::TERM);
        service.await_log("the grace time is over");
    });
}

#[test]
fn a_task_that_ends_within_the_grace_is_recorded() {
    let world = World::new(&format!("shutdown_grace = \"1h\"\n{}", super::TWO_QUEUES));
    let uuid = world.enqueue("one", "gated", 1).remove(0);
    let mut service = world.start(&[]);
    world.await_begun(1);
    service.signal(Signal::TERM);
    service.await_log("queue one: waiting for 1 running tasks");
    world.go();
    assert_eq!(service.wait(), 0);
    assert_eq!(world.find(&uuid).unwrap()["status"], "COMPLETED");
}

#[test]
fn a_second_signal_ends_the_wait_for_a_broker_that_does_not_answer() {
    let mut world = World::new(ENDLESS);
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    world.broker_url = format!("amqp://guest:guest@{}/x", silent.local_addr().unwrap());
    let mut service = world.launch(&[], "");
    let connection = silent.accept().unwrap();
    service.signal(Signal::TERM);
    service.await_log("told to stop");
    service.signal(Signal::TERM);
    assert_eq!(service.wait(), 75);
    drop(connection);
}

#[test]
fn a_service_that_is_killed_takes_its_command_along_and_the_next_runs_its_message_again() {
    let world = World::new(ENDLESS);
    world.declare_queue("default");
    let uuid = world.send(&["work"]);
    let mut service = world.start(&[]);
    let pids = begun(&world);
    service.kill();
    eventually("the end of the command and its child", || {
        !pids.iter().any(|pid| lives(*pid))
    });
    world.configure(&ENDLESS.replace("sleep 1000 &", "true; exit 0 #"));
    let mut next = world.start(&[]);
    let row = world.ended(&uuid);
    assert_eq!(
        (&row["status"], &row["suspect"]),
        (&"COMPLETED".into(), &true.into())
    );
    assert_eq!(next.terminate(), 0);
}
