//! A signal may come at any moment of the start.

use std::time::Duration;

use rustix::process::Signal;

use super::TWO_QUEUES;
use crate::support::{Running, World, eventually};

const MESSAGES: usize = 40;

/// Starts the service, waits for a moment and stops it, for each of the moments. No message may be lost.
fn stops_in_order_after(moments: impl Iterator<Item = impl Fn(&Running)>) {
    let world = World::new(TWO_QUEUES);
    world.enqueue("one", "noop", MESSAGES / 2);
    world.enqueue("two", "noop", MESSAGES / 2);
    for wait in moments {
        let mut service = world.launch(&[], "");
        wait(&service);
        let had_begun = !service.log().is_empty();
        service.signal(Signal::TERM);
        let code = service.wait();
        // Before it handles signals, a signal ends it like any program.
        let unheard = code == -15 && !had_begun;
        assert!(code == 0 || unheard, "exit code {code}:\n{}", service.log());
        assert_eq!(world.count("IN_PROGRESS"), 0, "{}", service.log());
        // RabbitMQ returns messages to their queue a moment after the connection is closed.
        eventually("every message is COMPLETED or in its queue", || {
            let ready = world.ready("one") + world.ready("two");
            ready as usize + world.count("COMPLETED") == MESSAGES
        });
    }
    world.run_the_rest();
    assert_eq!(world.count("COMPLETED"), MESSAGES);
    assert_eq!(world.ready("one") + world.ready("two"), 0);
}

#[test]
fn it_stops_in_order_right_after_each_line_of_its_start() {
    let lines = [
        "scheduled tasks to run",
        "this is worker",
        "Successfully started scheduler",
        "consumers for queue one",
        "consumers for queue two",
        "All queues consumer sets started",
        "consuming queue",
    ];
    stops_in_order_after(
        lines
            .into_iter()
            .map(|line| move |service: &Running| service.await_log(line)),
    );
}

#[test]
fn it_stops_in_order_at_any_moment_of_its_start() {
    let moments = (0..20).map(|step| Duration::from_millis(4 * step));
    stops_in_order_after(moments.map(|moment| move |_: &Running| std::thread::sleep(moment)));
}

#[test]
fn it_stops_in_order_while_its_start_waits_for_a_lock_in_the_database() {
    let world = World::new(TWO_QUEUES);
    let mut lock = world.client();
    lock.execute("BEGIN; LOCK TABLE carrot_worker IN ACCESS EXCLUSIVE MODE");
    let mut service = world.launch(&[], "");
    let waits =
        "SELECT pid FROM pg_locks WHERE relation = 'carrot_worker'::regclass AND NOT granted";
    eventually("the start waits for the lock", || {
        !world.rows(waits).is_empty()
    });
    assert_eq!(service.terminate(), 0, "{}", service.log());
    lock.execute("COMMIT");
}
