//! A subscription to one queue in the database, on the caller's thread.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, at, never, select};

use super::super::{BrokerError, BrokerEvent, DeliveryHandle, Envelope, SubscriptionCommand};
use super::{QueueSession, wake};
use crate::config::QueueConfig;
use crate::message::Message;

/// The interval between polls for messages of other processes, if there have been none for a while.
const MAX_POLL_INTERVAL: Duration = Duration::from_millis(100);

/// The interval after a poll that found messages: more may be on their way. It doubles with each empty poll.
const BUSY_POLL_INTERVAL: Duration = Duration::from_millis(5);

/// The most messages that are taken at once. All limits are powers of two, because each different limit is a
/// separate statement to the database.
const MAX_TAKEN_AT_ONCE: usize = 512;

pub(super) fn consume(
    session: Box<dyn QueueSession>,
    queue: &QueueConfig,
    epoch: u64,
    commands: &Receiver<SubscriptionCommand>,
    sink: &mut dyn FnMut(BrokerEvent),
) -> Result<(), BrokerError> {
    consume_polling(MAX_POLL_INTERVAL, session, queue, epoch, commands, sink)
}

/// [`consume`] with another longest interval between polls.
fn consume_polling(
    max_poll_interval: Duration,
    mut session: Box<dyn QueueSession>,
    queue: &QueueConfig,
    epoch: u64,
    commands: &Receiver<SubscriptionCommand>,
    sink: &mut dyn FnMut(BrokerEvent),
) -> Result<(), BrokerError> {
    // Listens before the first poll, so that no message is missed in between.
    let wakes = wake::listen(&queue.name);
    let waiting = session.depth(&queue.name)?;
    sink(BrokerEvent::Opened { waiting });
    let mut subscription = EmbeddedSubscription {
        session,
        queue,
        epoch,
        unsettled: BTreeMap::new(),
        last_tag: 0,
        extra_prefetch: 0,
        next_poll: QueuePoll::Now,
        max_poll_interval,
        poll_interval: max_poll_interval,
        cancelled: false,
        sink,
    };
    subscription.serve(commands, &wakes)?;
    subscription.put_back_unsettled()
}

/// When to poll for messages.
#[derive(Clone, Copy)]
enum QueuePoll {
    /// At once: there may be messages.
    Now,
    /// At this time: the last poll left none.
    At(Instant),
}

struct EmbeddedSubscription<'a> {
    session: Box<dyn QueueSession>,
    queue: &'a QueueConfig,
    epoch: u64,
    /// The keys of the messages that were delivered and not settled, by tag.
    unsettled: BTreeMap<u64, String>,
    /// The tag of the last delivery: how many there have been.
    last_tag: u64,
    /// How many messages beyond the queue's prefetch may be unsettled.
    extra_prefetch: usize,
    next_poll: QueuePoll,
    /// The longest time between two polls.
    max_poll_interval: Duration,
    /// The time until the next poll, after one that did not fill its limit.
    poll_interval: Duration,
    cancelled: bool,
    sink: &'a mut dyn FnMut(BrokerEvent),
}

