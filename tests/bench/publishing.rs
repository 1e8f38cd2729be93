//! Publishing through the library's door: a row, a confirm and the row's mark for each message.

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

/// Messages of one call, and of all.
const RUNS: [(usize, usize); 2] = [(1, 2_000), (1_000, 50_000)];

/// One round.
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
    let mut door = door(bench, QUEUE);
    // Connects.
    assert!(publish(
        &mut door,
        session.as_mut(),
        &[message("noop", QUEUE)]
    ));
    let all: Vec<Message> = (0..messages).map(|_| message("noop", QUEUE)).collect();
    let started = Instant::now();
    if batch == 1 {
        for one in all.chunks(1) {
            assert!(publish(&mut door, session.as_mut(), one));
        }
    } else {
        // In parts that the door makes itself.
        let flushed = door.publish(session.as_mut(), &all).expect("a database");
        assert_eq!(flushed.published, messages, "{:?}", flushed.waiting);
    }
    per_second(messages, started.elapsed())
}

/// The door of a program with this queue.
pub fn door(bench: &Bench, queue: &str) -> Outbox {
    door_to(bench.rabbit.url.parse().expect("a URL"), queue)
}

/// The same of a program whose queue has that host.
pub fn door_to(host: BrokerHost, queue: &str) -> Outbox {
    let config = Config {
        queues: vec![QueueConfig::new(queue, host)],
        ..Config::default()
    };
    Outbox::new(Arc::new(config))
}

/// A message that passes for one of a real program.
pub fn message(task: &str, queue: &str) -> Message {
    let arguments = Arguments {
        args: vec![json!(1), json!("two")],
        ..Arguments::default()
    };
    Message::new(task, arguments, queue)
}

/// Record, then flush. Whether nothing got in the way of the rows' mark: where a consumer did, the
/// messages are published all the same.
pub fn publish(door: &mut Outbox, session: &mut dyn OutboxStore, messages: &[Message]) -> bool {
    let recorded = Outbox::record(session, messages).expect("a record");
    match door.flush(session, recorded) {
        Ok(flushed) => {
            assert_eq!(flushed.published, messages.len(), "{:?}", flushed.waiting);
            true
        }
        Err(StoreError::Conflict(_)) => false,
        Err(error) => panic!("{error}"),
    }
}
