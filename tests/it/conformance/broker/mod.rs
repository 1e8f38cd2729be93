//! What every implementation of `Broker` must do. [`connections`] is about RabbitMQ alone.

mod connections;
mod consuming;
mod embedded;
mod publishing;
mod settling;
mod subscriber;

use std::collections::BTreeMap;
use std::sync::Arc;

use carrot_actors::config::{ArgumentValue, BrokerHost, QueueConfig};
use carrot_actors::internals::broker::{self, Broker};
use carrot_actors::message::{Arguments, Message};
use serde_json::json;

use self::subscriber::Subscriber;
use crate::support::{Backend, World, eventually};

/// A broker of the backend, and the world that it is in. RabbitMQ's has no tables.
fn open(backend: Backend) -> (World, Arc<dyn Broker>) {
    if backend.is_embedded {
        let world = backend.world("");
        let broker = embedded::open(&world);
        return (world, broker);
    }
    let world = World::without_tables("");
    let broker = broker::open(host(&world).rabbitmq().unwrap()).unwrap();
    (world, Arc::from(broker))
}

/// Ends the connection of the subscriber, and of every other.
fn cut(backend: Backend, world: &World, subscriber: &Subscriber) {
    if backend.is_embedded {
        world.execute("ALTER TABLE carrot_messagelog RENAME TO elsewhere");
        subscriber.await_end();
        world.execute("ALTER TABLE elsewhere RENAME TO carrot_messagelog");
    } else {
        cut_connections(world);
    }
}

/// Ends the connections to RabbitMQ. The management API lists a connection only a moment after it was opened.
fn cut_connections(world: &World) {
    eventually("a connection is listed and cut", || {
        world.cut_connections() > 0
    });
}

fn host(world: &World) -> BrokerHost {
    world.broker_url.parse().unwrap()
}

/// The queue that most cases use.
fn queue(world: &World, prefetch: usize) -> QueueConfig {
    QueueConfig {
        prefetch_factor: Some(prefetch),
        queue_arguments: BTreeMap::from([(
            "x-max-priority".to_owned(),
            ArgumentValue::Integer(10),
        )]),
        ..QueueConfig::new("default", host(world))
    }
}

/// Messages whose arguments count from 0.
fn messages(count: usize) -> Vec<Message> {
    let message = |nth| {
        let arguments = Arguments {
            args: vec![json!(nth)],
            ..Arguments::default()
        };
        Message::new("count", arguments, "default")
    };
    (0..count).map(message).collect()
}

/// Declares the queue and publishes the messages to it; all must be confirmed.
#[track_caller]
fn fill(broker: &dyn Broker, queue: &QueueConfig, messages: &[Message]) {
    use carrot_actors::internals::broker::Confirmation::Confirmed;
    let mut publisher = broker.publisher().unwrap();
    publisher.declare(queue).unwrap();
    let references: Vec<&Message> = messages.iter().collect();
    let confirmations = publisher.publish(&references).unwrap();
    assert_eq!(confirmations.len(), messages.len());
    assert!(
        confirmations
            .iter()
            .all(|confirmation| *confirmation == Confirmed)
    );
}
