//! A subscription to one queue, on one channel, on the caller's thread.

use std::ops::ControlFlow;

use amiquip::{Channel, Consumer, ConsumerMessage, ConsumerOptions, Delivery, Error};
use crossbeam_channel::{Receiver, select};

use super::super::{BrokerError, BrokerEvent, DeliveryHandle, Envelope, SubscriptionCommand};
use super::connection::AmqpConnection;
use super::delivery::take_envelope;
use super::redelivery_counts::{self, RedeliveryCounters};
use super::topology;
use super::unsettled::UnsettledDeliveries;
use crate::config::{BrokerUrl, QueueConfig};

/// The most deliveries in one [`BrokerEvent::Delivered`]; more come in the next one.
const MAX_DELIVERED_AT_ONCE: usize = 1000;

pub(super) fn consume(
    url: &BrokerUrl,
    counters: &RedeliveryCounters,
    queue: &QueueConfig,
    epoch: u64,
    commands: &Receiver<SubscriptionCommand>,
    sink: &mut dyn FnMut(BrokerEvent),
) -> Result<(), BrokerError> {
    let connection = AmqpConnection::open(url)?;
    let mut declared = false;
    let mut gone = false;
    let counts_redeliveries = counters.counts_redeliveries(queue);
    let served = declare_and_consume(&connection, queue, counts_redeliveries).and_then(
        |(consumer, waiting)| {
            declared = true;
            sink(BrokerEvent::Opened { waiting });
            let mut subscription = AmqpSubscription {
                connection: &connection,
                queue,
                consumer,
                extra_consumer: None,
                epoch,
                unsettled: UnsettledDeliveries::new(),
                cancelled: false,
                gone: false,
                counts_redeliveries,
                counters,
                sink,
            };
            let served = subscription.serve(commands);
            gone = subscription.gone;
            if gone || (served.is_err() && subscription.counts_redeliveries) {
                subscription.deliver_all_arrived();
            }
            subscription.cancel_quietly();
            served
        },
    );
    match served {
        Ok(()) => connection.close(),
        Err(_) if gone => {
            if let Err(error) = connection.close() {
                log::debug!(
                    "queue {}: {error} while closing the connection of a queue that is gone",
                    queue.name
                );
            }
            Err(BrokerError::QueueGone(
                "the broker has cancelled the consumer: the queue is gone".to_owned(),
            ))
        }
        // The caller subscribes again after RabbitMQ has closed a channel that worked, for example because a task
        // ran longer than the `consumer_timeout`.
        Err(Error::ServerClosedChannel { code, message, .. }) if declared => Err(
            BrokerError::Ended(format!("RabbitMQ closed the channel: {code} {message}")),
        ),
        Err(error) => Err(topology::refusal(queue, &error)
            .map_or_else(|| connection.fail(error), BrokerError::Refused)),
    }
}

fn declare_and_consume<'a>(
    connection: &'a AmqpConnection,
    queue: &QueueConfig,
    counts_redeliveries: bool,
) -> Result<(Consumer<'a>, u32), Error> {
    let waiting = topology::declare(&connection.channel, queue)?;
    // A consumer without a prefetch would be sent the whole queue.
    connection
        .channel
        .qos(0, queue.prefetch_if(counts_redeliveries), false)?;
    let consumer = connection
        .channel
        .basic_consume(queue.name.as_str(), ConsumerOptions::default())?;
    Ok((consumer, waiting))
}

struct AmqpSubscription<'a> {
    connection: &'a AmqpConnection,
    queue: &'a QueueConfig,
    consumer: Consumer<'a>,
    /// A second consumer with a prefetch of its own, because a consumer's prefetch can't be changed.
    extra_consumer: Option<Consumer<'a>>,
    epoch: u64,
    unsettled: UnsettledDeliveries<Delivery>,
    cancelled: bool,
    /// The queue was deleted, or its node went away.
    gone: bool,
    /// Whether the queue counts redeliveries.
    counts_redeliveries: bool,
    counters: &'a RedeliveryCounters,
    sink: &'a mut dyn FnMut(BrokerEvent),
}

