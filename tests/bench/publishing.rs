//! Publishing by the library: each message needs a row, a confirm and the row's mark.

use std::sync::Arc;
use std::time::Instant;

use carrot_actors::StoreError;
use carrot_actors::config::{BrokerHost, Config, QueueConfig};
use carrot_actors::internals::publish::Outbox;
use carrot_actors::internals::store::OutboxStore;
use carrot_actors::message::{Arguments, Message};
use serde_json::json;

use crate::Bench;
use crate::database::Database;
use crate::report::{Key, per_second};

const QUEUE: &str = "carrot-bench-publishing";

/// How many messages each call publishes, and how many there are in all.
const RUNS: [(usize, usize); 2] = [(1, 2_000), (1_000, 50_000)];

/// Runs one round.
pub fn round(bench: &mut Bench, database: &Database) {
    for (batch, messages) in RUNS {
        let messages = bench.options.scaled(messages);
        let rate = bench
            .rabbit
            .with_queue(QUEUE, || run(bench, database, batch, messages));
        database.reset();
        let key = Key::new("publishing", "messages/s")
            .on(database.name())
            .with("batch", batch);
        bench.report.add(key, rate);
    }
}

fn run(bench: &Bench, database: &Database, batch: usize, messages: usize) -> f64 {
    let mut session = database.session();
    let mut outbox = outbox(bench, QUEUE);
    // The first message opens the connections.
    assert!(publish(
        &mut outbox,
        session.as_mut(),
        &[message("noop", QUEUE)]
    ));
    let all: Vec<Message> = (0..messages).map(|_| message("noop", QUEUE)).collect();
    let started = Instant::now();
    if batch == 1 {
        for one in all.chunks(1) {
            assert!(publish(&mut outbox, session.as_mut(), one));
        }
    } else {
        // The outbox itself splits them into batches.
        let flushed = outbox.publish(session.as_mut(), &all).expect("a database");
        assert_eq!(flushed.published, messages, "{:?}", flushed.waiting);
    }
    per_second(messages, started.elapsed())
}

/// The outbox of a program with this queue.
pub fn outbox(bench: &Bench, queue: &str) -> Outbox {
    outbox_to(bench.rabbit.url.parse().expect("a URL"), queue)
}

/// The same for a program whose queue has this host.
pub fn outbox_to(host: BrokerHost, queue: &str) -> Outbox {
    let config = Config {
        queues: vec![QueueConfig::new(queue, host)],
        ..Config::default()
    };
    Outbox::new(Arc::new(config))
}

/// A message like those of a real program.
pub fn message(task: &str, queue: &str) -> Message {
    let arguments = Arguments {
        args: vec![json!(1), json!("two")],
        ..Arguments::default()
    };
    Message::new(task, arguments, queue)
}

/// Records and flushes messages. Returns whether all rows were marked: where a consumer was faster, they are
/// not, though the messages are published.
pub fn publish(outbox: &mut Outbox, session: &mut dyn OutboxStore, messages: &[Message]) -> bool {
    let recorded = Outbox::record(session, messages).expect("a record");
    match outbox.flush(session, recorded) {
        Ok(flushed) => {
            assert_eq!(flushed.published, messages.len(), "{:?}", flushed.waiting);
            true
        }
        Err(StoreError::Conflict(_)) => false,
        Err(error) => panic!("{error}"),
    }
}
