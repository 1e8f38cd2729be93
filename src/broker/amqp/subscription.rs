//! One queue's deliveries, on one channel, on the caller's thread.

use std::ops::ControlFlow;

use amiquip::{AmqpValue, Channel, Consumer, ConsumerMessage, ConsumerOptions, Error};
use crossbeam_channel::{Receiver, select};

use super::super::{BrokerError, BrokerEvent, DeliveryHandle, Envelope, SubscriptionCommand};
use super::connection::Link;
use super::gate::Oddity;
use super::returns::{self, Returns};
use super::topology;
use super::unsettled::Unsettled;
use crate::config::{BrokerUrl, QueueConfig};
use crate::names;

/// At most so many deliveries are handed on at once; what is more comes in the next batch.
const MOST_AT_ONCE: usize = 1000;

pub(super) fn consume(
    url: &BrokerUrl,
    returns: &Returns,
    queue: &QueueConfig,
    epoch: u64,
    commands: &Receiver<SubscriptionCommand>,
    sink: &mut dyn FnMut(BrokerEvent),
) -> Result<(), BrokerError> {
    let link = Link::open(url)?;
    let mut declared = false;
    let mut gone = false;
    let counts = returns.are_counted(queue);
    let served = declare_and_consume(&link, queue, counts).and_then(|(consumer, waiting)| {
        declared = true;
        sink(BrokerEvent::Opened { waiting });
        let mut subscription = Subscription {
            link: &link,
            queue,
            consumer,
            burst: None,
            epoch,
            unsettled: Unsettled::new(),
            cancelled: false,
            gone: false,
            counts,
            returns,
            sink,
        };
        let served = subscription.serve(commands);
        gone = subscription.gone;
        if gone || (served.is_err() && subscription.counts) {
            subscription.hand_on_the_rest();
        }
        subscription.wind_up();
        served
    });
    match served {
        Ok(()) => link.close(),
        Err(_) if gone => {
            if let Err(error) = link.close() {
                log::debug!("queue {}: {error} after it was gone", queue.name);
            }
            Err(BrokerError::QueueGone(
                "the broker says it is gone".to_owned(),
            ))
        }
        // A channel that served and was closed, as RabbitMQ does to one whose task runs for longer
        // than its `consumer_timeout`, is opened again.
        Err(Error::ServerClosedChannel { code, message, .. }) if declared => Err(
            BrokerError::Ended(format!("RabbitMQ closed the channel: {code} {message}")),
        ),
        Err(error) => {
            Err(topology::refusal(queue, &error)
                .map_or_else(|| link.fail(error), BrokerError::Refused))
        }
    }
}

fn declare_and_consume<'a>(
    link: &'a Link,
    queue: &QueueConfig,
    counts: bool,
) -> Result<(Consumer<'a>, u32), Error> {
    let waiting = topology::declare(&link.channel, queue)?;
    // A consumer without a prefetch would be sent the whole queue.
    link.channel.qos(0, queue.prefetch_if(counts), false)?;
    let consumer = link
        .channel
        .basic_consume(queue.name.as_str(), ConsumerOptions::default())?;
    Ok((consumer, waiting))
}

struct Subscription<'a> {
    link: &'a Link,
    queue: &'a QueueConfig,
    consumer: Consumer<'a>,
    /// A second consumer, with a prefetch of its own: that of the first can't be changed.
    burst: Option<Consumer<'a>>,
    epoch: u64,
    unsettled: Unsettled<amiquip::Delivery>,
    cancelled: bool,
    /// The queue was deleted, or its node went away.
    gone: bool,
    /// The queue counts how often a message comes back.
    counts: bool,
    returns: &'a Returns,
    sink: &'a mut dyn FnMut(BrokerEvent),
}

