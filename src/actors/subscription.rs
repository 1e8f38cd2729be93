//! The thread that consumes a queue, and reconnects for as long as it takes.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use actix::prelude::*;
use crossbeam_channel::{Receiver, RecvTimeoutError};

use super::tree::ConsumedQueue;
use crate::broker::{Broker, BrokerError, BrokerEvent, SubscriptionCommand};
use crate::config::QueueConfig;
use crate::failpoint;
use crate::health::outage::{ClosedPart, HealthProbe};
use crate::health::queue_status_handle::QueueStatusHandle;
use crate::retry::Backoff;

/// A connection that has lived this long has proven itself, even if nothing was delivered.
const PROVEN_AFTER: Duration = Duration::from_secs(1);

/// A connection that ends because the broker breaks the protocol must have lived this long to have proven itself:
/// deliveries do not count, as the next connection is likely to end in the same way.
const PROVEN_AFTER_PROTOCOL_ERROR: Duration = Duration::from_secs(30);

/// A connection that has just ended was healthy this long ago at the latest: without the broker's heartbeats it would
/// have been given up earlier.
const HEARTBEAT_TIMEOUT: Duration = Duration::from_secs(30);

/// What the thread reports to its set.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub(super) enum SubscriptionNotice {
    /// An event from the broker.
    Event(BrokerEvent),
    /// The connection of this epoch ended, and its unsettled deliveries are back at the broker.
    Lost { epoch: u64, error: BrokerError },
    /// The thread has ended.
    Closed,
}

/// Starts the thread; it ends when the sender of `commands` is dropped.
pub(super) fn start(
    source: ConsumedQueue,
    commands: Receiver<SubscriptionCommand>,
    set: Recipient<SubscriptionNotice>,
) -> io::Result<()> {
    let ConsumedQueue {
        queue,
        broker,
        health,
        queue_status,
    } = source;
    let subscription = SubscriptionThread {
        health: health.probe(format!("queue {:?}", queue.name)),
        queue,
        broker,
        commands,
        set,
        epoch: 0,
        cancelled: false,
        serving: None,
        closed_part: ClosedPart::default(),
        protocol_broken: false,
        queue_status,
    };
    thread::Builder::new()
        .name(format!("{}-subscription", subscription.queue.name))
        .spawn(move || {
            let _closing = ClosedNotice(subscription.set.clone());
            subscription.run();
        })
        .map(drop)
}

/// Reports the thread's end to the set, whatever its cause.
struct ClosedNotice(Recipient<SubscriptionNotice>);

impl Drop for ClosedNotice {
    fn drop(&mut self) {
        self.0.do_send(SubscriptionNotice::Closed);
    }
}

struct SubscriptionThread {
    queue: QueueConfig,
    broker: Arc<dyn Broker>,
    commands: Receiver<SubscriptionCommand>,
    set: Recipient<SubscriptionNotice>,
    /// The number of the last connection.
    epoch: u64,
    cancelled: bool,
    health: HealthProbe,
    /// Since when this connection is open, and whether it has delivered anything.
    serving: Option<(Instant, bool)>,
    /// Why the broker, although reachable, does not let the queue be consumed.
    closed_part: ClosedPart,
    /// The last connection was open, and ended because the broker broke the protocol. The queue counts as consumed
    /// again only once the next connection has proven itself.
    protocol_broken: bool,
    queue_status: QueueStatusHandle,
}

impl SubscriptionThread {
    /// Consumes until the set closes the subscription. After a panic it starts again, as after a lost connection.
    fn run(mut self) {
        let mut backoff = Backoff::for_restarts();
        loop {
            let began = Instant::now();
            let Err(payload) = catch_unwind(AssertUnwindSafe(|| self.live())) else {
                return;
            };
            // The payload's drop may panic.
            std::mem::forget(payload);
            let wait = backoff.next_wait_after(began.elapsed());
            let name = &self.queue.name;
            log::error!("the subscription of queue {name} died; it is started again in {wait:.1?}");
            // The panic says nothing about the broker's health.
            self.queue_status
                .set_refused("its subscription died".to_owned());
            let error = BrokerError::Away("the subscription died".to_owned());
            let epoch = self.epoch;
            self.set.do_send(SubscriptionNotice::Lost { epoch, error });
            if !self.wait_before_reconnect(wait) {
                return;
            }
        }
    }

