//! Services start and stop many times while messages are in flight.

use std::time::Duration;

use carrot_actors::internals::service::Ended;
use carrot_actors::task::Registry;

use crate::support::{Database, Runs, World, cases, eventually};

cases! { on every_database:
    in_a_hundred_starts_and_stops_each_message_is_run_once_and_none_is_lost,
    services_that_start_and_stop_in_any_order_run_each_message_once,
    services_that_are_also_stopped_hard_lose_nothing,
}

/// No limit of crashes: a message may be running at four hard stops by chance.
const QUEUES: &str = r#"
max_crashes = 1000
[[queues]]
name = "one"
concurrency = 3
prefetch_factor = 5
[[queues]]
name = "two"
concurrency = 1
"#;

/// Tasks that count their runs, and take up to two milliseconds.
fn registry(runs: &Runs) -> Registry {
    runs.registry(|| std::thread::sleep(Duration::from_millis(fastrand::u64(0..3))))
}

/// Waits until all messages are COMPLETED, and fails if any is left in a queue.
#[track_caller]
fn assert_all_completed(world: &World, count: usize) {
    world.await_completed(count);
    assert_eq!(world.rows("SELECT id FROM carrot_messagelog").len(), count);
    assert_eq!(world.count("COMPLETED"), count);
    assert_eq!(world.ready("one") + world.ready("two"), 0);
}

fn in_a_hundred_starts_and_stops_each_message_is_run_once_and_none_is_lost(database: Database) {
    let world = World::on(database, QUEUES);
    let runs = Runs::default();
    let mut uuids = world.enqueue("one", "count", 600);
    uuids.extend(world.enqueue("two", "count", 200));
    for round in 0..100 {
        let wanted = (runs.total() + round % 8).min(uuids.len());
        let service = world.in_process(registry(&runs));
        eventually("some messages run", || runs.total() >= wanted);
        assert_eq!(service.stop(), Ended::Drained);
        let completed = world.count("COMPLETED");
        assert_eq!(completed, runs.total(), "in round {round}");
    }
    assert_eq!(world.count("IN_PROGRESS"), 0);
    let last = world.in_process(registry(&runs));
    world.await_completed(uuids.len());
    assert_eq!(last.stop(), Ended::Drained);
    assert_all_completed(&world, uuids.len());
    runs.assert_once_each(&uuids);
}

/// Starts and stops four services at the same time, each at random moments. `hard` of ten stops are hard.
fn side_by_side(world: &World, runs: &Runs, seed: u64, hard: u32) -> Vec<String> {
    let mut uuids = world.enqueue("one", "count", 300);
    uuids.extend(world.enqueue("two", "count", 100));
    std::thread::scope(|scope| {
        for nth in 0..4 {
            scope.spawn(move || {
                let mut random = fastrand::Rng::with_seed(seed + nth);
                for _ in 0..12 {
                    let service = world.in_process(registry(runs));
                    let wanted = (runs.total() + random.usize(0..20)).min(400);
                    eventually("some messages run", || runs.total() >= wanted);
                    if random.u32(0..10) < hard {
                        assert_eq!(service.halt(), Ended::Halted);
                    } else {
                        assert_eq!(service.stop(), Ended::Drained);
                    }
                }
            });
        }
    });
    let last = world.in_process(registry(runs));
    world.await_completed(uuids.len());
    assert_eq!(last.stop(), Ended::Drained);
    uuids
}

fn services_that_start_and_stop_in_any_order_run_each_message_once(database: Database) {
    for seed in [1, 100] {
        let world = World::on(database, QUEUES);
        let runs = Runs::default();
        let uuids = side_by_side(&world, &runs, seed, 0);
        assert_all_completed(&world, uuids.len());
        runs.assert_once_each(&uuids);
    }
}

fn services_that_are_also_stopped_hard_lose_nothing(database: Database) {
    for seed in [7, 700] {
        let world = World::on(database, QUEUES);
        let runs = Runs::default();
        let uuids = side_by_side(&world, &runs, seed, 4);
        // A message may have two copies: one that the broker returned to its queue, and one that the sweep
        // published.
        world.run_the_rest();
        assert_all_completed(&world, uuids.len());
        assert!(uuids.iter().all(|uuid| runs.contains(uuid)));
    }
}
