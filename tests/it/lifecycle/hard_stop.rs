//! A service stops hard at the second signal or when the grace time is over.

use rustix::process::{Pid, Signal};

use crate::support::{Running, World, await_end, eventually, lives, pids};

const ENDLESS: &str = r#"
[[queues]]
name = "default"
prefetch_factor = 5
[tasks.work]
command = ["sh", "-c", "sleep 1000 & echo $$ $! >pids.new; mv pids.new pids; wait"]
"#;

/// Waits until the command and its child run; their pids.
fn await_command(world: &World) -> Vec<Pid> {
    let written = eventually("the command has written its pids", || {
        Some(world.read("pids")).filter(|pids| !pids.is_empty())
    });
    pids(&written)
}

/// Fails unless `stop` stops a running command hard, with its children.
fn assert_hard_stop(world: &World, stop: impl Fn(&mut Running)) {
    let uuids = world.enqueue("default", "work", 3);
    let mut service = world.start(&[]);
    let command = await_command(world);
    assert!(command.iter().all(|pid| lives(*pid)));

    stop(&mut service);

    assert_eq!(service.wait(), 75);
    command.into_iter().for_each(await_end);
    world.await_ready("default", 3);
    assert_eq!(
        world.count("FAILED"),
        0,
        "a command that the service kills has not failed"
    );

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
    assert_hard_stop(&world, |service| {
        service.signal(Signal::TERM);
        service.await_log("waiting for 1 running tasks");
        service.signal(Signal::INT);
    });
}

#[test]
fn the_end_of_the_grace_kills_the_running_command_with_its_group_and_leaves_its_message() {
    let world = World::new(&format!("shutdown_grace = \"300ms\"\n{ENDLESS}"));
    assert_hard_stop(&world, |service| {
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
    let command = await_command(&world);
    service.kill();
    command.into_iter().for_each(await_end);
    world.configure(&ENDLESS.replace("sleep 1000 &", "true; exit 0 #"));
    let mut next = world.start(&[]);
    let row = world.ended(&uuid);
    assert_eq!(
        (&row["status"], &row["suspect"]),
        (&"COMPLETED".into(), &true.into())
    );
    assert_eq!(next.terminate(), 0);
}
