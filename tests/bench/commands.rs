//! External commands: messages from the queue to their COMPLETED rows, with a process each.

use std::thread;
use std::time::{Duration, Instant};

use crate::Bench;
use crate::database::Database;
use crate::report::{Key, per_second};
use crate::service::{Running, Setup};

const QUEUE: &str = "carrot-bench-commands";
const CONCURRENCY: usize = 4;
const MESSAGES: usize = 2_000;

/// How often the table is counted: seldom, compared to what a count costs.
const LOOK: Duration = Duration::from_millis(20);

/// Runs one round.
pub fn round(bench: &mut Bench, database: &Database) {
    let rate = run(bench, database);
    let key = Key::new("command tasks", "tasks/s")
        .on(database.name())
        .with("concurrency", CONCURRENCY);
    bench.report.add(key, rate);
}

fn run(bench: &Bench, database: &Database) -> f64 {
    let messages = bench.options.scaled(MESSAGES);
    let keys: Vec<String> = bench.keys().into_iter().take(messages).collect();
    let rate = bench.rabbit.with_queue(QUEUE, || {
        database.insert_published(&keys, "command", QUEUE);
        bench.rabbit.fill(QUEUE, "command", &keys);
        let setup = Setup {
            queue: QUEUE,
            concurrency: CONCURRENCY,
            loglevel: "WARNING",
            expected: None,
            scheduler: false,
            config: "[tasks.command]\ncommand = [\"/bin/true\"]\n",
        };
        let service = Running::start(bench, database, &setup);
        let before = await_count(database, 1);
        let started = Instant::now();
        let completed = await_count(database, keys.len()) - before;
        let rate = per_second(completed, started.elapsed());
        service.stop(None);
        rate
    });
    database.reset();
    rate
}

/// Waits until `count` messages are COMPLETED; how many are.
fn await_count(database: &Database, count: usize) -> usize {
    loop {
        let completed = database.completed();
        if completed >= count {
            return completed;
        }
        thread::sleep(LOOK);
    }
}