impl Subscription<'_> {
    fn serve(&mut self, commands: &Receiver<SubscriptionCommand>) -> Result<(), Error> {
        let blocked = self.link.blocked.clone();
        loop {
            // A cancelled consumer's receiver is disconnected, which `select!` would find ready for
            // ever.
            let deliveries = if self.cancelled {
                crossbeam_channel::never()
            } else {
                self.consumer.receiver().clone()
            };
            let more = self.burst.as_ref().map(|burst| burst.receiver().clone());
            let more = more.unwrap_or_else(crossbeam_channel::never);
            select! {
                recv(deliveries) -> message => {
                    self.hand_on(message.map_err(|_| Error::EventLoopDropped)?, &deliveries)?;
                }
                recv(more) -> message => {
                    self.hand_on(message.map_err(|_| Error::EventLoopDropped)?, &more)?;
                }
                recv(commands) -> command => {
                    let Ok(command) = command else { return Ok(()) };
                    self.obey(command)?;
                }
                recv(blocked) -> note => {
                    // A blocked connection still consumes; only its end matters here.
                    note.map_err(|_| Error::EventLoopDropped)?;
                }
            }
        }
    }

    /// Hands on `first` and whatever else has arrived.
    fn hand_on(
        &mut self,
        first: ConsumerMessage,
        deliveries: &Receiver<ConsumerMessage>,
    ) -> Result<(), Error> {
        let mut batch = Vec::new();
        let mut ended = Ok(());
        let counted = self.counts;
        for message in std::iter::once(first).chain(deliveries.try_iter()) {
            match self.receive(message) {
                ControlFlow::Continue(delivery) => batch.push(delivery),
                ControlFlow::Break(error) => {
                    ended = Err(error);
                    break;
                }
            }
            if batch.len() == MOST_AT_ONCE {
                break;
            }
        }
        (self.sink)(BrokerEvent::Delivered(batch));
        ended?;
        if self.counts && !counted {
            self.hold_no_more_than_runs()?;
        }
        Ok(())
    }

    /// The queue was seen to count returns: takes no more than run, unless that is set.
    fn hold_no_more_than_runs(&mut self) -> Result<(), Error> {
        self.returns.have_been_counted(self.queue);
        (self.sink)(BrokerEvent::CountsReturns);
        if self.cancelled {
            return Ok(());
        }
        self.burst(0)?;
        if self.queue.prefetch_factor.is_some() {
            return Ok(());
        }
        // A consumer's prefetch can't be changed. What it was sent is not given back for this.
        self.consumer.cancel()?;
        self.hand_on_to_the_end(&self.consumer.receiver().clone())?;
        let channel = &self.link.channel;
        channel.qos(0, self.queue.prefetch_if(true), false)?;
        self.consumer =
            channel.basic_consume(self.queue.name.as_str(), ConsumerOptions::default())?;
        Ok(())
    }

    /// Hands on what a consumer was sent before it was cancelled.
    fn hand_on_to_the_end(&mut self, rest: &Receiver<ConsumerMessage>) -> Result<(), Error> {
        // One by one: after the last comes the word that it is cancelled, as it was told to be.
        while let Ok(delivery @ ConsumerMessage::Delivery(_)) = rest.recv() {
            self.hand_on(delivery, &crossbeam_channel::never())?;
        }
        Ok(())
    }

    /// Hands on all that has arrived: it is nowhere else.
    fn hand_on_the_rest(&mut self) {
        let burst = self.burst.as_ref().map(|burst| burst.receiver().clone());
        for arrived in burst.into_iter().chain([self.consumer.receiver().clone()]) {
            while let Ok(first) = arrived.try_recv() {
                if self.hand_on(first, &arrived).is_err() {
                    break;
                }
            }
        }
    }

    fn receive(&mut self, message: ConsumerMessage) -> ControlFlow<Error, Envelope> {
        match message {
            ConsumerMessage::Delivery(mut delivery) => {
                self.counts |= returns::is_counted(&delivery);
                let oddity = self.link.oddity(delivery.delivery_tag());
                let handed_on = hand_over(&mut delivery, oddity, self.queue, self.epoch);
                self.unsettled.push(delivery.delivery_tag(), delivery);
                ControlFlow::Continue(handed_on)
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

    fn obey(&mut self, command: SubscriptionCommand) -> Result<(), Error> {
        match command {
            SubscriptionCommand::Settle { accept, give_back } => {
                self.settle(&self.tags(&accept), &self.tags(&give_back))
            }
            SubscriptionCommand::Depth => {
                let queue = self
                    .link
                    .channel
                    .queue_declare_passive(self.queue.name.as_str())?;
                let ready = queue.declared_message_count().unwrap_or_default();
                // What was on its way at the answer is handed on before it: it is no longer ready,
                // and not idle either. RabbitMQ's channel may answer before it sends what its queue
                // had delivered to it, but not before it has answered a second time.
                let prefetch = self.queue.prefetch_if(self.counts);
                self.link.channel.qos(0, prefetch, false)?;
                let arrived = self.consumer.receiver().clone();
                let more = self.burst.as_ref().map(|burst| burst.receiver().clone());
                for arrived in std::iter::once(arrived).chain(more) {
                    while let Ok(first) = arrived.try_recv() {
                        self.hand_on(first, &arrived)?;
                    }
                }
                (self.sink)(BrokerEvent::Depth(ready));
                Ok(())
            }
            SubscriptionCommand::Prefetch { more, epoch } if epoch == self.epoch => {
                self.burst(more)
            }
            SubscriptionCommand::Prefetch { .. } => Ok(()),
            SubscriptionCommand::Cancel => {
                self.cancel()?;
                (self.sink)(BrokerEvent::Cancelled);
                Ok(())
            }
        }
    }

    fn burst(&mut self, more: u16) -> Result<(), Error> {
        if let Some(burst) = self.burst.take() {
            burst.cancel()?;
            self.hand_on_to_the_end(&burst.receiver().clone())?;
        }
        if more > 0 && !self.cancelled {
            self.link.channel.qos(0, more, false)?;
            self.burst = Some(
                self.link
                    .channel
                    .basic_consume(self.queue.name.as_str(), ConsumerOptions::default())?,
            );
        }
        Ok(())
    }

    /// The tags of the receipts that are of this channel.
    fn tags(&self, receipts: &[DeliveryHandle]) -> Vec<u64> {
        receipts
            .iter()
            .filter(|receipt| receipt.epoch == self.epoch)
            .map(|receipt| receipt.tag)
            .collect()
    }

    fn settle(&mut self, accept: &[u64], give_back: &[u64]) -> Result<(), Error> {
        let channel: &Channel = &self.link.channel;
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

    /// Cancels the consumer and drains it to its end: dropping one that still has deliveries under
    /// way can end the whole connection.
    fn cancel(&mut self) -> Result<(), Error> {
        if self.cancelled {
            return Ok(());
        }
        self.cancelled = true;
        let burst = self.burst.take();
        // Both, before either is drained: each delivery that comes meanwhile is one to give back.
        for consumer in burst.iter().chain([&self.consumer]) {
            consumer.cancel()?;
        }
        let mut rest = Vec::new();
        for consumer in burst.iter().chain([&self.consumer]) {
            for message in consumer.receiver() {
                if let ConsumerMessage::Delivery(delivery) = message {
                    rest.push(delivery);
                }
            }
        }
        for delivery in rest {
            self.do_without(delivery)?;
        }
        Ok(())
    }

    /// A delivery that came when nothing more was wanted goes back. Where that counts, its row is to say so
    /// before.
    fn do_without(&mut self, mut delivery: amiquip::Delivery) -> Result<(), Error> {
        let oddity = self.link.oddity(delivery.delivery_tag());
        if self.counts {
            let handed_on = hand_over(&mut delivery, oddity, self.queue, self.epoch);
            self.unsettled.push(delivery.delivery_tag(), delivery);
            (self.sink)(BrokerEvent::Delivered(vec![handed_on]));
            return Ok(());
        }
        // It takes its place among the tags all the same.
        let tag = delivery.delivery_tag();
        self.unsettled.push(tag, delivery);
        match self.unsettled.take(tag) {
            Some(delivery) => delivery.nack(&self.link.channel, true),
            None => Ok(()),
        }
    }

    fn wind_up(mut self) {
        if let Err(error) = self.cancel() {
            log::debug!("queue {}: {error} while cancelling", self.queue.name);
        }
    }
}

/// What the rest of the crate gets of `delivery`; what stays is what an ack needs.
fn hand_over(
    delivery: &mut amiquip::Delivery,
    oddity: Option<Oddity>,
    queue: &QueueConfig,
    epoch: u64,
) -> Envelope {
    let oddity = oddity.unwrap_or_default();
    let properties = std::mem::take(&mut delivery.properties);
    let task = properties
        .headers()
        .as_ref()
        .and_then(|headers| headers.get(names::TASK_HEADER))
        .and_then(|value| match value {
            AmqpValue::LongString(task) => Some(task.clone()),
            _ => None,
        });
    let text_id = || properties.message_id().clone().map(String::into_bytes);
    let fault = oddity.fault();
    let id = oddity.message_id.or_else(text_id);
    // An empty id would make all that have one the same message.
    let (key, fingerprint) = match id.filter(|id| !id.is_empty()) {
        Some(id) => (names::key_for_id(&id), None),
        None => {
            let fingerprint = returns::fingerprint(delivery, &properties);
            (names::new_key(), Some(fingerprint))
        }
    };
    let (exchange, routing_key) = if oddity.address_mended {
        (String::new(), queue.name.clone())
    } else {
        (
            std::mem::take(&mut delivery.exchange),
            std::mem::take(&mut delivery.routing_key),
        )
    };
    Envelope {
        receipt: DeliveryHandle {
            epoch,
            tag: delivery.delivery_tag(),
        },
        redelivered: delivery.redelivered,
        key,
        fingerprint,
        has_recorder: properties.type_().as_deref() == Some(names::MESSAGE_TYPE),
        task,
        fault,
        priority: properties.priority().unwrap_or_default(),
        exchange,
        routing_key,
        body: std::mem::take(&mut delivery.body).into(),
    }
}
