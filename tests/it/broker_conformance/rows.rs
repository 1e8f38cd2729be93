//! The embedded broker, with what its publishers' door does beside it: a message is a row.

use std::sync::Arc;

use carrot_actors::config::QueueConfig;
use carrot_actors::internals::broker::{
    self, Broker, BrokerError, BrokerEvent, BrokerPublisher, Confirmation, Sent,
    SubscriptionCommand,
};
use carrot_actors::internals::embedded_queue::EmbeddedQueue;
use carrot_actors::internals::store::{self, NewRow, Session, Store, WorkerProcess};
use carrot_actors::message::Message;
use crossbeam_channel::Receiver;

use crate::support::World;

/// As many as the door records at once.
const PART: usize = 1000;

/// The broker of a worker that is registered.
pub fn open(world: &World) -> Box<dyn Broker> {
    let store: Arc<dyn Store> = Arc::from(store::open_for(&world.config()).unwrap());
    let process = WorkerProcess {
        host: "host".to_owned(),
        namespace: "conformance".to_owned(),
        pid: 1,
        process_start: 1,
    };
    let worker = store.connect().unwrap().register(&process).unwrap();
    let queues = EmbeddedQueue::new(Arc::clone(&store), "elsewhere".to_owned());
    queues.set_owner(worker);
    let broker = broker::embedded(Arc::new(queues));
    Box::new(Recording { broker, store })
}

/// Records what is published, and marks it.
struct Recording {
    broker: Box<dyn Broker>,
    store: Arc<dyn Store>,
}

impl Broker for Recording {
    fn consume(
        &self,
        queue: &QueueConfig,
        epoch: u64,
        commands: &Receiver<SubscriptionCommand>,
        sink: &mut dyn FnMut(BrokerEvent),
    ) -> Result<(), BrokerError> {
        self.broker.consume(queue, epoch, commands, sink)
    }

    fn publisher(&self) -> Result<Box<dyn BrokerPublisher>, BrokerError> {
        Ok(Box::new(RecordingPublisher {
            publisher: self.broker.publisher()?,
            session: self.store.connect().unwrap(),
        }))
    }

    fn describe(&self) -> String {
        self.broker.describe()
    }
}

struct RecordingPublisher {
    publisher: Box<dyn BrokerPublisher>,
    session: Box<dyn Session>,
}

impl BrokerPublisher for RecordingPublisher {
    fn send(&mut self, messages: &[&Message]) -> Result<Sent, BrokerError> {
        for part in messages.chunks(PART) {
            let rows: Vec<NewRow> = part
                .iter()
                .map(|message| NewRow::pending(*message))
                .collect();
            self.session.record(&rows).unwrap();
        }
        self.publisher.send(messages)
    }

    fn confirmations(
        &mut self,
        sent: Sent,
        messages: &[&Message],
    ) -> Result<Vec<Confirmation>, BrokerError> {
        let confirmations = self.publisher.confirmations(sent, messages)?;
        let confirmed = messages.iter().zip(&confirmations);
        let keys: Vec<String> = confirmed
            .filter(|(_, said)| **said == Confirmation::Confirmed)
            .map(|(message, _)| message.key.clone())
            .collect();
        for part in keys.chunks(PART) {
            self.session.mark_published(part).unwrap();
        }
        self.publisher.marked(messages);
        Ok(confirmations)
    }

    fn declare(&mut self, queue: &QueueConfig) -> Result<(), BrokerError> {
        self.publisher.declare(queue)
    }

    fn is_open(&mut self) -> bool {
        self.publisher.is_open()
    }

    fn version(&self) -> String {
        self.publisher.version()
    }
}
