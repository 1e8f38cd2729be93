//! A subscription on a thread of its own.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use carrot_actors::config::QueueConfig;
use carrot_actors::internals::broker::{
    Broker, BrokerError, BrokerEvent, DeliveryHandle, Envelope, SubscriptionCommand,
};
use crossbeam_channel::{Receiver, Sender, unbounded};

use crate::support::{PATIENCE, eventually};

/// How long a test watches that nothing happens.
const WHILE: Duration = Duration::from_millis(250);

pub struct Subscriber {
    pub commands: Sender<SubscriptionCommand>,
    pub events: Receiver<BrokerEvent>,
    /// How many messages waited when the subscription was opened.
    pub waiting: u32,
    thread: JoinHandle<Result<(), BrokerError>>,
}

impl Subscriber {
    /// Consumes the queue; returns once the subscription is open.
    #[track_caller]
    pub fn open(broker: &Arc<dyn Broker>, queue: &QueueConfig, epoch: u64) -> Self {
        let (commands, orders) = unbounded();
        let (sink, events) = unbounded();
        let (broker, queue) = (Arc::clone(broker), queue.clone());
        let thread = std::thread::spawn(move || {
            broker.consume(&queue, epoch, &orders, &mut |event| {
                sink.send(event).unwrap_or_default();
            })
        });
        let BrokerEvent::Opened { waiting } = events.recv_timeout(PATIENCE).unwrap() else {
            panic!("the first event is not the opening");
        };
        Self {
            commands,
            events,
            waiting,
            thread,
        }
    }

    #[track_caller]
    pub fn next(&self) -> BrokerEvent {
        self.events.recv_timeout(PATIENCE).unwrap()
    }

    /// The next `count` deliveries. Fails if their last batch holds more.
    #[track_caller]
    pub fn receive(&self, count: usize) -> Vec<Envelope> {
        let mut received = Vec::new();
        while received.len() < count {
            match self.next() {
                BrokerEvent::Delivered(batch) => received.extend(batch),
                other => panic!("{other:?} after {} deliveries", received.len()),
            }
        }
        assert_eq!(received.len(), count);
        received
    }

    /// Fails if another event comes.
    #[track_caller]
    pub fn assert_silent(&self) {
        let event = self.events.recv_timeout(WHILE);
        assert!(event.is_err(), "{event:?}");
    }

    pub fn accept(&self, accept: Vec<DeliveryHandle>) {
        let give_back = Vec::new();
        let settle = SubscriptionCommand::Settle { accept, give_back };
        self.commands.send(settle).unwrap();
    }

    pub fn give_back(&self, give_back: Vec<DeliveryHandle>) {
        let accept = Vec::new();
        let settle = SubscriptionCommand::Settle { accept, give_back };
        self.commands.send(settle).unwrap();
    }

    /// Drops the sender, which ends the subscription: its result, and the events that nobody has read.
    #[track_caller]
    pub fn close(self) -> Result<Vec<BrokerEvent>, BrokerError> {
        drop(self.commands);
        self.thread.join().unwrap()?;
        Ok(self.events.try_iter().collect())
    }

    /// Waits until the subscription ends by itself.
    #[track_caller]
    pub fn end(self) -> Result<(), BrokerError> {
        self.await_end();
        self.thread.join().unwrap()
    }

    #[track_caller]
    pub fn await_end(&self) {
        eventually("the subscription ends", || self.thread.is_finished());
    }
}

pub fn receipts(deliveries: &[Envelope]) -> Vec<DeliveryHandle> {
    deliveries.iter().map(|delivery| delivery.handle).collect()
}

/// How many messages the queue holds once nobody consumes it.
#[track_caller]
pub fn left(broker: &Arc<dyn Broker>, queue: &QueueConfig) -> u32 {
    // With one message at most, so that the look itself takes few messages.
    let queue = QueueConfig {
        concurrency: 1,
        prefetch_factor: Some(1),
        ..queue.clone()
    };
    let subscriber = Subscriber::open(broker, &queue, 99);
    let waiting = subscriber.waiting;
    subscriber.close().unwrap();
    waiting
}

/// Waits until the queue holds `count` messages: a broker may take a moment to return them to the queue.
#[track_caller]
pub fn await_left(broker: &Arc<dyn Broker>, queue: &QueueConfig, count: u32) {
    eventually(&format!("{count} messages are left in the queue"), || {
        left(broker, queue) == count
    });
}
