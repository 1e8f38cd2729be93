//! The first signal stops everything in order.

use std::net::TcpListener;

use rustix::process::Signal;

use super::TWO_QUEUES;
use crate::support::{World, eventually, exit_code};

fn stops_in_order_on(signal: Signal) {
    let world = World::new(TWO_QUEUES);
    world.enqueue("one", "gated", 5);
    world.enqueue("two", "gated", 4);
    let mut service = world.start(&[]);
    world.await_begun(3);

    service.signal(signal);
    world.await_ready("one", 3);
    world.await_ready("two", 3);
    assert_eq!(world.count("IN_PROGRESS"), 3, "running tasks go on");
    assert_eq!(
        world.count("PUBLISHED"),
        6,
        "prefetched messages are returned to their queues"
    );
    world.go();

    assert_eq!(service.wait(), 0);
    let scheduler = service.position("the scheduler is stopped");
    let told = ["one", "two"]
        .map(|queue| service.position(&format!("the consumers of queue {queue} are told to stop")));
    let stopped = ["one", "two"]
        .map(|queue| service.position(&format!("the consumers of queue {queue} have stopped")));
    assert!(told.iter().all(|told| scheduler < *told));
    let last_told = told.iter().max();
    assert!(stopped.iter().all(|stopped| last_told < Some(stopped)));
    assert!(service.position("all consumers have stopped") > stopped[0].max(stopped[1]));
    assert_eq!(world.count("COMPLETED"), 3);
    assert_eq!(world.ready("one") + world.ready("two"), 6);

    world.run_the_rest();
    assert_eq!(world.count("COMPLETED"), 9, "nothing is lost");
    assert_eq!(world.ready("one") + world.ready("two"), 0);
}

#[test]
fn sigterm_stops_the_scheduler_then_tells_all_consumers_before_any_is_waited_for() {
    stops_in_order_on(Signal::TERM);
}

#[test]
fn sigint_stops_the_scheduler_then_tells_all_consumers_before_any_is_waited_for() {
    stops_in_order_on(Signal::INT);
}

#[test]
fn without_the_scheduler_no_scheduler_starts_or_stops() {
    let world = World::new(TWO_QUEUES);
    let uuid = world.enqueue("two", "noop", 1).remove(0);
    let mut service = world.start(&["--no-scheduler"]);
    assert_eq!(world.ended(&uuid)["status"], "COMPLETED");
    assert_eq!(service.terminate(), 0);
    assert!(
        !service.output().contains("scheduler"),
        "{}",
        service.output()
    );
    assert!(!service.log().contains("scheduler"), "{}", service.log());
    service.position("all consumers have stopped");
}

#[test]
fn stopping_during_many_short_tasks_loses_and_repeats_none() {
    let world = World::new(&TWO_QUEUES.replace(r#"["true"]"#, r#"["sh", "-c", "echo $$ >>runs"]"#));
    let all = 400;
    world.enqueue("one", "noop", all / 2);
    world.enqueue("two", "noop", all / 2);
    let mut stops = 0;
    while world.count("COMPLETED") < all {
        let before = world.count("COMPLETED");
        let mut service = world.start(&[]);
        world.await_completed((before + 20).min(all));
        assert_eq!(service.terminate(), 0);
        assert_eq!(
            world.count("IN_PROGRESS"),
            0,
            "claimed messages are given back"
        );
        let ready = world.ready("one") + world.ready("two");
        assert_eq!(ready as usize, world.count("PUBLISHED"));
        stops += 1;
    }
    assert!(
        stops > 2,
        "all messages had run before the service was stopped"
    );
    let runs = std::fs::read_to_string(world.directory().join("runs")).unwrap();
    assert_eq!(runs.lines().count(), all);
}

#[test]
fn it_stops_while_the_broker_is_away() {
    let mut world = World::new(TWO_QUEUES);
    world.broker_url = "amqp://guest:guest@127.0.0.1:1/nowhere".to_owned();
    let mut service = world.launch(&[], "");
    service.await_log(r#"queue "one" on"#);
    service.await_log(r#"queue "two" on"#);
    assert_eq!(service.terminate(), 0);
    assert!(!service.log().contains("guest:guest"));
}

#[test]
fn it_stops_while_it_connects_to_a_broker_that_does_not_answer() {
    let mut world = World::new(TWO_QUEUES);
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap();
    world.broker_url = format!("amqp://guest:guest@{address}/nowhere");
    let mut service = world.launch(&[], "");
    let connections: Vec<_> = (0..2).map(|_| silent.accept().unwrap()).collect();
    assert_eq!(service.terminate(), 0);
    drop(connections);
}

#[test]
fn it_stops_while_it_waits_for_the_database() {
    let mut world = World::new(TWO_QUEUES);
    world.database_url = "postgres://carrot:carrot@127.0.0.1:1/nowhere".to_owned();
    let mut service = world.launch(&[], "");
    service.await_log("is away");
    assert_eq!(service.terminate(), 0);
    assert!(!service.log().contains("carrot:carrot"));
}

#[test]
fn a_service_that_has_stopped_has_removed_its_worker() {
    let world = World::new(TWO_QUEUES);
    let mut service = world.start(&[]);
    let workers = || world.rows("SELECT id FROM carrot_worker").len();
    assert_eq!(workers(), 1);
    assert_eq!(service.terminate(), 0);
    assert_eq!(workers(), 0);
}

#[test]
fn a_closed_terminal_does_not_keep_it_from_stopping() {
    let world = World::new(TWO_QUEUES);
    let log = world.directory().join("closed.log");
    let mut command = world.command(&["--logfile", "closed.log"]);
    let mut child = command
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    drop((child.stdout.take(), child.stderr.take()));
    eventually("the service consumes", || {
        std::fs::read_to_string(&log).is_ok_and(|log| log.contains("consuming queue"))
    });
    rustix::process::kill_process(rustix::process::Pid::from_child(&child), Signal::TERM).unwrap();
    assert_eq!(exit_code(child.wait().unwrap()), 0);
}
