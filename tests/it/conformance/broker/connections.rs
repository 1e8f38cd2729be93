//! What a broker that is reached by a connection must do: RabbitMQ.

use std::sync::Arc;
use std::thread::JoinHandle;

use carrot_actors::config::{BrokerUrl, QueueConfig};
use carrot_actors::internals::broker::{
    Broker, BrokerError, BrokerEvent, DeliveryHandle, Envelope, SubscriptionCommand,
};
use crossbeam_channel::{Receiver, Sender, unbounded};

use super::subscriber::{Subscriber, await_left};
use super::{cut_connections, fill, messages, open, queue};
use crate::support::{Backend, PATIENCE, World, eventually};

#[test]
fn a_cut_connection_ends_consuming_and_returns_unsettled_messages() {
    let (world, broker) = open(Backend::rabbitmq());
    let queue = queue(&world, 10);
    fill(broker.as_ref(), &queue, &messages(3));
    let subscriber = Subscriber::open(&broker, &queue, 1);
    subscriber.receive(3);
    cut_connections(&world);
    let ended = subscriber.end();
    assert!(matches!(ended, Err(BrokerError::Away(_))), "{ended:?}");
    await_left(&broker, &queue, 3);
}

#[test]
fn a_connection_that_is_cut_ends_publishing_and_a_new_one_publishes() {
    let (world, broker) = open(Backend::rabbitmq());
    let queue = queue(&world, 10);
    let mut publisher = broker.publisher().unwrap();
    publisher.declare(&queue).unwrap();
    cut_connections(&world);
    // The client may accept a message before it notices that the connection is closed.
    let mut taken = 0;
    let ended = eventually("the end of the publisher", || {
        let published = publisher.publish(&[&messages(1)[0]]);
        taken += u32::from(published.is_ok());
        published.err()
    });
    assert!(matches!(ended, BrokerError::Away(_)), "{ended:?}");
    let ended = publisher.declare(&queue);
    assert!(ended.is_err(), "a publisher that failed once fails again");
    fill(broker.as_ref(), &queue, &messages(1));
    await_left(&broker, &queue, taken + 1);
}

#[test]
fn a_broker_that_does_not_listen_is_away() {
    let world = World::without_tables("");
    let url: BrokerUrl = "amqp://guest:secret@127.0.0.1:1/x".parse().unwrap();
    let broker = carrot_actors::internals::broker::open(&url).unwrap();
    let (_commands, orders) = unbounded();
    let consumed = broker.consume(&queue(&world, 1), 1, &orders, &mut |event| {
        panic!("{event:?}")
    });
    let published = broker.publisher().map(drop);
    for result in [consumed, published] {
        let Err(BrokerError::Away(reason)) = result else {
            panic!("{result:?}");
        };
        assert!(
            reason.contains("127.0.0.1") && !reason.contains("secret"),
            "{reason}"
        );
    }
}

#[test]
fn a_wrong_password_and_a_missing_vhost_are_refused() {
    let world = World::without_tables("");
    let wrong = world.broker_url.replace("guest:guest", "guest:secret");
    let missing = format!("{}-missing", world.broker_url);
    for url in [wrong, missing] {
        let broker = carrot_actors::internals::broker::open(&url.parse().unwrap()).unwrap();
        let Err(BrokerError::Refused(reason)) = broker.publisher().map(drop) else {
            panic!("{url} is not refused");
        };
        assert!(!reason.contains("secret"), "{reason}");
    }
}

#[test]
fn a_queue_that_is_deleted_ends_consuming() {
    let (world, broker) = open(Backend::rabbitmq());
    let queue = queue(&world, 10);
    let subscriber = Subscriber::open(&broker, &queue, 1);
    world.delete_queue("default");
    let ended = subscriber.end();
    assert!(matches!(ended, Err(BrokerError::QueueGone(_))), "{ended:?}");
}