impl EmbeddedSubscription<'_> {
    /// Serves until the commands' sender is dropped.
    fn serve(
        &mut self,
        commands: &Receiver<SubscriptionCommand>,
        wakes: &Receiver<()>,
    ) -> Result<(), BrokerError> {
        loop {
            let alarm = match self.next_poll {
                _ if self.room() == 0 => never(),
                QueuePoll::Now => at(Instant::now()),
                QueuePoll::At(time) => at(time),
            };
            select! {
                recv(commands) -> command => {
                    let Ok(command) = command else { return Ok(()) };
                    self.execute(command)?;
                    while let Ok(command) = commands.try_recv() {
                        self.execute(command)?;
                    }
                }
                recv(wakes) -> _ => self.next_poll = QueuePoll::Now,
                recv(alarm) -> _ => self.deliver()?,
            }
        }
    }

    /// How many more messages may be taken.
    fn room(&self) -> usize {
        if self.cancelled {
            return 0;
        }
        let most = usize::from(self.queue.prefetch()) + self.extra_prefetch;
        most.saturating_sub(self.unsettled.len())
    }

    /// Takes as many messages as there is room for, and delivers them.
    fn deliver(&mut self) -> Result<(), BrokerError> {
        let Some(bits) = self.room().checked_ilog2() else {
            return Ok(());
        };
        let wanted = MAX_TAKEN_AT_ONCE.min(1 << bits);
        let messages = self.session.take(&self.queue.name, wanted)?;
        self.poll_interval = if messages.is_empty() {
            self.poll_interval
                .saturating_mul(2)
                .min(self.max_poll_interval)
        } else {
            BUSY_POLL_INTERVAL
        };
        self.next_poll = if messages.len() < wanted {
            QueuePoll::At(Instant::now() + self.poll_interval)
        } else {
            QueuePoll::Now
        };
        if !messages.is_empty() {
            let envelopes = messages.into_iter().map(|message| self.envelope(message));
            let envelopes = envelopes.collect();
            (self.sink)(BrokerEvent::Delivered(envelopes));
        }
        Ok(())
    }

    fn envelope(&mut self, message: Message) -> Envelope {
        self.last_tag += 1;
        self.unsettled.insert(self.last_tag, message.key.clone());
        let handle = DeliveryHandle {
            epoch: self.epoch,
            tag: self.last_tag,
        };
        Envelope::of_recorded(message, handle)
    }

    fn execute(&mut self, command: SubscriptionCommand) -> Result<(), BrokerError> {
        match command {
            SubscriptionCommand::Settle { accept, give_back } => {
                // Accepted messages need no write: their rows record the end of the run.
                self.release(accept);
                let keys = self.release(give_back);
                self.put_back(keys)
            }
            SubscriptionCommand::Prefetch { more, epoch } => {
                if epoch == self.epoch {
                    self.extra_prefetch = usize::from(more);
                }
                Ok(())
            }
            SubscriptionCommand::Depth => {
                // Messages that can be delivered at once do not count as ready.
                while self.room() > 0 {
                    self.deliver()?;
                    if let QueuePoll::At(_) = self.next_poll {
                        break;
                    }
                }
                let ready = self.session.depth(&self.queue.name)?;
                (self.sink)(BrokerEvent::Depth(ready));
                Ok(())
            }
            SubscriptionCommand::Cancel => {
                self.cancelled = true;
                (self.sink)(BrokerEvent::Cancelled);
                Ok(())
            }
        }
    }

    /// Removes deliveries and returns their messages' keys. Ignores handles of another epoch.
    fn release(&mut self, handles: Vec<DeliveryHandle>) -> Vec<String> {
        let ours = handles
            .into_iter()
            .filter(|handle| handle.epoch == self.epoch);
        ours.filter_map(|handle| self.unsettled.remove(&handle.tag))
            .collect()
    }

    /// Puts messages back, except those with another unsettled delivery: a row that the ledger has put back already
    /// may have been taken again.
    fn put_back(&mut self, mut keys: Vec<String>) -> Result<(), BrokerError> {
        if keys.is_empty() {
            return Ok(());
        }
        keys.retain(|key| !self.unsettled.values().any(|unsettled| unsettled == key));
        self.session.put_back(&keys)?;
        self.next_poll = QueuePoll::Now;
        Ok(())
    }

    fn put_back_unsettled(&mut self) -> Result<(), BrokerError> {
        let rest = std::mem::take(&mut self.unsettled).into_values();
        self.put_back(rest.collect())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};
    use std::thread;

    use crossbeam_channel::unbounded;

    use super::*;
    use crate::broker::embedded::EmbeddedPublisher;
    use crate::broker::{BrokerPublisher, Confirmation};
    use crate::config::BrokerHost;
    use crate::message::Arguments;

    /// Longer than the test.
    const NEVER: Duration = Duration::from_secs(3600);
    const PATIENCE: Duration = Duration::from_secs(60);

    /// Waiting messages, and the keys of messages that were put back.
    #[derive(Clone, Default)]
    struct FakeQueue(Arc<Mutex<(Vec<Message>, Vec<String>)>>);

    impl QueueSession for FakeQueue {
        fn take(&mut self, _: &str, limit: usize) -> Result<Vec<Message>, BrokerError> {
            let waiting = &mut self.0.lock().unwrap().0;
            let count = limit.min(waiting.len());
            Ok(waiting.drain(..count).collect())
        }

        fn put_back(&mut self, keys: &[String]) -> Result<(), BrokerError> {
            self.0.lock().unwrap().1.extend_from_slice(keys);
            Ok(())
        }

        fn put_back_all(&mut self, _: &str) -> Result<(), BrokerError> {
            Ok(())
        }

        fn depth(&mut self, _: &str) -> Result<u32, BrokerError> {
            Ok(0)
        }
    }

    #[test]
    fn publishing_wakes_the_consumers_of_the_process() {
        const QUEUE: &str = "embedded-wakes";
        let rows = FakeQueue::default();
        let queue = QueueConfig::new(QUEUE, BrokerHost::Embedded);
        let (commands, orders) = unbounded();
        let (sink, events) = unbounded();
        let mut publisher = EmbeddedPublisher::default();
        publisher.declare(&queue).unwrap();
        let session = Box::new(rows.clone());
        let consumer = thread::spawn(move || {
            let mut sink = |event| sink.send(event).unwrap();
            consume_polling(NEVER, session, &queue, 1, &orders, &mut sink)
        });
        let next = || events.recv_timeout(PATIENCE).unwrap();
        assert!(matches!(next(), BrokerEvent::Opened { waiting: 0 }));
        // The answer comes after the first poll.
        commands.send(SubscriptionCommand::Depth).unwrap();
        assert!(matches!(next(), BrokerEvent::Depth(0)));
        let message = Message::new("task", Arguments::default(), QUEUE);
        rows.0.lock().unwrap().0.push(message.clone());
        let confirmed = publisher.publish(&[&message]).unwrap();
        assert_eq!(confirmed, [Confirmation::Confirmed]);
        publisher.rows_marked(&[&message]);
        let BrokerEvent::Delivered(deliveries) = next() else {
            panic!("it is not delivered");
        };
        assert_eq!(deliveries[0].key, message.key);
        drop(commands);
        consumer.join().unwrap().unwrap();
        // What was not settled goes back.
        assert_eq!(rows.0.lock().unwrap().1, [message.key]);
    }
}