    fn live(&mut self) {
        let mut backoff = Backoff::for_connections();
        loop {
            self.epoch += 1;
            let Err(error) = self.consume() else { return };
            if self.was_proven(&error) {
                backoff.reset();
            }
            self.report(&error);
            let epoch = self.epoch;
            self.set.do_send(SubscriptionNotice::Lost { epoch, error });
            if !self.wait_before_reconnect(backoff.next_wait()) {
                return;
            }
        }
    }

    fn consume(&mut self) -> Result<(), BrokerError> {
        let Self {
            queue,
            broker,
            commands,
            set,
            epoch,
            cancelled,
            health,
            serving,
            closed_part,
            protocol_broken,
            queue_status,
        } = self;
        *serving = None;
        let name = queue.name.clone();
        let mut opens = move || {
            if let Some(time) = closed_part.reopen() {
                let time = time.as_secs_f64();
                log::warn!("queue {name:?} is consumed again after {time:.1} s");
            }
        };
        health.started();
        broker.consume(queue, *epoch, commands, &mut |event| {
            failpoint::hit("subscription.event");
            match &event {
                BrokerEvent::Opened { waiting } => {
                    *serving = Some((Instant::now(), false));
                    health.succeeded();
                    queue_status.set_consumed();
                    if !*protocol_broken {
                        opens();
                    }
                    log::info!("consuming queue {}: {waiting} messages wait", queue.name);
                }
                BrokerEvent::Delivered(_) => {
                    if let Some((_, served)) = serving {
                        *served = true;
                    }
                }
                BrokerEvent::Cancelled => *cancelled = true,
                BrokerEvent::CountsRedeliveries | BrokerEvent::Depth(_) => {}
            }
            if *protocol_broken && serving.is_some_and(|(since, _)| since.elapsed() > PROVEN_AFTER)
            {
                *protocol_broken = false;
                opens();
            }
            set.do_send(SubscriptionNotice::Event(event));
        })
    }

    /// Whether the connection has proven itself. If not, the waits before the next ones go on growing.
    fn was_proven(&self, error: &BrokerError) -> bool {
        self.serving.is_some_and(|(since, served)| match error {
            BrokerError::Protocol(_) => since.elapsed() > PROVEN_AFTER_PROTOCOL_ERROR,
            _ => served || since.elapsed() > PROVEN_AFTER,
        })
    }

    fn report(&mut self, error: &BrokerError) {
        self.protocol_broken = matches!(error, BrokerError::Protocol(_)) && self.serving.is_some();
        if let BrokerError::Away(_) = error {
            if self.serving.is_some() {
                // Without heartbeats the connection would have ended earlier.
                self.health.was_healthy(HEARTBEAT_TIMEOUT);
            }
            self.queue_status.set_disconnected();
            return self.health.failed(error);
        }
        self.health.succeeded();
        self.queue_status.set_refused(error.to_string());
        if self.closed_part.close(&error.to_string()) {
            log::error!(
                "queue {:?} is not consumed: {error}; trying again until that has changed",
                self.queue.name
            );
        }
    }

    /// Waits before the next connection; once cancelled, waits until the subscription is closed. `false` if there is
    /// to be no next connection.
    fn wait_before_reconnect(&mut self, wait: Duration) -> bool {
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
                // The deliveries to settle are back at the broker.
                Ok(
                    SubscriptionCommand::Settle { .. }
                    | SubscriptionCommand::Prefetch { .. }
                    | SubscriptionCommand::Depth,
                ) => {}
                Ok(SubscriptionCommand::Cancel) => {
                    self.cancelled = true;
                    self.set
                        .do_send(SubscriptionNotice::Event(BrokerEvent::Cancelled));
                }
                Err(RecvTimeoutError::Timeout) => return true,
                Err(RecvTimeoutError::Disconnected) => return false,
            }
        }
    }
}
