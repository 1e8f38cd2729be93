//! What every broker behind the seam must do. A second one is put through the same suite.

mod connections;
mod consuming;
mod publishing;
mod rows;
mod settling;
mod subscriber;

use std::collections::BTreeMap;

use carrot_actors::config::{ArgumentValue, BrokerHost, QueueConfig};
use carrot_actors::internals::broker::{self, Broker};
use carrot_actors::message::{Arguments, Message};
use serde_json::json;

use self::subscriber::Subscriber;
use crate::support::{Database, World, eventually};

/// A broker on trial.
#[derive(Debug, Clone, Copy)]
pub enum Trial {
    Rabbitmq,
    /// The embedded one, on that database.
    Embedded(Database),
}

impl Trial {
    /// A world for it.
    fn world(self) -> World {
        match self {
            Self::Rabbitmq => World::without_tables(""),
            Self::Embedded(database) => World::embedded_on(database, ""),
        }
    }

    /// Opens it.
    fn open(self, world: &World) -> Box<dyn Broker> {
        match self {
            Self::Rabbitmq => open_rabbitmq(world),
            Self::Embedded(_) => rows::open(world),
        }
    }

    /// Has every subscriber's connection come to an end.
    fn cut(self, world: &World, subscriber: &Subscriber) {
        match self {
            // The management API lists a connection a moment after it was opened.
            Self::Rabbitmq => {
                eventually("the cut", || (world.cut_connections() > 0).then_some(()));
            }
            Self::Embedded(_) => {
                world.execute("ALTER TABLE carrot_messagelog RENAME TO elsewhere");
                subscriber.await_end();
                world.execute("ALTER TABLE elsewhere RENAME TO carrot_messagelog");
            }
        }
    }
}

/// A test for each case, of one broker.
macro_rules! conforms {
    ($broker:ident: $trial:expr; $($case:path as $name:ident),+ $(,)?) => {
        mod $broker {
            $(#[test] fn $name() { $case($trial); })+
        }
    };
}

/// The same of each broker.
macro_rules! all_conform {
    ($($case:path as $name:ident),+ $(,)?) => {
        conforms! { rabbitmq: super::Trial::Rabbitmq; $($case as $name),+ }
        conforms! {
            embedded_postgresql: super::Trial::Embedded(crate::support::Database::Postgresql);
            $($case as $name),+
        }
        #[cfg(feature = "mysql")]
        conforms! {
            embedded_mariadb: super::Trial::Embedded(crate::support::Database::Mariadb);
            $($case as $name),+
        }
        conforms! {
            embedded_sqlite: super::Trial::Embedded(crate::support::Database::Sqlite);
            $($case as $name),+
        }
    };
}

all_conform! {
    super::consuming::delivers_in_order as it_delivers_in_order_with_all_properties,
    super::consuming::respects_the_prefetch as no_more_is_delivered_than_the_prefetch_allows,
    super::consuming::bursts as a_burst_is_delivered_beside_the_prefetch_until_it_is_ended,
    super::consuming::answers_for_depth_last as the_depth_is_told_after_what_was_delivered_before_it,
    super::consuming::tells_what_waits as it_tells_at_the_opening_how_many_messages_wait,
    super::consuming::carries_megabytes as a_body_of_five_megabytes_arrives_as_it_was_sent,
    super::consuming::higher_priorities_first as a_higher_priority_is_delivered_first,
    super::settling::accepts as what_is_accepted_is_gone,
    super::settling::gives_back as what_is_given_back_is_delivered_again,
    super::settling::passes_over_other_epochs as receipts_of_another_epoch_are_passed_over,
    super::settling::cancels as after_a_cancel_nothing_more_comes_and_settling_goes_on,
    super::settling::ends_with_its_sender as dropping_the_sender_ends_it_and_returns_what_is_unsettled,
    super::settling::settles_in_any_order as thousands_settled_in_any_order_leave_nothing_behind,
    super::settling::returns_what_was_cut as what_was_unsettled_when_consuming_broke_off_is_delivered_again,
    super::publishing::confirms_all as five_thousand_messages_are_one_publish_and_all_confirmed,
    super::publishing::tells_the_unroutable as a_message_for_an_unknown_queue_is_unroutable_and_others_are_not,
    super::publishing::declares_again as what_was_declared_may_be_declared_again,
    super::publishing::nothing_is_nothing as publishing_nothing_is_no_error,
}

conforms! {
    rabbitmq_alone: super::Trial::Rabbitmq;
    super::publishing::refuses_the_unfit as an_over_long_routing_key_is_unfit_and_the_connection_lives_on,
    super::publishing::names_what_is_refused as a_declaration_that_is_refused_names_the_queue_and_the_argument,
}

fn open_rabbitmq(world: &World) -> Box<dyn Broker> {
    broker::open(host(world).rabbitmq().unwrap()).unwrap()
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

/// Declares the queue and publishes into it; all must be confirmed.
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
