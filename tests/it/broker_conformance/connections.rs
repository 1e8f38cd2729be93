//! What only a broker at the end of a connection must do.

use std::sync::Arc;
use std::thread::JoinHandle;

use carrot_actors::config::{BrokerUrl, QueueConfig};
use carrot_actors::internals::broker::{
    Broker, BrokerError, BrokerEvent, DeliveryHandle, Envelope, SubscriptionCommand,
};
use crossbeam_channel::{Receiver, Sender, unbounded};

use super::subscriber::{Subscriber, await_left};
use super::{fill, messages, open_rabbitmq, queue};
use crate::support::{PATIENCE, World, eventually};

#[test]
fn a_connection_that_is_cut_ends_consuming_and_returns_what_was_unsettled() {
    let world = World::without_tables("");
    let broker: Arc<dyn Broker> = Arc::from(open_rabbitmq(&world));
    let queue = queue(&world, 10);
    fill(broker.as_ref(), &queue, &messages(3));
    let subscriber = Subscriber::open(&broker, &queue, 1);
    subscriber.receive(3);
    // The management API lists a connection a moment after it was opened.
    eventually("the cut", || (world.cut_connections() > 0).then_some(()));
    let ended = subscriber.end();
    assert!(matches!(ended, Err(BrokerError::Away(_))), "{ended:?}");
    await_left(&broker, &queue, 3);
}

#[test]
fn a_connection_that_is_cut_ends_publishing_and_a_new_one_publishes() {
    let world = World::without_tables("");
    let broker: Arc<dyn Broker> = Arc::from(open_rabbitmq(&world));
    let queue = queue(&world, 10);
    let mut publisher = broker.publisher().unwrap();
    publisher.declare(&queue).unwrap();
    eventually("the cut", || (world.cut_connections() > 0).then_some(()));
    // The connection may take a message yet before it has heard.
    let mut taken = 0;
    let ended = eventually("the end of the publisher", || {
        let published = publisher.publish(&[&messages(1)[0]]);
        taken += u32::from(published.is_ok());
        published.err()
    });
    assert!(matches!(ended, BrokerError::Away(_)), "{ended:?}");
    let ended = publisher.declare(&queue);
    assert!(ended.is_err(), "a publisher that erred is of no more use");
    fill(broker.as_ref(), &queue, &messages(1));
    await_left(&broker, &queue, taken + 1);
}

#[test]
fn a_broker_that_is_not_there_is_away() {
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
    let world = World::without_tables("");
    let broker: Arc<dyn Broker> = Arc::from(open_rabbitmq(&world));
    let queue = queue(&world, 10);
    let subscriber = Subscriber::open(&broker, &queue, 1);
    let path = format!("/api/queues/{}/default", world.name);
    World::rabbitmq_api("DELETE", &path, None);
    let ended = subscriber.end();
    assert!(matches!(ended, Err(BrokerError::QueueGone(_))), "{ended:?}");
}

/// A subscription that stands still at each answer to [`SubscriptionCommand::Depth`], until it is let go.
struct Halting {
    queue: QueueConfig,
    commands: Sender<SubscriptionCommand>,
    stands: Receiver<()>,
    let_go: Sender<()>,
    delivered: Receiver<Vec<Envelope>>,
    thread: JoinHandle<Result<(), BrokerError>>,
}

impl Halting {
    fn open(world: &World, broker: &Arc<dyn Broker>) -> Self {
        let queue = queue(world, 10);
        let (commands, orders) = unbounded();
        let (halts, stands) = unbounded();
        let (let_go, gate) = unbounded();
        let (deliveries, delivered) = unbounded();
        let consuming = (Arc::clone(broker), queue.clone());
        let thread = std::thread::spawn(move || {
            let (broker, queue) = consuming;
            broker.consume(&queue, 1, &orders, &mut |event| match event {
                BrokerEvent::Delivered(batch) => deliveries.send(batch).unwrap_or_default(),
                BrokerEvent::Depth(_) => {
                    halts.send(()).unwrap_or_default();
                    gate.recv().unwrap_or_default();
                }
                _ => {}
            })
        });
        Self {
            queue,
            commands,
            stands,
            let_go,
            delivered,
            thread,
        }
    }

    /// Makes it stand with ten messages for each of two consumers, none handed on.
    #[track_caller]
    fn stand_with_twenty(&self, world: &World, broker: &Arc<dyn Broker>) {
        self.commands
            .send(SubscriptionCommand::Prefetch { more: 10, epoch: 1 })
            .unwrap();
        self.commands.send(SubscriptionCommand::Depth).unwrap();
        self.stands.recv_timeout(PATIENCE).unwrap();
        fill(broker.as_ref(), &self.queue, &messages(20));
        eventually("all are delivered", || {
            (world.ready("default") == 0).then_some(())
        });
    }

    /// Lets it go on, and waits until they are handed on.
    #[track_caller]
    fn let_go_of_twenty(&self) -> Vec<DeliveryHandle> {
        self.let_go.send(()).unwrap();
        let mut receipts = Vec::new();
        while receipts.len() < 20 {
            let batch = self.delivered.recv_timeout(PATIENCE).unwrap();
            receipts.extend(batch.iter().map(|delivery| delivery.handle));
        }
        receipts
    }
}

#[test]
fn what_a_deleted_queue_had_delivered_is_handed_on_before_consuming_ends() {
    let world = World::without_tables("");
    let broker: Arc<dyn Broker> = Arc::from(open_rabbitmq(&world));
    let halting = Halting::open(&world, &broker);
    halting.stand_with_twenty(&world, &broker);
    let path = format!("/api/queues/{}/default", world.name);
    World::rabbitmq_api("DELETE", &path, None);
    halting.let_go_of_twenty();
    let ended = halting.thread.join().unwrap();
    assert!(matches!(ended, Err(BrokerError::QueueGone(_))), "{ended:?}");
}

#[test]
fn what_the_second_consumer_had_been_delivered_is_handed_on_when_it_ends() {
    let world = World::without_tables("");
    let broker: Arc<dyn Broker> = Arc::from(open_rabbitmq(&world));
    let halting = Halting::open(&world, &broker);
    // Which of the consumers comes first, or the command, is chance.
    for _ in 0..10 {
        halting.stand_with_twenty(&world, &broker);
        halting
            .commands
            .send(SubscriptionCommand::Prefetch { more: 0, epoch: 1 })
            .unwrap();
        let accept = halting.let_go_of_twenty();
        let give_back = Vec::new();
        let settle = SubscriptionCommand::Settle { accept, give_back };
        halting.commands.send(settle).unwrap();
    }
    drop(halting.commands);
    let ended = halting.thread.join().unwrap();
    assert!(ended.is_ok(), "{ended:?}");
}

#[test]
fn what_is_published_survives_the_broker_and_reads_as_django_carrots() {
    let world = World::without_tables("");
    let broker = open_rabbitmq(&world);
    let sent = messages(1);
    fill(broker.as_ref(), &queue(&world, 10), &sent);
    let delivery = world.take("default").unwrap();
    assert_eq!(*delivery.properties.delivery_mode(), Some(2));
    let content_type = delivery.properties.content_type().clone();
    assert_eq!(content_type.as_deref(), Some("application/json"));
    let id = delivery.properties.message_id().clone();
    assert_eq!(id, Some(sent[0].key.clone()));
}
