//! Declaring and publishing.

use std::collections::BTreeMap;
use std::sync::Arc;

use carrot_actors::config::{ArgumentValue, QueueConfig};
use carrot_actors::internals::broker::{Broker, BrokerError, Confirmation};
use carrot_actors::message::Message;
use crossbeam_channel::unbounded;

use super::subscriber::await_left;
use super::{Trial, fill, messages, queue};

pub fn confirms_all(trial: Trial) {
    let world = trial.world();
    let broker: Arc<dyn Broker> = Arc::from(trial.open(&world));
    let queue = queue(&world, 10);
    fill(broker.as_ref(), &queue, &messages(5000));
    await_left(&broker, &queue, 5000);
}

pub fn tells_the_unroutable(trial: Trial) {
    let world = trial.world();
    let broker = trial.open(&world);
    let mut publisher = broker.publisher().unwrap();
    publisher.declare(&queue(&world, 10)).unwrap();
    let mut sent = messages(3000);
    for lost in sent.iter_mut().step_by(3) {
        lost.routing_key = "unknown".to_owned();
    }
    let references: Vec<&Message> = sent.iter().collect();
    let confirmations = publisher.publish(&references).unwrap();
    assert_eq!(confirmations.len(), sent.len());
    for (message, confirmation) in sent.iter().zip(confirmations) {
        let expected = if message.routing_key == "unknown" {
            Confirmation::Unroutable
        } else {
            Confirmation::Confirmed
        };
        assert_eq!(confirmation, expected);
    }
    await_left(&Arc::from(broker), &queue(&world, 10), 2000);
}

pub fn refuses_the_unfit(trial: Trial) {
    let world = trial.world();
    let broker: Arc<dyn Broker> = Arc::from(trial.open(&world));
    let queue = queue(&world, 10);
    let mut publisher = broker.publisher().unwrap();
    publisher.declare(&queue).unwrap();
    let mut sent = messages(5);
    sent[0].routing_key = "x".repeat(256);
    sent[2].routing_key = "é".repeat(128);
    sent[3].routing_key = "x".repeat(255);
    let references: Vec<&Message> = sent.iter().collect();
    let confirmations = publisher.publish(&references).unwrap();
    for nth in [0, 2] {
        let Confirmation::Unfit(reason) = &confirmations[nth] else {
            panic!("{:?}", confirmations[nth]);
        };
        assert!(
            reason.contains("routing key") && reason.contains("255"),
            "{reason}"
        );
    }
    let rest = [&confirmations[1], &confirmations[3], &confirmations[4]];
    use Confirmation::{Confirmed, Unroutable};
    assert_eq!(rest, [&Confirmed, &Unroutable, &Confirmed]);
    let again = publisher.publish(&[&sent[4]]).unwrap();
    assert_eq!(again, [Confirmed], "the connection lives on");
    await_left(&broker, &queue, 3);
}

pub fn declares_again(trial: Trial) {
    let world = trial.world();
    let broker: Arc<dyn Broker> = Arc::from(trial.open(&world));
    let queue = queue(&world, 10);
    let mut publisher = broker.publisher().unwrap();
    publisher.declare(&queue).unwrap();
    assert_eq!(
        publisher.publish(&[&messages(1)[0]]).unwrap(),
        [Confirmation::Confirmed]
    );
    publisher.declare(&queue).unwrap();
    assert_eq!(
        publisher.publish(&[&messages(1)[0]]).unwrap(),
        [Confirmation::Confirmed]
    );
    fill(broker.as_ref(), &queue, &messages(1));
    await_left(&broker, &queue, 3);
    assert!(
        !publisher.version().contains('?'),
        "{}",
        publisher.version()
    );
    assert!(!broker.describe().contains("guest:guest"));
}

pub fn nothing_is_nothing(trial: Trial) {
    let world = trial.world();
    let mut publisher = trial.open(&world).publisher().unwrap();
    assert_eq!(publisher.publish(&[]).unwrap(), []);
}

pub fn names_what_is_refused(trial: Trial) {
    let world = trial.world();
    let broker = trial.open(&world);
    fill(broker.as_ref(), &queue(&world, 10), &messages(1));
    let other = QueueConfig {
        queue_arguments: BTreeMap::from([("x-max-priority".to_owned(), ArgumentValue::Integer(9))]),
        ..queue(&world, 10)
    };
    let (_commands, orders) = unbounded();
    let consumed = broker.consume(&other, 1, &orders, &mut |event| panic!("{event:?}"));
    let declared = broker.publisher().unwrap().declare(&other);
    for result in [consumed, declared] {
        let Err(BrokerError::Refused(reason)) = result else {
            panic!("{result:?}");
        };
        assert!(reason.contains("\"default\""), "{reason}");
        assert!(reason.contains("x-max-priority"), "{reason}");
        assert!(reason.contains("406"), "{reason}");
    }
}
