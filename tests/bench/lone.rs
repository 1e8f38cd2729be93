//! The latency of a task whose message is the only one: the service must notice it.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use carrot_actors::Client;
use carrot_actors::config::{BrokerHost, Config, QueueConfig};

use crate::Bench;
use crate::database::Database;
use crate::latency::percentile;
use crate::report::Key;
use crate::service::{EMBEDDED, Running, Setup, now};

const QUEUE: &str = "carrot-bench-lone";
const MESSAGES: usize = 60;

/// A random pause between messages, in milliseconds, so that they do not coincide with any interval of the
/// service.
const PAUSE: std::ops::Range<u64> = 70..170;

/// How a message is published.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum By {
    /// By a client in another process.
    Another,
    /// By a task of the service itself.
    Itself,
    /// In a transaction of a program; the sweep publishes it.
    Transaction,
}

/// Runs one round of the embedded broker.
pub fn embedded_round(bench: &mut Bench, database: &Database) {
    for (by, name) in [
        (By::Another, "another process"),
        (By::Itself, "the same process"),
    ] {
        let latencies = run(bench, database, by, true);
        report(
            bench,
            database,
            "lone message to start",
            ("by", name),
            &latencies,
        );
    }
}

/// Runs one round of transactions: from their begin to the start of the task that they recorded.
pub fn transactions_round(bench: &mut Bench, database: &Database) {
    for (embedded, broker) in [(false, "RabbitMQ"), (true, "embedded")] {
        let run = || run(bench, database, By::Transaction, embedded);
        let latencies = if embedded {
            database.with_queues(run)
        } else {
            run()
        };
        report(
            bench,
            database,
            "transaction to start",
            ("broker", broker),
            &latencies,
        );
    }
}

fn report(
    bench: &mut Bench,
    database: &Database,
    what: &str,
    (label, value): (&'static str, &str),
    latencies: &[u64],
) {
    for (of, percent) in [("p50", 50), ("p95", 95), ("p99", 99), ("max", 100)] {
        let key = Key::new(format!("{what}, {of}"), "ms");
        let key = key.on(database.name()).with(label, value);
        bench.report.add(key, percentile(latencies, percent));
    }
}

/// The latency of each message, in nanoseconds, sorted.
fn run(bench: &Bench, database: &Database, by: By, embedded: bool) -> Vec<u64> {
    let latencies = bench
        .rabbit
        .with_queue(QUEUE, || attempt(bench, database, by, embedded));
    database.reset();
    latencies
}

fn attempt(bench: &Bench, database: &Database, by: By, embedded: bool) -> Vec<u64> {
    let messages = bench.options.scaled(MESSAGES);
    let setup = Setup {
        queue: QUEUE,
        concurrency: 1,
        loglevel: "WARNING",
        expected: Some(messages),
        scheduler: false,
        config: if embedded { EMBEDDED } else { "" },
    };
    let service = Running::start(bench, database, &setup);
    service.await_start();
    publish(&client(bench, database, embedded), database, by, messages);
    service.await_line("last");
    let said = service.stop(Some("latencies "));
    let latencies = said.split_whitespace();
    let mut latencies: Vec<u64> = latencies
        .map(|text| text.parse().expect("nanoseconds"))
        .collect();
    assert_eq!(latencies.len(), messages);
    latencies.sort_unstable();
    latencies
}

fn client(bench: &Bench, database: &Database, embedded: bool) -> Client {
    let host = if embedded {
        BrokerHost::Embedded
    } else {
        bench.rabbit.url.parse().expect("a URL")
    };
    let config = Config {
        queues: vec![QueueConfig::new(QUEUE, host)],
        database_url: database.url.parse().expect("a URL"),
        ..Config::default()
    };
    Client::connect(Arc::new(config)).expect("a client")
}

fn publish(client: &Client, database: &Database, by: By, messages: usize) {
    let mut random = fastrand::Rng::with_seed(1);
    let mut link = database.link();
    for _ in 0..messages {
        thread::sleep(Duration::from_millis(random.u64(PAUSE)));
        match by {
            By::Another => {
                let stamped = client.task("stamped").args((now(),)).publish();
                stamped.expect("a receipt");
            }
            By::Itself => {
                client.task("relay").publish().expect("a receipt");
            }
            By::Transaction => link.record(client.task("stamped").args((now(),))),
        }
    }
}
