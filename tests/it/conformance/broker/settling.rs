//! Accepting, giving back, and the end of a subscription.

use carrot_actors::internals::broker::{
    BrokerEvent, DeliveryHandle, Envelope, SubscriptionCommand,
};
use std::collections::HashSet;

use super::subscriber::{Subscriber, await_left, receipts};
use super::{cut, fill, messages, open, queue};
use crate::support::{Backend, cases};

cases! { on every_broker:
    an_accepted_message_is_gone,
    a_returned_message_is_delivered_again,
    delivery_handles_of_another_epoch_are_ignored,
    after_a_cancel_nothing_more_is_delivered_and_settling_still_works,
    dropping_the_sender_ends_consuming_and_returns_unsettled_messages,
    thousands_of_messages_settled_in_any_order_leave_nothing_in_the_queue,
    messages_that_were_unsettled_when_consuming_broke_off_are_delivered_again,
}

fn keys<'a>(deliveries: impl IntoIterator<Item = &'a Envelope>) -> HashSet<&'a str> {
    let deliveries = deliveries.into_iter();
    deliveries.map(|delivery| delivery.key.as_str()).collect()
}

fn an_accepted_message_is_gone(backend: Backend) {
    let (world, broker) = open(backend);
    let queue = queue(&world, 10);
    fill(broker.as_ref(), &queue, &messages(5));
    let subscriber = Subscriber::open(&broker, &queue, 1);
    let received = subscriber.receive(5);
    subscriber.accept(vec![received[3].handle, received[1].handle]);
    // Accepting a message twice is the same as once.
    subscriber.accept(vec![received[1].handle]);
    subscriber.close().unwrap();
    await_left(&broker, &queue, 3);
    let again = Subscriber::open(&broker, &queue, 2);
    let left = [&received[0], &received[2], &received[4]];
    assert_eq!(keys(&again.receive(3)), keys(left));
    again.close().unwrap();
}

fn a_returned_message_is_delivered_again(backend: Backend) {
    let (world, broker) = open(backend);
    let queue = queue(&world, 10);
    fill(broker.as_ref(), &queue, &messages(3));
    let subscriber = Subscriber::open(&broker, &queue, 1);
    let received = subscriber.receive(3);
    subscriber.give_back(vec![received[1].handle]);
    let again = subscriber.receive(1);
    assert_eq!(again[0].key, received[1].key);
    assert_ne!(again[0].handle, received[1].handle);
    assert_eq!(again[0].body.arguments(), received[1].body.arguments());
    subscriber.accept(receipts(&again));
    subscriber.accept(vec![received[0].handle, received[2].handle]);
    subscriber.close().unwrap();
    await_left(&broker, &queue, 0);
}

fn delivery_handles_of_another_epoch_are_ignored(backend: Backend) {
    let (world, broker) = open(backend);
    let queue = queue(&world, 10);
    fill(broker.as_ref(), &queue, &messages(3));
    let subscriber = Subscriber::open(&broker, &queue, 2);
    let received = subscriber.receive(3);
    let earlier: Vec<DeliveryHandle> = received
        .iter()
        .map(|delivery| DeliveryHandle {
            epoch: 1,
            ..delivery.handle
        })
        .collect();
    subscriber.accept(earlier.clone());
    subscriber.give_back(earlier);
    subscriber.assert_silent();
    subscriber.accept(vec![received[0].handle]);
    subscriber.close().unwrap();
    await_left(&broker, &queue, 2);
}

fn after_a_cancel_nothing_more_is_delivered_and_settling_still_works(backend: Backend) {
    let (world, broker) = open(backend);
    let queue = queue(&world, 4);
    fill(broker.as_ref(), &queue, &messages(10));
    let subscriber = Subscriber::open(&broker, &queue, 1);
    let received = subscriber.receive(4);
    // More may be delivered now, before or after the cancel.
    subscriber.accept(receipts(&received[..1]));
    subscriber
        .commands
        .send(SubscriptionCommand::Cancel)
        .unwrap();
    let mut late = Vec::new();
    loop {
        match subscriber.next() {
            BrokerEvent::Delivered(batch) => late.extend(batch),
            BrokerEvent::Cancelled => break,
            other => panic!("{other:?}"),
        }
    }
    fill(broker.as_ref(), &queue, &messages(1));
    subscriber.give_back(receipts(&received[1..3]));
    subscriber.accept(receipts(&received[3..]));
    subscriber.accept(receipts(&late));
    subscriber
        .commands
        .send(SubscriptionCommand::Depth)
        .unwrap();
    assert!(matches!(subscriber.next(), BrokerEvent::Depth(_)));
    subscriber.assert_silent();
    assert!(subscriber.close().unwrap().is_empty());
    let accepted = 2 + u32::try_from(late.len()).unwrap();
    await_left(&broker, &queue, 11 - accepted);
}

fn dropping_the_sender_ends_consuming_and_returns_unsettled_messages(backend: Backend) {
    let (world, broker) = open(backend);
    let queue = queue(&world, 1000);
    fill(broker.as_ref(), &queue, &messages(1500));
    for epoch in 1..=5 {
        // It is closed while deliveries are under way.
        let subscriber = Subscriber::open(&broker, &queue, epoch);
        assert_eq!(subscriber.waiting, 1500);
        subscriber.close().unwrap();
        await_left(&broker, &queue, 1500);
    }
    let subscriber = Subscriber::open(&broker, &queue, 6);
    let received = subscriber.receive(1000);
    // What is accepted before the end is settled before the end.
    subscriber.accept(receipts(&received[..10]));
    subscriber.close().unwrap();
    await_left(&broker, &queue, 1490);
}

fn messages_that_were_unsettled_when_consuming_broke_off_are_delivered_again(backend: Backend) {
    let (world, broker) = open(backend);
    let queue = queue(&world, 10);
    fill(broker.as_ref(), &queue, &messages(3));
    let subscriber = Subscriber::open(&broker, &queue, 1);
    let received = subscriber.receive(3);
    cut(backend, &world, &subscriber);
    let ended = subscriber.end();
    assert!(ended.is_err(), "{ended:?}");
    await_left(&broker, &queue, 3);
    let again = Subscriber::open(&broker, &queue, 2);
    assert_eq!(keys(&again.receive(3)), keys(&received));
    again.close().unwrap();
}

fn thousands_of_messages_settled_in_any_order_leave_nothing_in_the_queue(backend: Backend) {
    const MESSAGES: usize = 4000;
    let (world, broker) = open(backend);
    let queue = queue(&world, 5000);
    fill(broker.as_ref(), &queue, &messages(MESSAGES));
    let subscriber = Subscriber::open(&broker, &queue, 1);
    let mut random = fastrand::Rng::with_seed(4);
    let mut outstanding = receipts(&subscriber.receive(MESSAGES));
    random.shuffle(&mut outstanding);
    let mut settled = 0;
    while settled < MESSAGES {
        let take = random.usize(1..=outstanding.len().min(300));
        let part: Vec<DeliveryHandle> = outstanding.drain(..take).collect();
        if random.u8(0..4) == 0 {
            subscriber.give_back(part);
            outstanding.extend(receipts(&subscriber.receive(take)));
            random.shuffle(&mut outstanding);
        } else {
            settled += take;
            subscriber.accept(part);
        }
    }
    subscriber.close().unwrap();
    await_left(&broker, &queue, 0);
}
