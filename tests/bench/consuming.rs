//! The rate at which `Broker` consumes and acknowledges, beside that of its client library alone. It measures
//! everything between the socket and the set of consumers.

use std::time::{Duration, Instant};

use carrot_actors::config::{BrokerUrl, QueueConfig};
use carrot_actors::internals::broker::{self, BrokerEvent, SubscriptionCommand};
use crossbeam_channel::unbounded;
use rustix::time::{ClockId, clock_gettime};

use crate::Bench;
use crate::raw;
use crate::report::{Key, per_second};

const QUEUE: &str = "carrot-bench-consuming";

/// How many messages may be unacknowledged.
const PREFETCH: usize = 1_000;

/// Runs one round: a reading beside one of the limit.
pub fn round(bench: &mut Bench) {
    let raw = raw::run(bench);
    let keys = bench.keys();
    let (consumed, cpu) = bench.rabbit.with_queue(QUEUE, || {
        bench.rabbit.fill(QUEUE, "noop", &keys);
        consume(bench, keys.len())
    });
    let report = &mut bench.report;
    report.add(Key::new("raw", "messages/s"), raw);
    report.add(Key::new("consumed", "messages/s"), consumed);
    report.add(Key::new("consumed of raw", "%"), 100.0 * consumed / raw);
    // The CPU, since the broker takes most of the time, and not always the same.
    report.add(Key::new("consuming's CPU per message", "µs"), cpu);
}

/// The CPU time of this process.
fn on_cpu() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::try_from(time).expect("a time")
}

/// Messages a second, from the declaration of the queue until the last acknowledgement is sent, and the CPU
/// time of each, in µs.
fn consume(bench: &Bench, messages: usize) -> (f64, f64) {
    let url: BrokerUrl = bench.rabbit.url.parse().expect("a URL");
    let broker = broker::open(&url).expect("a broker");
    let mut queue = QueueConfig::new(QUEUE, url);
    queue.prefetch_factor = Some(PREFETCH);
    queue.queue_arguments = bench.rabbit.priority_argument();
    let (commands, orders) = unbounded();
    let mut commands = Some(commands);
    let mut seen = 0;
    let cpu = on_cpu();
    let mut started = Instant::now();
    let mut sink = |event| match event {
        BrokerEvent::Opened { .. } => started = Instant::now(),
        BrokerEvent::Delivered(deliveries) => {
            seen += deliveries.len();
            let accept = deliveries
                .into_iter()
                .map(|delivery| delivery.handle)
                .collect();
            let settle = SubscriptionCommand::Settle {
                accept,
                give_back: Vec::new(),
            };
            if let Some(commands) = &commands {
                commands.send(settle).expect("a subscription");
            }
            if seen == messages {
                commands = None;
            }
        }
        _ => {}
    };
    broker
        .consume(&queue, 1, &orders, &mut sink)
        .expect("a queue");
    let cpu = (on_cpu() - cpu).as_secs_f64() * 1e6 / messages as f64;
    (per_second(messages, started.elapsed()), cpu)
}
