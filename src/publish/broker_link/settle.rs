//! Sends messages on a link, and finds the result of each from the broker's confirmations.

use super::link::BrokerLink;
use crate::broker::{Confirmation, SentBatch};
use crate::config::Config;
use crate::message::Message;
use crate::publish::publish_result::{
    ConfirmationBatch, PublishFailure, PublishResult, declarable, result_of,
};

/// Messages that were sent together, on which connection, or why they were not. Those of queues that take
/// nothing now are held, and were not.
pub(in crate::publish) struct SendAttempt {
    attempt: Result<(u64, SentBatch), PublishFailure>,
    /// Their places among the messages.
    held: Vec<usize>,
}

/// [`PublishResult::Waiting`] for each of the messages.
pub(super) fn waiting(messages: &[&Message], reason: &str) -> Vec<PublishResult> {
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

/// Puts the results of those with these places among the results of the others.
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
    /// Sends messages, and waits for nothing but a connection.
    pub(in crate::publish) fn send(&mut self, messages: &[&Message]) -> SendAttempt {
        self.health.started();
        let held = self.held(messages);
        let attempt = match held.is_empty() {
            true => self.try_send(messages),
            false => self.try_send(&split(messages, &held).1),
        };
        SendAttempt { attempt, held }
    }

    /// The places of those whose queues take nothing now.
    pub(super) fn held(&self, messages: &[&Message]) -> Vec<usize> {
        if self.forbidden.is_empty() && self.unconfirmed.is_empty() {
            return Vec::new();
        }
        let silent = self.unconfirmed.silent_queues(self.current);
        let is_held = |message: &Message| {
            silent.contains(message.queue.as_str()) || self.forbidden.of(message).is_some()
        };
        let places = 0..messages.len();
        places.filter(|nth| is_held(messages[*nth])).collect()
    }

    pub(super) fn try_send(
        &mut self,
        messages: &[&Message],
    ) -> Result<(u64, SentBatch), PublishFailure> {
        let number = self.open().map_err(PublishFailure::Broker)?;
        let sent = self
            .publisher(number)
            .map_err(PublishFailure::Broker)?
            .send(messages);
        Ok((number, sent?))
    }

    /// Waits for what the broker says of messages that were sent; a result for each.
    pub(in crate::publish) fn settle(
        &mut self,
        config: &Config,
        messages: &[&Message],
        sending: SendAttempt,
    ) -> Vec<PublishResult> {
        let SendAttempt { attempt, held } = sending;
        if held.is_empty() {
            return self.settle_sent(config, messages, attempt);
        }
        let (there, others) = split(messages, &held);
        let others = self.settle_sent(config, &others, attempt);
        let there = self.settle_held(config, &there);
        merged(&held, there, others)
    }

    pub(super) fn settle_sent(
        &mut self,
        config: &Config,
        messages: &[&Message],
        attempt: Result<(u64, SentBatch), PublishFailure>,
    ) -> Vec<PublishResult> {
        let (number, sent) = match attempt {
            Ok(sent) => sent,
            Err(trouble) => {
                self.current = None;
                return self.settle_failure(config, messages, trouble);
            }
        };
        let batch = match self.publishers.get_mut(&number) {
            Some(publisher) => ConfirmationBatch::of(publisher.as_mut(), sent, messages),
            // It was given up.
            None => return self.send_again(config, messages),
        };
        let results = self.settle_confirmations(config, messages, number, batch);
        self.close_idle();
        results
    }

    /// What the broker's batch is for messages that were sent on a connection.
    pub(super) fn settle_confirmations(
        &mut self,
        config: &Config,
        messages: &[&Message],
        number: u64,
        batch: ConfirmationBatch,
    ) -> Vec<PublishResult> {
        let was_current = self.current == Some(number);
        if was_current && (batch.is_silent || batch.ended.is_some()) {
            self.current = None;
        }
        // What fits no queue is not declared on a connection that has ended.
        let has_ended = batch.ended.is_some();
        let is_open = |said: &Confirmation| match said {
            Confirmation::Unconfirmed(_) => true,
            Confirmation::Unroutable => has_ended,
            _ => false,
        };
        let late: Vec<usize> = (0..messages.len())
            .filter(|nth| is_open(&batch.confirmations[*nth]))
            .collect();
        let has_spoken = late.len() < messages.len() || messages.is_empty();
        if has_spoken && batch.ended.is_none() {
            self.mark_available();
        }
        self.report_confirmations(messages, &batch.confirmations);
        let Some(error) = batch.ended else {
            late.iter().for_each(|nth| {
                let message = messages[*nth];
                self.unconfirmed.add(number, &message.key, &message.queue);
            });
            return self.settle_routed(config, messages, number, batch);
        };
        let (unknown, known) = split(messages, &late);
        let confirmations = batch.confirmations.into_iter();
        let said = confirmations.filter(|said| !is_open(said));
        let known = known
            .into_iter()
            .zip(said)
            .map(|(message, said)| result_of(message, said, false));
        let known = known.collect();
        let unknown = match error.into() {
            trouble if was_current => self.settle_failure(config, &unknown, trouble),
            // Its connection ended with what was sent before, and that has been seen to.
            _ => self.send_again(config, &unknown),
        };
        merged(&late, unknown, known)
    }

    /// The results of messages on a connection that lives. Queues that are missing are declared.
    pub(super) fn settle_routed(
        &mut self,
        config: &Config,
        messages: &[&Message],
        number: u64,
        batch: ConfirmationBatch,
    ) -> Vec<PublishResult> {
        let is_lost = |nth: &usize| {
            batch.confirmations[*nth] == Confirmation::Unroutable
                && declarable(config, messages[*nth]).is_some()
        };
        let lost: Vec<usize> = (0..messages.len()).filter(is_lost).collect();
        let is_silent = batch.is_silent;
        let results = messages.iter().zip(batch.confirmations);
        let results = results.map(|(message, said)| result_of(message, said, is_silent));
        if lost.is_empty() {
            return results.collect();
        }
        let found = (0..)
            .zip(results)
            .filter(|(nth, _)| lost.binary_search(nth).is_err());
        let found = found.map(|(_, result)| result).collect();
        let there = self.declare_and_publish(config, &split(messages, &lost).0, number);
        merged(&lost, there, found)
    }

    /// What became of messages is not known, and their connection is gone.
    pub(super) fn send_again(
        &mut self,
        config: &Config,
        messages: &[&Message],
    ) -> Vec<PublishResult> {
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
    pub(super) fn settle_failure(
        &mut self,
        config: &Config,
        messages: &[&Message],
        trouble: PublishFailure,
    ) -> Vec<PublishResult> {
        match trouble {
            PublishFailure::Broker(error) => {
                self.mark_failed(&error);
                waiting(messages, &error.to_string())
            }
            PublishFailure::Message(refusal) => {
                self.mark_available();
                self.find_refused(config, messages, &refusal)
            }
        }
    }
}
