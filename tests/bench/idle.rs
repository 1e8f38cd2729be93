//! A service without work: the binary with the default queue.

use std::thread;
use std::time::{Duration, Instant};

use crate::Bench;
use crate::database::Database;
use crate::report::Key;
use crate::service::{EMBEDDED, Running, Setup};

const QUEUE: &str = "carrot-bench-idle";
const SETTLED: Duration = Duration::from_secs(1);
const SECONDS: usize = 20;

/// Takes one reading, which varies little.
pub fn run(bench: &mut Bench, database: &Database) {
    measure(bench, database, "", |key| key);
}

/// The same with the embedded broker, which polls for messages of other processes.
pub fn embedded(bench: &mut Bench, database: &Database) {
    measure(bench, database, EMBEDDED, |key| {
        key.with("broker", "embedded")
    });
}

fn measure(bench: &mut Bench, database: &Database, config: &str, label: impl Fn(Key) -> Key) {
    let setup = Setup {
        queue: QUEUE,
        concurrency: 1,
        loglevel: "WARNING",
        expected: None,
        scheduler: true,
        config,
    };
    let (cpu, memory) = bench.rabbit.with_queue(QUEUE, || {
        let service = Running::start(bench, database, &setup);
        service.await_start();
        thread::sleep(SETTLED);
        let (before, started) = (service.cost(), Instant::now());
        thread::sleep(Duration::from_secs(bench.options.scaled(SECONDS) as u64));
        let (after, elapsed) = (service.cost(), started.elapsed());
        service.stop(None);
        let cpu = (after.cpu - before.cpu).as_secs_f64() / elapsed.as_secs_f64();
        (100.0 * cpu, after.peak_memory)
    });
    let key = |what: &'static str, unit| label(Key::new(what, unit).on(database.name()));
    bench
        .report
        .add(key("idle service's CPU", "% of a core"), cpu);
    bench
        .report
        .add(key("idle service's memory", "MiB"), memory);
}
