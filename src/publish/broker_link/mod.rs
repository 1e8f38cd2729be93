//! The way to one broker: connections that publish, opened again as often as it takes.
//!
//! One is the current one. Others are asked for what they are late with, and end with that.

mod log;
mod refusals;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::forbidden::Closed;
use super::publish_result::{PublishResult, Trouble, Word, declarable, fate, silent};
use super::unconfirmed::{Known, Late};
use crate::broker::{self, BrokerError, BrokerPublisher, Confirmation, SentBatch};
use crate::config::{BrokerHost, Config};
use crate::health::outage::{HealthProbe, ServerPart, Servers};
use crate::message::Message;
use crate::store::PUBLISH_LEASE;

/// A broker that was away is due to be tried again by now, if anything still waits for it: by the sweep,
/// whoever recorded that.
pub(crate) const NOTHING_WAITS: Duration = PUBLISH_LEASE.saturating_mul(2);

/// So many connections to a broker at most. Each but one waits for what it was late with.
const MOST_CONNECTIONS: usize = 8;

/// Messages that were sent together, on which connection, or why they were not. Those of queues that take
/// nothing now are held, and were not.
pub(super) struct Sending {
    attempt: Result<(u64, SentBatch), Trouble>,
    /// Their places among the messages.
    held: Vec<usize>,
}

/// The way to one broker.
pub(super) struct BrokerLink {
    host: BrokerHost,
    /// By how many there were before.
    publishers: BTreeMap<u64, Box<dyn BrokerPublisher>>,
    /// The one to send on, if it is not known to have ended.
    current: Option<u64>,
    /// How many connections there have been.
    connections: u64,
    health: HealthProbe,
    /// When the broker was away, as far as we know it still is.
    away: Option<Instant>,
    /// It let this way not in: another, that was opened before, may go on.
    shut_out: bool,
    closed: Closed,
    late: Late,
}

fn waiting(messages: &[&Message], reason: &str) -> Vec<PublishResult> {
    let waits = |_| PublishResult::Waiting(reason.to_owned());
    messages.iter().map(waits).collect()
}

/// Those with these places, which are in order, and the others.
fn split<'a>(messages: &[&'a Message], places: &[usize]) -> (Vec<&'a Message>, Vec<&'a Message>) {
    let is_there = |nth: &usize| places.binary_search(nth).is_ok();
    let (there, others): (Vec<usize>, Vec<usize>) = (0..messages.len()).partition(is_there);
    let of = |places: Vec<usize>| places.into_iter().map(|nth| messages[nth]).collect();
    (of(there), of(others))
}

/// Puts the fates of those with these places among the fates of the others.
fn merged(
    places: &[usize],
    there: Vec<PublishResult>,
    others: Vec<PublishResult>,
) -> Vec<PublishResult> {
    let count = there.len() + others.len();
    let (mut there, mut others) = (there.into_iter(), others.into_iter());
    (0..count)
        .filter_map(|nth| match places.binary_search(&nth) {
            Ok(_) => there.next(),
            Err(_) => others.next(),
        })
        .collect()
}

impl BrokerLink {
    pub(super) fn new(host: BrokerHost, servers: &Servers) -> Self {
        Self {
            publishers: BTreeMap::new(),
            current: None,
            connections: 0,
            health: servers.broker(&host.to_string()).probe("publishing"),
            away: None,
            shut_out: false,
            host,
            closed: Closed::default(),
            late: Late::default(),
        }
    }

    /// Sends messages, and waits for nothing but a connection.
    pub(super) fn send(&mut self, messages: &[&Message]) -> Sending {
        self.health.started();
        let held = self.held(messages);
        let attempt = match held.is_empty() {
            true => self.try_send(messages),
            false => self.try_send(&split(messages, &held).1),
        };
        Sending { attempt, held }
    }

    /// The places of those whose queues take nothing now.
    fn held(&self, messages: &[&Message]) -> Vec<usize> {
        if self.closed.is_empty() && self.late.is_empty() {
            return Vec::new();
        }
        let silent = self.late.silent(self.current);
        let is_held = |message: &Message| {
            silent.contains(message.queue.as_str()) || self.closed.of(message).is_some()
        };
        let places = 0..messages.len();
        places.filter(|nth| is_held(messages[*nth])).collect()
    }

    fn try_send(&mut self, messages: &[&Message]) -> Result<(u64, SentBatch), Trouble> {
        let number = self.open().map_err(Trouble::Broker)?;
        let sent = self
            .publisher(number)
            .map_err(Trouble::Broker)?
            .send(messages);
        Ok((number, sent?))
    }

