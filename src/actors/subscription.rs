//! The thread that holds a queue's channel: consumes, and connects again for as long as it takes.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use actix::prelude::*;
use crossbeam_channel::{Receiver, RecvTimeoutError};

use super::consumer_set::ConsumerSetActor;
use crate::broker::{Broker, BrokerError, Command, Event};
use crate::config::QueueConfig;
use crate::outage::Outage;
use crate::retry::Backoff;

/// What the thread tells its set.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub(super) enum Subscribed {
    /// The broker's events.
    Event(Event),
    /// The connection of this epoch ended: the broker has back what was not settled on it.
    Lost { epoch: u64, error: BrokerError },
    /// It ended as it was told to.
    Closed,
}

/// Starts the thread; it ends when the sender of `commands` is dropped.
pub(super) fn start(
    queue: QueueConfig,
    broker: Arc<dyn Broker>,
    commands: Receiver<Command>,
    set: Addr<ConsumerSetActor>,
) -> io::Result<()> {
    let subscription = Subscription {
        outage: Outage::of(format!("queue {:?} on {}", queue.name, broker.describe())),
        queue,
        broker,
        commands,
        set,
        cancelled: false,
        refusal: None,
    };
    thread::Builder::new()
        .name(format!("{}-subscription", subscription.queue.name))
        .spawn(move || subscription.run())
        .map(drop)
}

struct Subscription {
    queue: QueueConfig,
    broker: Arc<dyn Broker>,
    commands: Receiver<Command>,
    set: Addr<ConsumerSetActor>,
    cancelled: bool,
    outage: Outage,
    /// What the broker refused last; said once.
    refusal: Option<String>,
}

impl Subscription {
    fn run(mut self) {
        let mut backoff = Backoff::for_connections();
        for epoch in 1.. {
            let served = catch_unwind(AssertUnwindSafe(|| self.consume(epoch, &mut backoff)))
                .unwrap_or_else(|_| Err(BrokerError::Away("its client panicked".to_owned())));
            let Err(error) = served else { break };
            self.say(&error);
            self.set.do_send(Subscribed::Lost { epoch, error });
            if !self.pause(backoff.next_wait()) {
                break;
            }
        }
        self.set.do_send(Subscribed::Closed);
    }

    fn consume(&mut self, epoch: u64, backoff: &mut Backoff) -> Result<(), BrokerError> {
        let Self {
            queue,
            broker,
            commands,
            set,
            cancelled,
            outage,
            refusal,
        } = self;
        broker.consume(queue, epoch, commands, &mut |event| {
            match &event {
                Event::Opened { waiting } => {
                    backoff.reset();
                    outage.is_over();
                    *refusal = None;
                    log::info!("consuming queue {}: {waiting} messages wait", queue.name);
                }
                Event::Cancelled => *cancelled = true,
                Event::Delivered(_) | Event::Depth(_) => {}
            }
            set.do_send(Subscribed::Event(event));
        })
    }

    fn say(&mut self, error: &BrokerError) {
        let (BrokerError::Refused(refusal) | BrokerError::Unsupported(refusal)) = error else {
            return self.outage.goes_on(error);
        };
        if self.refusal.as_ref() != Some(refusal) {
            log::error!(
                "queue {:?} is not consumed: {refusal}; trying again until that has changed",
                self.queue.name
            );
            self.refusal = Some(refusal.clone());
        }
    }

    /// Waits before the next connection, and for good once cancelled. `false` when there is to be
    /// none.
    fn pause(&mut self, wait: Duration) -> bool {
        let deadline = Instant::now() + wait;
        loop {
            let command = if self.cancelled {
                self.commands
                    .recv()
                    .map_err(|_| RecvTimeoutError::Disconnected)
            } else {
                self.commands.recv_deadline(deadline)
            };
            match command {
                // The broker has back what it would settle.
                Ok(Command::Settle { .. } | Command::Depth) => {}
                Ok(Command::Cancel) => {
                    self.cancelled = true;
                    self.set.do_send(Subscribed::Event(Event::Cancelled));
                }
                Err(RecvTimeoutError::Timeout) => return true,
                Err(RecvTimeoutError::Disconnected) => return false,
            }
        }
    }
}
