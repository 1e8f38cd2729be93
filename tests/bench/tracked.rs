//! No-op functions: messages from the queue to their COMPLETED rows.

use std::time::Instant;

use crate::database::Database;
use crate::report::{Key, per_second};
use crate::service::{Cost, EMBEDDED, Running, Setup};
use crate::{Bench, raw};

const QUEUE: &str = "carrot-bench-tracked";

/// Runs one round: each reading beside one of the limit, since machines are noisy.
pub fn round(bench: &mut Bench, database: &Database) {
    for loglevel in bench.options.loglevels.clone() {
        for concurrency in bench.options.concurrency.clone() {
            let raw = raw::run(bench);
            let (tasks, cost) = run(bench, database, concurrency, &loglevel);
            let key = |what, unit| {
                Key::new(what, unit)
                    .on(database.name())
                    .with("concurrency", concurrency)
                    .with("loglevel", &loglevel)
            };
            let cpu = cost.cpu.as_secs_f64() * 1e6 / bench.options.messages() as f64;
            let report = &mut bench.report;
            report.add(Key::new("raw", "messages/s"), raw);
            report.add(key("tracked", "tasks/s"), tasks);
            report.add(key("tracked of raw", "%"), 100.0 * tasks / raw);
            report.add(key("service's CPU per task", "µs"), cpu);
            report.add(key("service's peak memory", "MiB"), cost.peak_memory);
        }
    }
}

/// Runs one round of the embedded broker, which has no limit to compare with.
pub fn embedded_round(bench: &mut Bench, database: &Database) {
    for concurrency in bench.options.concurrency.clone() {
        let keys = bench.keys();
        database.insert_published(&keys, "noop", QUEUE);
        let setup = setup(keys.len(), concurrency, "WARNING", EMBEDDED);
        let (tasks, cost) = run_all(bench, database, &setup);
        database.reset();
        let key = |what, unit| {
            Key::new(what, unit)
                .on(database.name())
                .with("broker", "embedded")
                .with("concurrency", concurrency)
        };
        let cpu = cost.cpu.as_secs_f64() * 1e6 / keys.len() as f64;
        bench.report.add(key("tracked", "tasks/s"), tasks);
        bench.report.add(key("service's CPU per task", "µs"), cpu);
    }
}

fn setup<'a>(messages: usize, concurrency: usize, loglevel: &'a str, config: &'a str) -> Setup<'a> {
    Setup {
        queue: QUEUE,
        concurrency,
        loglevel,
        expected: Some(messages),
        scheduler: false,
        config,
    }
}

/// The rate in tasks a second, from the start of the first to the last row.
fn run(bench: &Bench, database: &Database, concurrency: usize, loglevel: &str) -> (f64, Cost) {
    let keys = bench.keys();
    let result = bench.rabbit.with_queue(QUEUE, || {
        database.insert_published(&keys, "noop", QUEUE);
        bench.rabbit.fill(QUEUE, "noop", &keys);
        let setup = setup(keys.len(), concurrency, loglevel, "");
        run_all(bench, database, &setup)
    });
    database.reset();
    result
}

/// The same for the messages that wait in the queue.
fn run_all(bench: &Bench, database: &Database, setup: &Setup<'_>) -> (f64, Cost) {
    let messages = setup.expected.unwrap_or_default();
    let service = Running::start(bench, database, setup);
    service.await_line("first");
    let started = Instant::now();
    service.await_line("last");
    database.await_completed(messages);
    let rate = per_second(messages, started.elapsed());
    let cost = service.cost();
    service.stop(None);
    (rate, cost)
}