    /// Waits for what the broker says of messages that were sent; a fate for each.
    pub(super) fn settle(
        &mut self,
        config: &Config,
        messages: &[&Message],
        sending: Sending,
    ) -> Vec<PublishResult> {
        let Sending { attempt, held } = sending;
        if held.is_empty() {
            return self.settle_sent(config, messages, attempt);
        }
        let (there, others) = split(messages, &held);
        let others = self.settle_sent(config, &others, attempt);
        let there = self.settle_held(config, &there);
        merged(&held, there, others)
    }

    fn settle_sent(
        &mut self,
        config: &Config,
        messages: &[&Message],
        attempt: Result<(u64, SentBatch), Trouble>,
    ) -> Vec<PublishResult> {
        let (number, sent) = match attempt {
            Ok(sent) => sent,
            Err(trouble) => {
                self.current = None;
                return self.meet(config, messages, trouble);
            }
        };
        let word = match self.publishers.get_mut(&number) {
            Some(publisher) => Word::of(publisher.as_mut(), sent, messages),
            // It was given up.
            None => return self.again(config, messages),
        };
        let fates = self.read(config, messages, number, word);
        self.close_idle();
        fates
    }

    /// What the broker's word is for messages that were sent on a connection.
    fn read(
        &mut self,
        config: &Config,
        messages: &[&Message],
        number: u64,
        word: Word,
    ) -> Vec<PublishResult> {
        let was_current = self.current == Some(number);
        if was_current && (word.is_silent || word.ended.is_some()) {
            self.current = None;
        }
        // What fits no queue is not declared on a connection that has ended.
        let has_ended = word.ended.is_some();
        let is_open = |said: &Confirmation| match said {
            Confirmation::Unconfirmed(_) => true,
            Confirmation::Unroutable => has_ended,
            _ => false,
        };
        let late: Vec<usize> = (0..messages.len())
            .filter(|nth| is_open(&word.confirmations[*nth]))
            .collect();
        let has_spoken = late.len() < messages.len() || messages.is_empty();
        if has_spoken && word.ended.is_none() {
            self.is_there();
        }
        self.say_of(messages, &word.confirmations);
        let Some(error) = word.ended else {
            late.iter().for_each(|nth| {
                let message = messages[*nth];
                self.late.add(number, &message.key, &message.queue);
            });
            return self.settle_routed(config, messages, number, word);
        };
        let (unknown, known) = split(messages, &late);
        let confirmations = word.confirmations.into_iter();
        let said = confirmations.filter(|said| !is_open(said));
        let known = known
            .into_iter()
            .zip(said)
            .map(|(message, said)| fate(message, said, false));
        let known = known.collect();
        let unknown = match error.into() {
            trouble if was_current => self.meet(config, &unknown, trouble),
            // Its connection ended with what was sent before, and that has been seen to.
            _ => self.again(config, &unknown),
        };
        merged(&late, unknown, known)
    }

    /// The fates of messages on a connection that lives. Queues that are missing are declared.
    fn settle_routed(
        &mut self,
        config: &Config,
        messages: &[&Message],
        number: u64,
        word: Word,
    ) -> Vec<PublishResult> {
        let is_lost = |nth: &usize| {
            word.confirmations[*nth] == Confirmation::Unroutable
                && declarable(config, messages[*nth]).is_some()
        };
        let lost: Vec<usize> = (0..messages.len()).filter(is_lost).collect();
        let is_silent = word.is_silent;
        let fates = messages.iter().zip(word.confirmations);
        let fates = fates.map(|(message, said)| fate(message, said, is_silent));
        if lost.is_empty() {
            return fates.collect();
        }
        let found = (0..)
            .zip(fates)
            .filter(|(nth, _)| lost.binary_search(nth).is_err());
        let found = found.map(|(_, fate)| fate).collect();
        let there = self.declare_and_publish(config, &split(messages, &lost).0, number);
        merged(&lost, there, found)
    }

    /// What became of messages is not known, and their connection is gone.
    fn again(&mut self, config: &Config, messages: &[&Message]) -> Vec<PublishResult> {
        if messages.is_empty() {
            return Vec::new();
        }
        if self.away.is_some() {
            return waiting(messages, "the broker has gone away");
        }
        let sending = self.send(messages);
        self.settle(config, messages, sending)
    }

    /// The trouble came of messages, on a connection that is no more.
    fn meet(
        &mut self,
        config: &Config,
        messages: &[&Message],
        trouble: Trouble,
    ) -> Vec<PublishResult> {
        match trouble {
            Trouble::Broker(error) => {
                self.fails(&error);
                waiting(messages, &error.to_string())
            }
            Trouble::Message(refusal) => {
                self.is_there();
                self.find_the_refused(config, messages, &refusal)
            }
        }
    }