impl AmqpSubscription<'_> {
    fn serve(&mut self, commands: &Receiver<SubscriptionCommand>) -> Result<(), Error> {
        let blocked = self.connection.blocked.clone();
        loop {
            // `select!` would find the disconnected receiver of a cancelled consumer ready for ever.
            let deliveries = if self.cancelled {
                crossbeam_channel::never()
            } else {
                self.consumer.receiver().clone()
            };
            let more = self
                .extra_consumer
                .as_ref()
                .map(|extra| extra.receiver().clone());
            let more = more.unwrap_or_else(crossbeam_channel::never);
            select! {
                recv(deliveries) -> message => {
                    self.deliver(message.map_err(|_| Error::EventLoopDropped)?, &deliveries)?;
                }
                recv(more) -> message => {
                    self.deliver(message.map_err(|_| Error::EventLoopDropped)?, &more)?;
                }
                recv(commands) -> command => {
                    let Ok(command) = command else { return Ok(()) };
                    self.execute(command)?;
                }
                recv(blocked) -> note => {
                    // A blocked connection still consumes; here only its end matters.
                    note.map_err(|_| Error::EventLoopDropped)?;
                }
            }
        }
    }

    /// Delivers `first` and what else has arrived, up to [`MAX_DELIVERED_AT_ONCE`].
    fn deliver(
        &mut self,
        first: ConsumerMessage,
        deliveries: &Receiver<ConsumerMessage>,
    ) -> Result<(), Error> {
        let mut batch = Vec::new();
        let mut ended = Ok(());
        let counted = self.counts_redeliveries;
        for message in std::iter::once(first).chain(deliveries.try_iter()) {
            match self.receive(message) {
                ControlFlow::Continue(delivery) => batch.push(delivery),
                ControlFlow::Break(error) => {
                    ended = Err(error);
                    break;
                }
            }
            if batch.len() == MAX_DELIVERED_AT_ONCE {
                break;
            }
        }
        (self.sink)(BrokerEvent::Delivered(batch));
        ended?;
        if self.counts_redeliveries && !counted {
            self.limit_prefetch()?;
        }
        Ok(())
    }

    /// The queue was seen to count redeliveries: prefetches no more messages than can run at once, unless the
    /// configuration sets the prefetch.
    fn limit_prefetch(&mut self) -> Result<(), Error> {
        self.counters.note_counting(self.queue);
        (self.sink)(BrokerEvent::CountsRedeliveries);
        if self.cancelled {
            return Ok(());
        }
        self.set_extra_prefetch(0)?;
        if self.queue.prefetch_factor.is_some() {
            return Ok(());
        }
        // A consumer's prefetch can't be changed, so a new consumer replaces it. What the old one was sent is
        // delivered, not put back.
        self.consumer.cancel()?;
        self.drain_cancelled(&self.consumer.receiver().clone())?;
        let channel = &self.connection.channel;
        channel.qos(0, self.queue.prefetch_if(true), false)?;
        self.consumer =
            channel.basic_consume(self.queue.name.as_str(), ConsumerOptions::default())?;
        Ok(())
    }

    /// Delivers what a consumer was sent before it was cancelled.
    fn drain_cancelled(&mut self, rest: &Receiver<ConsumerMessage>) -> Result<(), Error> {
        // One by one: the notice of the cancellation follows the last delivery.
        while let Ok(delivery @ ConsumerMessage::Delivery(_)) = rest.recv() {
            self.deliver(delivery, &crossbeam_channel::never())?;
        }
        Ok(())
    }

    /// Delivers everything that has arrived: the broker no longer has it, or would count its redelivery.
    fn deliver_all_arrived(&mut self) {
        let extra = self
            .extra_consumer
            .as_ref()
            .map(|extra| extra.receiver().clone());
        for arrived in extra.into_iter().chain([self.consumer.receiver().clone()]) {
            while let Ok(first) = arrived.try_recv() {
                if self.deliver(first, &arrived).is_err() {
                    break;
                }
            }
        }
    }

    fn receive(&mut self, message: ConsumerMessage) -> ControlFlow<Error, Envelope> {
        match message {
            ConsumerMessage::Delivery(mut delivery) => {
                self.counts_redeliveries |= redelivery_counts::is_counted_redelivery(&delivery);
                let note = self.connection.note(delivery.delivery_tag());
                let envelope = take_envelope(&mut delivery, note, self.queue, self.epoch);
                self.unsettled.push(delivery.delivery_tag(), delivery);
                ControlFlow::Continue(envelope)
            }
            ConsumerMessage::ServerClosedChannel(error)
            | ConsumerMessage::ServerClosedConnection(error) => ControlFlow::Break(error),
            ConsumerMessage::ServerCancelled => {
                self.gone = true;
                ControlFlow::Break(Error::ClientClosedChannel)
            }
            ConsumerMessage::ClientCancelled
            | ConsumerMessage::ClientClosedChannel
            | ConsumerMessage::ClientClosedConnection => {
                ControlFlow::Break(Error::ClientClosedChannel)
            }
        }
    }

    fn execute(&mut self, command: SubscriptionCommand) -> Result<(), Error> {
        match command {
            SubscriptionCommand::Settle { accept, give_back } => {
                self.settle(&self.tags(&accept), &self.tags(&give_back))
            }
            SubscriptionCommand::Depth => {
                let queue = self
                    .connection
                    .channel
                    .queue_declare_passive(self.queue.name.as_str())?;
                let ready = queue.declared_message_count().unwrap_or_default();
                // The depth does not count messages that were on their way here, so they are delivered
                // before it is reported. RabbitMQ's channel may answer before it sends what its queue had
                // delivered to it, but it sends that before a second answer: `qos` waits for one.
                let prefetch = self.queue.prefetch_if(self.counts_redeliveries);
                self.connection.channel.qos(0, prefetch, false)?;
                let arrived = self.consumer.receiver().clone();
                let more = self
                    .extra_consumer
                    .as_ref()
                    .map(|extra| extra.receiver().clone());
                for arrived in std::iter::once(arrived).chain(more) {
                    while let Ok(first) = arrived.try_recv() {
                        self.deliver(first, &arrived)?;
                    }
                }
                (self.sink)(BrokerEvent::Depth(ready));
                Ok(())
            }
            SubscriptionCommand::Prefetch { more, epoch } if epoch == self.epoch => {
                self.set_extra_prefetch(more)
            }
            SubscriptionCommand::Prefetch { .. } => Ok(()),
            SubscriptionCommand::Cancel => {
                self.cancel()?;
                (self.sink)(BrokerEvent::Cancelled);
                Ok(())
            }
        }
    }

    fn set_extra_prefetch(&mut self, more: u16) -> Result<(), Error> {
        if let Some(extra) = self.extra_consumer.take() {
            extra.cancel()?;
            self.drain_cancelled(&extra.receiver().clone())?;
        }
        if more > 0 && !self.cancelled {
            self.connection.channel.qos(0, more, false)?;
            self.extra_consumer = Some(
                self.connection
                    .channel
                    .basic_consume(self.queue.name.as_str(), ConsumerOptions::default())?,
            );
        }
        Ok(())
    }

    /// The tags of the handles that belong to this channel.
    fn tags(&self, handles: &[DeliveryHandle]) -> Vec<u64> {
        handles
            .iter()
            .filter(|handle| handle.epoch == self.epoch)
            .map(|handle| handle.tag)
            .collect()
    }

    fn settle(&mut self, accept: &[u64], give_back: &[u64]) -> Result<(), Error> {
        let channel: &Channel = &self.connection.channel;
        for tag in give_back {
            if let Some(delivery) = self.unsettled.take(*tag) {
                delivery.nack(channel, true)?;
            }
        }
        let acks = self.unsettled.accept(accept);
        if let Some(delivery) = acks.up_to {
            delivery.ack_multiple(channel)?;
        }
        for delivery in acks.singly {
            delivery.ack(channel)?;
        }
        Ok(())
    }

    /// Cancels the consumers and drains them: dropping a consumer that still has deliveries under way can end
    /// the whole connection.
    fn cancel(&mut self) -> Result<(), Error> {
        if self.cancelled {
            return Ok(());
        }
        self.cancelled = true;
        let extra = self.extra_consumer.take();
        // Both are cancelled before either is drained, so that fewer deliveries arrive that have to go back.
        for consumer in extra.iter().chain([&self.consumer]) {
            consumer.cancel()?;
        }
        let mut rest = Vec::new();
        for consumer in extra.iter().chain([&self.consumer]) {
            for message in consumer.receiver() {
                if let ConsumerMessage::Delivery(delivery) = message {
                    rest.push(delivery);
                }
            }
        }
        for delivery in rest {
            self.return_undelivered(delivery)?;
        }
        Ok(())
    }

    /// Puts back a delivery that came after the cancellation. If the queue counts redeliveries, the owner gets
    /// the delivery instead, to note the return in the message's row first.
    fn return_undelivered(&mut self, mut delivery: Delivery) -> Result<(), Error> {
        let note = self.connection.note(delivery.delivery_tag());
        if self.counts_redeliveries {
            let envelope = take_envelope(&mut delivery, note, self.queue, self.epoch);
            self.unsettled.push(delivery.delivery_tag(), delivery);
            (self.sink)(BrokerEvent::Delivered(vec![envelope]));
            return Ok(());
        }
        // The tag must be recorded all the same: tags that are missing block a multiple ack.
        let tag = delivery.delivery_tag();
        self.unsettled.push(tag, delivery);
        match self.unsettled.take(tag) {
            Some(delivery) => delivery.nack(&self.connection.channel, true),
            None => Ok(()),
        }
    }

    fn cancel_quietly(mut self) {
        if let Err(error) = self.cancel() {
            log::debug!("queue {}: {error} while cancelling", self.queue.name);
        }
    }
}
