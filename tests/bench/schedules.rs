//! A hundred thousand schedules whose occurrences are spread over a minute: how late their messages come to a
//! consumer, and what they cost the service, which does not consume their queue itself.

use std::thread;
use std::time::{Duration, Instant};

use amiquip::{ConsumerMessage, ConsumerOptions};
use serde_json::Value;

use crate::Bench;
use crate::database::Database;
use crate::latency::percentile;
use crate::report::Key;
use crate::service::{Running, Setup, now};

const QUEUE: &str = "carrot-bench-schedules";

/// The queue that the service itself consumes.
const OTHER_QUEUE: &str = "carrot-bench-no-work";

const SCHEDULES: usize = 100_000;

/// The interval of each schedule, in nanoseconds.
pub const PERIOD: u64 = 60_000_000_000;

/// How long it measures, in seconds.
const SECONDS: usize = 60;

/// How long a service takes to settle after its start.
const SETTLED: Duration = Duration::from_secs(2);

/// Takes one reading.
pub fn round(bench: &mut Bench, database: &Database) {
    let schedules = bench.options.scaled(SCHEDULES);
    // The nth schedule runs n times the spacing after this, and every minute again.
    let base = now();
    database.insert_schedules(schedules, QUEUE, base);
    let (figures, mut lateness) = bench.rabbit.with_queue(QUEUE, || {
        bench
            .rabbit
            .with_queue(OTHER_QUEUE, || attempt(bench, database, base, schedules))
    });
    database.remove_schedules();
    database.reset();
    let key = |what, unit| {
        Key::new(what, unit)
            .on(database.name())
            .with("schedules", schedules)
    };
    for (what, unit, value) in figures {
        bench.report.add(key(what, unit), value);
    }
    lateness.sort_unstable();
    for (what, percent) in [
        ("planned to delivered, p50", 50),
        ("planned to delivered, p99", 99),
        ("planned to delivered, max", 100),
    ] {
        let value = percentile(&lateness, percent);
        bench.report.add(key(what, "ms"), value);
    }
}

type Figures = Vec<(&'static str, &'static str, f64)>;

fn attempt(bench: &Bench, database: &Database, base: u64, schedules: usize) -> (Figures, Vec<u64>) {
    let setup = Setup {
        queue: OTHER_QUEUE,
        concurrency: 1,
        loglevel: "WARNING",
        expected: None,
        scheduler: true,
        config: "",
    };
    let started = Instant::now();
    let service = Running::start(bench, database, &setup);
    database.await_planned();
    let planned = started.elapsed();
    service.stop(None);

    let started = Instant::now();
    let service = Running::start(bench, database, &setup);
    service.await_start();
    let start = started.elapsed();
    thread::sleep(SETTLED);
    let (before, from) = (service.cost(), Instant::now());
    let time = Duration::from_secs(bench.options.scaled(SECONDS) as u64);
    let lateness = consume(bench, base, schedules, time);
    let (after, elapsed) = (service.cost(), from.elapsed());
    service.stop(None);
    let cpu = (after.cpu - before.cpu).as_secs_f64() / elapsed.as_secs_f64();
    let rate = lateness.len() as f64 / elapsed.as_secs_f64();
    // A message that is a whole period late looks punctual, but then other messages are missing.
    let planned_then = schedules as f64 * time.as_nanos() as f64 / PERIOD as f64;
    let share = lateness.len() as f64 / planned_then;
    let figures = vec![
        ("new rows planned", "s", planned.as_secs_f64()),
        ("start with schedules", "s", start.as_secs_f64()),
        ("occurrences", "messages/s", rate),
        ("occurrences of those planned", "%", 100.0 * share),
        ("scheduling service's CPU", "% of a core", 100.0 * cpu),
        ("scheduling service's memory", "MiB", after.peak_memory),
    ];
    (figures, lateness)
}

/// How late each message was that came within `time`, in nanoseconds. Messages that came before are ignored.
fn consume(bench: &Bench, base: u64, schedules: usize, time: Duration) -> Vec<u64> {
    let mut connection = bench.rabbit.connect();
    let channel = connection.open_channel(None).expect("a channel");
    channel.queue_purge(QUEUE).expect("a purge");
    let consumer = channel
        .basic_consume(
            QUEUE,
            ConsumerOptions {
                no_ack: true,
                ..ConsumerOptions::default()
            },
        )
        .expect("a consumer");
    let end = Instant::now() + time;
    let mut lateness = Vec::new();
    while let Ok(message) = consumer.receiver().recv_deadline(end) {
        let ConsumerMessage::Delivery(delivery) = message else {
            panic!("the consumer ended");
        };
        let now = now();
        let body: Value = serde_json::from_slice(&delivery.body).expect("JSON");
        let nth = body["args"][0].as_u64().expect("its number");
        let offset = nth * PERIOD / schedules as u64;
        lateness.push((now - base - offset) % PERIOD);
    }
    consumer.cancel().expect("a cancel");
    lateness
}