/// A subscription that stops at each answer to [`SubscriptionCommand::Depth`] until it is released.
struct Halting {
    queue: QueueConfig,
    commands: Sender<SubscriptionCommand>,
    stopped: Receiver<()>,
    release: Sender<()>,
    delivered: Receiver<Vec<Envelope>>,
    thread: JoinHandle<Result<(), BrokerError>>,
}

impl Halting {
    fn open(world: &World, broker: &Arc<dyn Broker>) -> Self {
        let queue = queue(world, 10);
        let (commands, orders) = unbounded();
        let (stops, stopped) = unbounded();
        let (release, released) = unbounded();
        let (deliveries, delivered) = unbounded();
        let consuming = (Arc::clone(broker), queue.clone());
        let thread = std::thread::spawn(move || {
            let (broker, queue) = consuming;
            broker.consume(&queue, 1, &orders, &mut |event| match event {
                BrokerEvent::Delivered(batch) => deliveries.send(batch).unwrap_or_default(),
                BrokerEvent::Depth(_) => {
                    stops.send(()).unwrap_or_default();
                    released.recv().unwrap_or_default();
                }
                _ => {}
            })
        });
        Self {
            queue,
            commands,
            stopped,
            release,
            delivered,
            thread,
        }
    }

    /// Stops it, and waits until ten messages are delivered to each of its two consumers. None is passed on
    /// yet.
    #[track_caller]
    fn stop_with_twenty(&self, world: &World, broker: &Arc<dyn Broker>) {
        self.commands
            .send(SubscriptionCommand::Prefetch { more: 10, epoch: 1 })
            .unwrap();
        self.commands.send(SubscriptionCommand::Depth).unwrap();
        self.stopped.recv_timeout(PATIENCE).unwrap();
        fill(broker.as_ref(), &self.queue, &messages(20));
        world.await_ready("default", 0);
    }

    /// Releases it, and waits until the twenty messages are passed on.
    #[track_caller]
    fn release_twenty(&self) -> Vec<DeliveryHandle> {
        self.release.send(()).unwrap();
        let mut receipts = Vec::new();
        while receipts.len() < 20 {
            let batch = self.delivered.recv_timeout(PATIENCE).unwrap();
            receipts.extend(batch.iter().map(|delivery| delivery.handle));
        }
        receipts
    }
}

#[test]
fn deliveries_of_a_deleted_queue_are_passed_on_before_consuming_ends() {
    let (world, broker) = open(Backend::rabbitmq());
    let halting = Halting::open(&world, &broker);
    halting.stop_with_twenty(&world, &broker);
    world.delete_queue("default");
    halting.release_twenty();
    let ended = halting.thread.join().unwrap();
    assert!(matches!(ended, Err(BrokerError::QueueGone(_))), "{ended:?}");
}

#[test]
fn deliveries_of_the_second_consumer_are_passed_on_when_it_ends() {
    let (world, broker) = open(Backend::rabbitmq());
    let halting = Halting::open(&world, &broker);
    // Whether one of the consumers or the command is served first is random.
    for _ in 0..10 {
        halting.stop_with_twenty(&world, &broker);
        halting
            .commands
            .send(SubscriptionCommand::Prefetch { more: 0, epoch: 1 })
            .unwrap();
        let accept = halting.release_twenty();
        let give_back = Vec::new();
        let settle = SubscriptionCommand::Settle { accept, give_back };
        halting.commands.send(settle).unwrap();
    }
    drop(halting.commands);
    let ended = halting.thread.join().unwrap();
    assert!(ended.is_ok(), "{ended:?}");
}

#[test]
fn published_messages_are_persistent_and_have_django_carrots_properties() {
    let (world, broker) = open(Backend::rabbitmq());
    let sent = messages(1);
    fill(broker.as_ref(), &queue(&world, 10), &sent);
    let delivery = world.take("default").unwrap();
    assert_eq!(*delivery.properties.delivery_mode(), Some(2));
    let content_type = delivery.properties.content_type().clone();
    assert_eq!(content_type.as_deref(), Some("application/json"));
    let id = delivery.properties.message_id().clone();
    assert_eq!(id, Some(sent[0].key.clone()));
}
