//! How many tasks run at the same time.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use carrot_actors::internals::service::Ended;
use carrot_actors::task::Registry;
use crossbeam_channel::{Sender, unbounded};
use serde_json::Value;

use crate::support::{World, eventually};

/// How long a test watches that nothing happens.
const WHILE: Duration = Duration::from_millis(250);

/// Much longer than a commit takes on a busy machine.
const LONG: Duration = Duration::from_millis(1500);

/// The task `gated`, which runs until the test releases it; the task `noop` does not wait.
struct Gate {
    running: Arc<AtomicUsize>,
    most: Arc<AtomicUsize>,
    passes: Sender<()>,
}

impl Gate {
    fn new() -> (Self, Registry) {
        let (passes, taken) = unbounded();
        let gate = Self {
            running: Arc::default(),
            most: Arc::default(),
            passes,
        };
        let (running, most) = (Arc::clone(&gate.running), Arc::clone(&gate.most));
        let mut registry = Registry::new();
        registry
            .register("gated", move |_, _| {
                let now = running.fetch_add(1, Ordering::SeqCst) + 1;
                most.fetch_max(now, Ordering::SeqCst);
                taken.recv()?;
                running.fetch_sub(1, Ordering::SeqCst);
                Ok(Value::Null)
            })
            .unwrap();
        registry.register("noop", |_, _| Ok(Value::Null)).unwrap();
        (gate, registry)
    }

    #[track_caller]
    fn await_running(&self, count: usize) {
        eventually(&format!("{count} tasks run"), || {
            self.running.load(Ordering::SeqCst) == count
        });
    }

    fn release_tasks(&self, count: usize) {
        (0..count).for_each(|_| self.passes.send(()).unwrap());
    }
}

#[test]
fn a_queue_runs_as_many_tasks_at_once_as_it_has_consumers_and_never_more() {
    let world = World::new("[[queues]]\nname = \"default\"\nconcurrency = 3\n");
    world.enqueue("default", "gated", 10);
    let (gate, registry) = Gate::new();
    let service = world.in_process(registry);
    gate.await_running(3);
    std::thread::sleep(WHILE);
    assert_eq!(gate.running.load(Ordering::SeqCst), 3);
    gate.release_tasks(10);
    world.await_completed(10);
    assert_eq!(service.stop(), Ended::Drained);
    assert_eq!(gate.most.load(Ordering::SeqCst), 3);
}

#[test]
fn a_slow_queue_does_not_hold_up_another() {
    let world = World::new("[[queues]]\nname = \"slow\"\n[[queues]]\nname = \"fast\"\n");
    world.enqueue("slow", "gated", 3);
    world.enqueue("fast", "noop", 200);
    let (gate, registry) = Gate::new();
    let service = world.in_process(registry);
    gate.await_running(1);
    world.await_completed(200);
    assert_eq!(gate.running.load(Ordering::SeqCst), 1);
    gate.release_tasks(3);
    world.await_completed(203);
    assert_eq!(service.stop(), Ended::Drained);
}

#[test]
fn with_long_tasks_only_running_messages_are_in_progress() {
    let world = World::new("[[queues]]\nname = \"default\"\nconcurrency = 1\n");
    world.enqueue("default", "gated", 5);
    let (gate, registry) = Gate::new();
    let service = world.in_process(registry);
    for done in 0..5 {
        world.await_completed(done);
        gate.await_running(1);
        std::thread::sleep(LONG);
        assert_eq!(world.count("IN_PROGRESS"), 1, "after {done} tasks");
        assert_eq!(world.count("PUBLISHED"), 4 - done);
        gate.release_tasks(1);
    }
    world.await_completed(5);
    assert_eq!(service.stop(), Ended::Drained);
}

#[test]
fn messages_that_were_claimed_behind_a_long_task_are_released_for_others() {
    let world = World::new("[[queues]]\nname = \"default\"\nconcurrency = 1\n");
    // The service claims many short tasks at once, and then the long one.
    world.enqueue("default", "noop", 3_000);
    world.post("default", "gated", 1);
    world.post("default", "noop", 3_000);
    let (gate, registry) = Gate::new();
    let service = world.in_process(registry.clone());
    gate.await_running(1);
    world.await_count("IN_PROGRESS", 1);
    assert!(world.count("PUBLISHED") > 2_000);

    let other = world.in_process(registry);
    // All but the long task and two that are prefetched behind it.
    world.await_completed(5_998);
    assert_eq!(gate.running.load(Ordering::SeqCst), 1);
    gate.release_tasks(1);
    world.await_completed(6_001);
    assert_eq!(service.stop(), Ended::Drained);
    assert_eq!(other.stop(), Ended::Drained);
}
