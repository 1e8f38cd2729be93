//! No-op functions, from the queue to their COMPLETED rows.

use std::time::Instant;

use crate::database::Database;
use crate::report::{Key, per_second};
use crate::service::{Cost, Running, Setup};
use crate::{Bench, raw};

const QUEUE: &str = "carrot-bench-tracked";

/// One round: each reading beside one of the limit, as machines are noisy.
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

/// Tasks a second, from the start of the first to the last row.
fn run(bench: &Bench, database: &Database, concurrency: usize, loglevel: &str) -> (f64, Cost) {
    let keys = bench.keys();
    let result = bench.rabbit.with_queue(QUEUE, || {
        database.insert_published(&keys, "noop", QUEUE);
        bench.rabbit.fill(QUEUE, "noop", &keys);
        let setup = Setup {
            queue: QUEUE,
            concurrency,
            loglevel,
            expected: Some(keys.len()),
            scheduler: false,
            config: "",
        };
        let service = Running::start(bench, database, &setup);
        service.await_line("first");
        let started = Instant::now();
        service.await_line("last");
        database.await_completed(keys.len());
        let rate = per_second(keys.len(), started.elapsed());
        let cost = service.cost();
        service.stop(None);
        (rate, cost)
    });
    database.reset();
    result
}
