//! The latency of a task: from the publishing of its message to its first line.

use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use amiquip::Publish;
use carrot_actors::config::BrokerHost;
use carrot_actors::internals::publish::Outbox;
use serde_json::json;

use crate::Bench;
use crate::broker::properties;
use crate::database::Database;
use crate::publishing::{message, outbox, outbox_to, publish};
use crate::report::{Key, per_second};
use crate::service::{EMBEDDED, Running, Setup, now};

const QUEUE: &str = "carrot-bench-latency";
const CONCURRENCY: usize = 4;
const PER_SECOND: usize = 1_000;
const SECONDS: usize = 5;

/// How many programs publish by the library: one alone would wait for each of its commits and confirms.
const PUBLISHERS: usize = 8;

/// With a larger drift, the wall clock was set during the run.
const MOST_DRIFT: Duration = Duration::from_micros(200);

/// How messages are published.
#[derive(Clone, Copy)]
enum By {
    /// By the library: the latency includes the commit of the row, and the confirms of other messages.
    Library,
    /// As django-carrot does, with the rows inserted before: not persistent, and without confirms.
    Django,
    /// By the library, to the embedded broker of the service.
    Rows,
}

/// The result of publishing.
struct Published {
    took: Duration,
    /// How many rows could not be marked, since a consumer had their messages already.
    conflicts: usize,
}

/// Runs one round.
pub fn round(bench: &mut Bench, database: &Database) {
    round_by(bench, database, By::Library, "the library");
    round_by(bench, database, By::Django, "django-carrot's way");
}

/// Runs one round of the embedded broker.
pub fn embedded_round(bench: &mut Bench, database: &Database) {
    round_by(bench, database, By::Rows, "the embedded broker");
}

fn round_by(bench: &mut Bench, database: &Database, by: By, name: &str) {
    let (mut latencies, published) = run(bench, database, by);
    latencies.sort_unstable();
    let mut add = |what, unit, value| {
        let key = Key::new(what, unit).on(database.name()).with("by", name);
        bench.report.add(key, value);
    };
    let rate = per_second(latencies.len(), published.took);
    add("published at", "messages/s", rate);
    add(
        "not marked at first",
        "messages",
        published.conflicts as f64,
    );
    add("publish to start, p50", "ms", percentile(&latencies, 50));
    add("publish to start, p95", "ms", percentile(&latencies, 95));
    add("publish to start, p99", "ms", percentile(&latencies, 99));
    add("publish to start, max", "ms", percentile(&latencies, 100));
}

/// A percentile of latencies in nanoseconds, in milliseconds.
pub fn percentile(sorted: &[u64], percent: usize) -> f64 {
    let index = (sorted.len() * percent).div_ceil(100).max(1) - 1;
    sorted[index] as f64 / 1e6
}

/// The latency of each message, in nanoseconds. It measures again if the clock that both processes share was
/// set during the run.
fn run(bench: &Bench, database: &Database, by: By) -> (Vec<u64>, Published) {
    loop {
        let (wall, steady) = (now(), Instant::now());
        let result = bench
            .rabbit
            .with_queue(QUEUE, || attempt(bench, database, by));
        database.reset();
        let drift = Duration::from_nanos(now() - wall).abs_diff(steady.elapsed());
        if drift < MOST_DRIFT {
            return result;
        }
        println!("the wall clock was set by {drift:?}: measuring again");
    }
}

fn attempt(bench: &Bench, database: &Database, by: By) -> (Vec<u64>, Published) {
    let messages = bench.options.scaled(SECONDS * PER_SECOND);
    let setup = Setup {
        queue: QUEUE,
        concurrency: CONCURRENCY,
        loglevel: "WARNING",
        expected: Some(messages),
        scheduler: false,
        config: match by {
            By::Rows => EMBEDDED,
            By::Library | By::Django => "",
        },
    };
    let service = Running::start(bench, database, &setup);
    service.await_start();
    let published = match by {
        By::Library => by_the_library(&|| outbox(bench, QUEUE), database, messages),
        By::Rows => by_the_library(
            &|| outbox_to(BrokerHost::Embedded, QUEUE),
            database,
            messages,
        ),
        By::Django => by_django(bench, database, messages),
    };
    service.await_line("last");
    let said = service.stop(Some("latencies "));
    let latencies: Vec<u64> = said
        .split_whitespace()
        .map(|text| text.parse().expect("nanoseconds"))
        .collect();
    assert_eq!(latencies.len(), messages);
    (latencies, published)
}

fn by_the_library(
    outbox: &(dyn Fn() -> Outbox + Sync),
    database: &Database,
    messages: usize,
) -> Published {
    let ready = Barrier::new(PUBLISHERS);
    thread::scope(|scope| {
        let publishers: Vec<_> = (0..PUBLISHERS)
            .map(|first| {
                let turns = (first..messages).step_by(PUBLISHERS);
                let ready = &ready;
                scope.spawn(move || publish_in_turn(outbox(), database, turns, ready))
            })
            .collect();
        publishers
            .into_iter()
            .map(|publisher| publisher.join().expect("a publisher"))
            .reduce(|one, other| Published {
                took: one.took.max(other.took),
                conflicts: one.conflicts + other.conflicts,
            })
            .expect("publishers")
    })
}

/// Publishes the share of one of the publishers.
fn publish_in_turn(
    mut outbox: Outbox,
    database: &Database,
    turns: impl Iterator<Item = usize>,
    ready: &Barrier,
) -> Published {
    let mut session = database.session();
    // The first message opens the connections.
    publish(&mut outbox, session.as_mut(), &[message("warm-up", QUEUE)]);
    ready.wait();
    let started = Instant::now();
    let mut conflicts = 0;
    for nth in turns {
        wait_for_turn(started, nth);
        let mut message = message("stamped", QUEUE);
        message.arguments.args = vec![json!(now()).into()];
        let marked = publish(&mut outbox, session.as_mut(), &[message]);
        conflicts += usize::from(!marked);
    }
    Published {
        took: started.elapsed(),
        conflicts,
    }
}

fn by_django(bench: &Bench, database: &Database, messages: usize) -> Published {
    let keys: Vec<String> = (0..messages)
        .map(|_| carrot_actors::internals::names::new_key())
        .collect();
    database.insert_published(&keys, "stamped", QUEUE);
    let mut connection = bench.rabbit.connect();
    let channel = connection.open_channel(None).expect("a channel");
    let started = Instant::now();
    for (nth, key) in keys.iter().enumerate() {
        wait_for_turn(started, nth);
        let properties = properties("stamped", key);
        let body = json!({ "args": [now()] }).to_string();
        let publish = Publish::with_properties(body.as_bytes(), QUEUE, properties);
        channel.basic_publish("", publish).expect("a publish");
    }
    Published {
        took: started.elapsed(),
        conflicts: 0,
    }
}

fn wait_for_turn(started: Instant, nth: usize) {
    let due = Duration::from_secs_f64(nth as f64 / PER_SECOND as f64);
    thread::sleep(due.saturating_sub(started.elapsed()));
}
