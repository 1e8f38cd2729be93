//! The embedded broker, together with what the outbox does for it: it records each message as a row, and
//! marks the row when the message is confirmed.

use std::sync::Arc;

use carrot_actors::config::QueueConfig;
use carrot_actors::internals::broker::{
    self, Broker, BrokerError, BrokerEvent, BrokerPublisher, Confirmation, SentBatch,
    SubscriptionCommand,
};
use carrot_actors::internals::embedded_queue::EmbeddedQueue;
use carrot_actors::internals::store::{self, NewRow, Session, Store, WorkerProcess};
use carrot_actors::message::Message;
use crossbeam_channel::Receiver;

use crate::support::World;

/// How many messages the outbox records at once.
const PART: usize = 1000;

/// The embedded broker on the world's database, for a registered worker.
pub fn open(world: &World) -> Arc<dyn Broker> {
    let store: Arc<dyn Store> = Arc::from(store::open_for(&world.config()).unwrap());
    let process = WorkerProcess {
        host: "host".to_owned(),
        namespace: "conformance".to_owned(),
        pid: 1,
        process_start: 1,
    };
    let worker = store.connect().unwrap().register(&process).unwrap();
    let queues = EmbeddedQueue::new(Arc::clone(&store), "elsewhere".to_owned());
    queues.are_for(worker);
    let broker = broker::embedded(Arc::new(queues));
    Arc::new(Recording { broker, store })
}

/// Records what is published, and marks it as published.
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
    fn send(&mut self, messages: &[&Message]) -> Result<SentBatch, BrokerError> {
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
        sent: SentBatch,
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
        self.publisher.rows_marked(messages);
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
