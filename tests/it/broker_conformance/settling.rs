//! Accepting, giving back, and the end of a subscription.

use std::collections::HashSet;
use std::sync::Arc;

use carrot_actors::internals::broker::{
    Broker, BrokerEvent, DeliveryHandle, Envelope, SubscriptionCommand,
};

use super::subscriber::{Subscriber, await_left, receipts};
use super::{Trial, fill, messages, queue};

fn keys<'a>(deliveries: impl IntoIterator<Item = &'a Envelope>) -> HashSet<&'a str> {
    let deliveries = deliveries.into_iter();
    deliveries.map(|delivery| delivery.key.as_str()).collect()
}

pub fn accepts(trial: Trial) {
    let world = trial.world();
    let broker: Arc<dyn Broker> = Arc::from(trial.open(&world));
    let queue = queue(&world, 10);
    fill(broker.as_ref(), &queue, &messages(5));
    let subscriber = Subscriber::open(&broker, &queue, 1);
    let received = subscriber.receive(5);
    subscriber.accept(vec![received[3].handle, received[1].handle]);
    // Twice is once.
    subscriber.accept(vec![received[1].handle]);
    subscriber.close().unwrap();
    await_left(&broker, &queue, 3);
    let again = Subscriber::open(&broker, &queue, 2);
    let left = [&received[0], &received[2], &received[4]];
    assert_eq!(keys(&again.receive(3)), keys(left));
    again.close().unwrap();
}

pub fn gives_back(trial: Trial) {
    let world = trial.world();
    let broker: Arc<dyn Broker> = Arc::from(trial.open(&world));
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

pub fn passes_over_other_epochs(trial: Trial) {
    let world = trial.world();
    let broker: Arc<dyn Broker> = Arc::from(trial.open(&world));
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
    subscriber.is_silent();
    subscriber.accept(vec![received[0].handle]);
    subscriber.close().unwrap();
    await_left(&broker, &queue, 2);
}

pub fn cancels(trial: Trial) {
    let world = trial.world();
    let broker: Arc<dyn Broker> = Arc::from(trial.open(&world));
    let queue = queue(&world, 4);
    fill(broker.as_ref(), &queue, &messages(10));
    let subscriber = Subscriber::open(&broker, &queue, 1);
    let received = subscriber.receive(4);
    // Room for three more: they may have come, and be handed on or not, when it is cancelled.
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
    subscriber.is_silent();
    assert!(subscriber.close().unwrap().is_empty());
    let accepted = 2 + u32::try_from(late.len()).unwrap();
    await_left(&broker, &queue, 11 - accepted);
}

pub fn ends_with_its_sender(trial: Trial) {
    let world = trial.world();
    let broker: Arc<dyn Broker> = Arc::from(trial.open(&world));
    let queue = queue(&world, 1000);
    fill(broker.as_ref(), &queue, &messages(1500));
    for epoch in 1..=5 {
        // While deliveries are under way.
        let subscriber = Subscriber::open(&broker, &queue, epoch);
        assert_eq!(subscriber.waiting, 1500);
        subscriber.close().unwrap();
        await_left(&broker, &queue, 1500);
    }
    let subscriber = Subscriber::open(&broker, &queue, 6);
    let received = subscriber.receive(1000);
    // Told before the end, done before the end.
    subscriber.accept(receipts(&received[..10]));
    subscriber.close().unwrap();
    await_left(&broker, &queue, 1490);
}

pub fn returns_what_was_cut(trial: Trial) {
    let world = trial.world();
    let broker: Arc<dyn Broker> = Arc::from(trial.open(&world));
    let queue = queue(&world, 10);
    fill(broker.as_ref(), &queue, &messages(3));
    let subscriber = Subscriber::open(&broker, &queue, 1);
    let received = subscriber.receive(3);
    trial.cut(&world, &subscriber);
    let ended = subscriber.end();
    assert!(ended.is_err(), "{ended:?}");
    await_left(&broker, &queue, 3);
    let again = Subscriber::open(&broker, &queue, 2);
    assert_eq!(keys(&again.receive(3)), keys(&received));
    again.close().unwrap();
}

pub fn settles_in_any_order(trial: Trial) {
    const MESSAGES: usize = 4000;
    let world = trial.world();
    let broker: Arc<dyn Broker> = Arc::from(trial.open(&world));
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
