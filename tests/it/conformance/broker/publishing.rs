//! Declaring and publishing.

use std::collections::BTreeMap;

use carrot_actors::config::{ArgumentValue, QueueConfig};
use carrot_actors::internals::broker::{BrokerError, Confirmation};
use carrot_actors::message::Message;
use crossbeam_channel::unbounded;

use super::subscriber::await_left;
use super::{fill, messages, open, queue};
use crate::support::{Backend, cases};

cases! { on every_broker:
    five_thousand_messages_are_published_in_one_call_and_all_confirmed,
    a_message_for_an_unknown_queue_is_unroutable_and_others_are_not,
    a_queue_can_be_declared_again,
    publishing_nothing_is_no_error,
}

cases! { on rabbitmq:
    a_routing_key_that_is_too_long_is_unfit_and_the_connection_stays_open,
    a_declaration_that_is_refused_names_the_queue_and_the_argument,
}

fn five_thousand_messages_are_published_in_one_call_and_all_confirmed(backend: Backend) {
    let (world, broker) = open(backend);
    let queue = queue(&world, 10);
    fill(broker.as_ref(), &queue, &messages(5000));
    await_left(&broker, &queue, 5000);
}

fn a_message_for_an_unknown_queue_is_unroutable_and_others_are_not(backend: Backend) {
    let (world, broker) = open(backend);
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
    await_left(&broker, &queue(&world, 10), 2000);
}

fn a_routing_key_that_is_too_long_is_unfit_and_the_connection_stays_open(backend: Backend) {
    let (world, broker) = open(backend);
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

fn a_queue_can_be_declared_again(backend: Backend) {
    let (world, broker) = open(backend);
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

fn publishing_nothing_is_no_error(backend: Backend) {
    let (_world, broker) = open(backend);
    let mut publisher = broker.publisher().unwrap();
    assert_eq!(publisher.publish(&[]).unwrap(), []);
}

fn a_declaration_that_is_refused_names_the_queue_and_the_argument(backend: Backend) {
    let (world, broker) = open(backend);
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