    /// The rows of messages that were published say so now.
    pub(super) fn rows_marked(&mut self, messages: &[&Message]) {
        if let Some(number) = self.current
            && let Some(publisher) = self.publishers.get_mut(&number)
        {
            publisher.rows_marked(messages);
        }
    }

    /// Gives up what was sent and not settled.
    pub(super) fn forget(&mut self) {
        self.current = None;
        self.publishers
            .values_mut()
            .for_each(|publisher| publisher.abandon_sent());
        self.close_idle();
    }

    /// Asks what the broker has said of messages that it was late with. While there are some, it is seen whether it
    /// takes others: else not their queues are silent, but it is.
    pub(super) fn follow_up_unconfirmed(&mut self) -> &Known {
        let queues = self.late.queues();
        for (number, publisher) in &mut self.publishers {
            let late = publisher.late_confirmations();
            if late.has_ended && self.current == Some(*number) {
                self.current = None;
            }
            self.late.learn(*number, late);
        }
        self.close_idle();
        if self.current.is_none() && self.away.is_none() && !self.late.is_empty() {
            match self.open() {
                Ok(_) => self.is_there(),
                Err(error) => self.fails(&error),
            }
        }
        let silent_now = self.late.silent(self.current);
        let is_silent = |queue: &&String| silent_now.contains(queue.as_str());
        let (silent_now, open): (Vec<&String>, Vec<&String>) = queues.iter().partition(is_silent);
        if self.away.is_none() {
            silent_now
                .into_iter()
                .for_each(|queue| self.waits(&ServerPart::Queue(queue.clone()), &silent(queue)));
        }
        open.into_iter()
            .for_each(|queue| self.goes_on(&ServerPart::Queue(queue.clone())));
        self.late.known()
    }

    /// The messages that the broker is late with.
    pub(super) const fn late(&mut self) -> &mut Late {
        &mut self.late
    }

    /// Whether there are some.
    pub(super) fn has_unconfirmed(&self) -> bool {
        !self.late.is_empty()
    }

    /// Sees whether a broker that was away is back, though nothing waits for it any more: another
    /// service may have published that.
    pub(super) fn probe_if_away(&mut self) {
        if self.away.is_some_and(|away| away.elapsed() > NOTHING_WAITS) {
            self.health.started();
            match self.open() {
                Ok(_) => self.is_there(),
                Err(error) => self.fails(&error),
            }
        }
    }

    /// How long ago the broker was asked last, if it was away then.
    pub(super) fn away_for(&self) -> Option<Duration> {
        self.away.map(|away| away.elapsed())
    }

    fn is_there(&mut self) {
        self.away = None;
        self.health.succeeded();
    }

    fn fails(&mut self, error: &BrokerError) {
        self.current = None;
        self.close_idle();
        if let BrokerError::Away(_) = error {
            self.away = Some(Instant::now());
            self.health.failed(error);
        } else {
            self.is_there();
            self.shut_out = true;
            self.says_that_it_is_shut_out(error);
        }
    }

    /// The connection to send on.
    fn open(&mut self) -> Result<u64, BrokerError> {
        if let Some(number) = self.current.take()
            && self
                .publishers
                .get_mut(&number)
                .is_some_and(|open| open.is_open())
        {
            self.current = Some(number);
            return Ok(number);
        }
        self.close_idle();
        let number = self.connect()?;
        self.current = Some(number);
        Ok(number)
    }

    /// One more connection.
    fn connect(&mut self) -> Result<u64, BrokerError> {
        if self.publishers.len() >= MOST_CONNECTIONS {
            return Err(BrokerError::Ended(format!(
                "{MOST_CONNECTIONS} connections wait for the broker to confirm what it was sent"
            )));
        }
        let publisher = broker::publisher(&self.host)?;
        self.connections += 1;
        self.publishers.insert(self.connections, publisher);
        Ok(self.connections)
    }

    fn publisher(&mut self, number: u64) -> Result<&mut dyn BrokerPublisher, BrokerError> {
        match self.publishers.get_mut(&number) {
            Some(publisher) => Ok(publisher.as_mut()),
            None => Err(BrokerError::Away("the connection is gone".to_owned())),
        }
    }

    /// Closes connections that nothing is to be asked of any more.
    fn close_idle(&mut self) {
        let current = self.current;
        self.publishers
            .retain(|number, publisher| current == Some(*number) || !publisher.is_idle());
    }
}
