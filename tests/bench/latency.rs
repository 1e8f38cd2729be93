//! How late a task starts: from publishing its message to its first line.

use std::thread;
use std::time::{Duration, Instant};

use amiquip::Publish;
use serde_json::json;

use crate::Bench;
use crate::broker::properties;
use crate::database::Database;
use crate::publishing::{door, message, publish};
use crate::report::{Key, per_second};
use crate::service::{Running, Setup, now};

const QUEUE: &str = "carrot-bench-latency";
const CONCURRENCY: usize = 4;
const PER_SECOND: usize = 1_000;
const SECONDS: usize = 5;

/// Programs that publish through the door: one alone would wait for each of its commits and confirms.
const PUBLISHERS: usize = 8;

/// More than this, and the wall clock was set meanwhile.
const MOST_DRIFT: Duration = Duration::from_micros(200);

/// Who publishes.
#[derive(Clone, Copy)]
enum By {
    /// The library: the row's commit, and the confirms of others, are part of the way.
    Door,
    /// Like django-carrot, whose rows are there by then: not persistent, not confirmed.
    Django,
}

/// One round.
pub fn round(bench: &mut Bench, database: &Database) {
    for (by, name) in [(By::Door, "the door"), (By::Django, "django-carrot's way")] {
        let (mut latencies, rate) = run(bench, database, by);
        latencies.sort_unstable();
        let mut add = |what, unit, value| {
            let key = Key::new(what, unit).on(database.name()).with("by", name);
            bench.report.add(key, value);
        };
        add("published at", "messages/s", rate);
        add("publish to start, p50", "ms", percentile(&latencies, 50));
        add("publish to start, p95", "ms", percentile(&latencies, 95));
        add("publish to start, p99", "ms", percentile(&latencies, 99));
        add("publish to start, max", "ms", percentile(&latencies, 100));
    }
}

fn percentile(sorted: &[u64], percent: usize) -> f64 {
    let index = (sorted.len() * percent).div_ceil(100).max(1) - 1;
    sorted[index] as f64 / 1e6
}

/// Nanoseconds for each message, and the rate that they were really published at. Again, should the
/// clock that both processes share be set meanwhile.
fn run(bench: &Bench, database: &Database, by: By) -> (Vec<u64>, f64) {
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

fn attempt(bench: &Bench, database: &Database, by: By) -> (Vec<u64>, f64) {
    let messages = bench.options.scaled(SECONDS * PER_SECOND);
    let setup = Setup {
        queue: QUEUE,
        concurrency: CONCURRENCY,
        loglevel: "WARNING",
        expected: Some(messages),
        config: "",
    };
    let service = Running::start(bench, database, &setup);
    let took = match by {
        By::Door => by_the_door(bench, database, messages),
        By::Django => by_django(bench, database, messages),
    };
    service.await_line("last");
    let said = service.stop(Some("latencies "));
    let latencies: Vec<u64> = said
        .split_whitespace()
        .map(|text| text.parse().expect("nanoseconds"))
        .collect();
    assert_eq!(latencies.len(), messages);
    (latencies, per_second(messages, took))
}

/// The publishers take turns, each with what falls to it.
fn by_the_door(bench: &Bench, database: &Database, messages: usize) -> Duration {
    let ready = std::sync::Barrier::new(PUBLISHERS);
    thread::scope(|scope| {
        let publishers: Vec<_> = (0..PUBLISHERS)
            .map(|first| {
                let ready = &ready;
                scope.spawn(move || {
                    let mut session = database.session();
                    let mut door = door(bench, QUEUE);
                    // Connects.
                    let warm_up = [message("warm-up", QUEUE)];
                    publish(&mut door, session.as_mut(), &warm_up);
                    ready.wait();
                    let started = Instant::now();
                    for nth in (first..messages).step_by(PUBLISHERS) {
                        wait_for_turn(started, nth);
                        let mut message = message("stamped", QUEUE);
                        message.arguments.args = vec![json!(now())];
                        publish(&mut door, session.as_mut(), &[message]);
                    }
                    started.elapsed()
                })
            })
            .collect();
        let times = publishers.into_iter().map(|publisher| publisher.join());
        times
            .map(|time| time.expect("a publisher"))
            .max()
            .expect("publishers")
    })
}

fn by_django(bench: &Bench, database: &Database, messages: usize) -> Duration {
    let keys: Vec<String> = (0..messages)
        .map(|_| carrot_actors::names::new_key())
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
    started.elapsed()
}

fn wait_for_turn(started: Instant, nth: usize) {
    let due = Duration::from_secs_f64(nth as f64 / PER_SECOND as f64);
    thread::sleep(due.saturating_sub(started.elapsed()));
}
