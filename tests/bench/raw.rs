//! The limit: the rate at which the client library alone consumes and acknowledges, without any work.

use std::time::Instant;

use amiquip::{ConsumerMessage, ConsumerOptions};

use crate::Bench;
use crate::report::{Key, per_second};

const QUEUE: &str = "carrot-bench-raw";

/// How many messages one ack acknowledges.
const ACK_EVERY: usize = 100;

/// How many messages may be unacknowledged.
const PREFETCH: u16 = 1_000;

/// The priorities of queues that are compared, to see what they cost RabbitMQ. 255 is what django-carrot
/// declares, and so the service's default.
const PRIORITIES: [Option<i32>; 3] = [None, Some(10), Some(255)];

/// Few messages: with 255 priorities, even these take a while.
const FEW: usize = 2_000;

/// Runs one round on queues with and without priorities.
pub fn with_priorities(bench: &mut Bench) {
    let asked_for = bench.rabbit.priorities;
    for priorities in PRIORITIES {
        bench.rabbit.priorities = priorities;
        let rate = rate(bench, &bench.keys()[..FEW]);
        let most = priorities.map_or_else(|| "none".to_owned(), |most| most.to_string());
        let key = Key::new("raw of 2000", "messages/s").with("x-max-priority", most);
        bench.report.add(key, rate);
    }
    bench.rabbit.priorities = asked_for;
}

/// The rate in messages a second.
pub fn run(bench: &Bench) -> f64 {
    rate(bench, &bench.keys())
}

fn rate(bench: &Bench, keys: &[String]) -> f64 {
    bench.rabbit.with_queue(QUEUE, || {
        bench.rabbit.fill(QUEUE, "noop", keys);
        consume(bench, keys.len())
    })
}

fn consume(bench: &Bench, messages: usize) -> f64 {
    let mut connection = bench.rabbit.connect();
    let channel = connection.open_channel(None).expect("a channel");
    channel.qos(0, PREFETCH, false).expect("a prefetch");
    let started = Instant::now();
    let consumer = channel
        .basic_consume(QUEUE, ConsumerOptions::default())
        .expect("a consumer");
    let mut seen = 0;
    while seen < messages {
        let Ok(ConsumerMessage::Delivery(delivery)) = consumer.receiver().recv() else {
            panic!("the consumer ended");
        };
        seen += 1;
        if seen % ACK_EVERY == 0 || seen == messages {
            delivery.ack_multiple(&channel).expect("an ack");
        }
    }
    let rate = per_second(messages, started.elapsed());
    consumer.cancel().expect("a cancel");
    rate
}
