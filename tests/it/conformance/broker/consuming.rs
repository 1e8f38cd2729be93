//! Which messages are delivered, and in which order.

use carrot_actors::internals::broker::{BrokerEvent, SubscriptionCommand};
use carrot_actors::internals::wire;
use carrot_actors::message::Message;
use serde_json::json;

use super::subscriber::{Subscriber, await_left, receipts};
use super::{fill, messages, open, queue};
use crate::support::{Backend, cases};

cases! { on every_broker:
    it_delivers_in_order_with_all_properties,
    no_more_is_delivered_than_the_prefetch_allows,
    a_burst_is_delivered_in_addition_to_the_prefetch_until_it_ends,
    the_depth_is_reported_after_all_earlier_deliveries,
    the_first_event_says_how_many_messages_wait,
    a_body_of_five_megabytes_arrives_as_it_was_sent,
    a_higher_priority_is_delivered_first,
}

const PUBLISHED: usize = 2500;

fn it_delivers_in_order_with_all_properties(backend: Backend) {
    let (world, broker) = open(backend);
    let queue = queue(&world, 5000);
    let sent = messages(PUBLISHED);
    fill(broker.as_ref(), &queue, &sent);
    let subscriber = Subscriber::open(&broker, &queue, 7);
    let received = subscriber.receive(PUBLISHED);
    for (delivery, message) in received.iter().zip(&sent) {
        assert_eq!(delivery.key, message.key);
        assert!(delivery.publisher_writes_row);
        assert_eq!(delivery.task.as_deref(), Some("count"));
        assert_eq!((delivery.priority, delivery.exchange.as_str()), (0, ""));
        assert_eq!(delivery.routing_key, "default");
        assert_eq!(delivery.body.arguments(), Ok(&message.arguments));
        assert_eq!(delivery.handle.epoch, 7);
    }
    subscriber.accept(receipts(&received));
    subscriber.close().unwrap();
    await_left(&broker, &queue, 0);
}

fn no_more_is_delivered_than_the_prefetch_allows(backend: Backend) {
    let (world, broker) = open(backend);
    let mut queue = queue(&world, 3);
    queue.concurrency = 2;
    fill(broker.as_ref(), &queue, &messages(20));
    let subscriber = Subscriber::open(&broker, &queue, 1);
    let first = subscriber.receive(6);
    subscriber.assert_silent();
    subscriber.accept(receipts(&first[..2]));
    subscriber.receive(2);
    subscriber.assert_silent();
    subscriber.close().unwrap();
    await_left(&broker, &queue, 18);
}

fn a_burst_is_delivered_in_addition_to_the_prefetch_until_it_ends(backend: Backend) {
    let (world, broker) = open(backend);
    let queue = queue(&world, 2);
    fill(broker.as_ref(), &queue, &messages(100));
    let subscriber = Subscriber::open(&broker, &queue, 1);
    let mut held = receipts(&subscriber.receive(2));
    subscriber
        .commands
        .send(SubscriptionCommand::Prefetch { more: 30, epoch: 1 })
        .unwrap();
    held.extend(receipts(&subscriber.receive(30)));
    subscriber.assert_silent();
    // In any order, each settled message makes room for one more.
    held.sort_unstable_by_key(|receipt| receipt.tag);
    let settled: Vec<_> = held.drain(..20).rev().collect();
    subscriber.accept(settled);
    held.extend(receipts(&subscriber.receive(20)));
    subscriber.assert_silent();
    subscriber
        .commands
        .send(SubscriptionCommand::Prefetch { more: 0, epoch: 1 })
        .unwrap();
    subscriber.accept(std::mem::take(&mut held));
    let rest = subscriber.receive(2);
    subscriber.assert_silent();
    subscriber
        .commands
        .send(SubscriptionCommand::Prefetch { more: 10, epoch: 1 })
        .unwrap();
    subscriber.receive(10);
    subscriber.accept(receipts(&rest));
    subscriber.receive(2);
    subscriber.close().unwrap();
    await_left(&broker, &queue, 46);
}

fn the_depth_is_reported_after_all_earlier_deliveries(backend: Backend) {
    const MESSAGES: usize = 100;
    let (world, broker) = open(backend);
    let queue = queue(&world, 7);
    fill(broker.as_ref(), &queue, &messages(MESSAGES));
    let subscriber = Subscriber::open(&broker, &queue, 1);
    subscriber
        .commands
        .send(SubscriptionCommand::Depth)
        .unwrap();
    let mut delivered = 0;
    loop {
        match subscriber.next() {
            BrokerEvent::Delivered(batch) => {
                delivered += batch.len();
                subscriber.accept(receipts(&batch));
                subscriber
                    .commands
                    .send(SubscriptionCommand::Depth)
                    .unwrap();
            }
            BrokerEvent::Depth(ready) => {
                let known = delivered + ready as usize;
                assert!(known >= MESSAGES, "{ready} ready, {delivered} delivered");
                if ready == 0 && delivered == MESSAGES {
                    break;
                }
            }
            other => panic!("{other:?}"),
        }
    }
    subscriber.close().unwrap();
    await_left(&broker, &queue, 0);
}

fn the_first_event_says_how_many_messages_wait(backend: Backend) {
    let (world, broker) = open(backend);
    let queue = queue(&world, 10);
    let first = Subscriber::open(&broker, &queue, 1);
    assert_eq!(first.waiting, 0, "a queue that it had to declare");
    first.close().unwrap();
    fill(broker.as_ref(), &queue, &messages(4));
    await_left(&broker, &queue, 4);
}

fn a_body_of_five_megabytes_arrives_as_it_was_sent(backend: Backend) {
    let (world, broker) = open(backend);
    let queue = queue(&world, 10);
    let mut large = messages(1);
    large[0].arguments.args = vec![json!("ü€\0\"\\ ".repeat(500_000)).into()];
    let body = wire::encode(&large[0].arguments);
    assert!(body.len() > 5_000_000);
    fill(broker.as_ref(), &queue, &large);
    let subscriber = Subscriber::open(&broker, &queue, 1);
    assert!(
        subscriber.receive(1)[0].body.arguments() == Ok(&large[0].arguments),
        "the body has changed"
    );
    subscriber.close().unwrap();
    await_left(&broker, &queue, 1);
}

fn a_higher_priority_is_delivered_first(backend: Backend) {
    let (world, broker) = open(backend);
    let queue = queue(&world, 10);
    let priorities = [0, 255, 3, 100];
    let message = |(message, priority): (Message, u8)| Message {
        priority,
        ..message
    };
    let sent: Vec<_> = messages(4)
        .into_iter()
        .zip(priorities)
        .map(message)
        .collect();
    fill(broker.as_ref(), &queue, &sent);
    let subscriber = Subscriber::open(&broker, &queue, 1);
    let received = subscriber.receive(4);
    let order: Vec<u8> = received.iter().map(|delivery| delivery.priority).collect();
    assert_eq!(order, [255, 100, 3, 0]);
    subscriber.close().unwrap();
}
