//! Sends messages on a link, and finds the result of each from the broker's confirmations.

use super::link::BrokerLink;
use crate::broker::{Confirmation, SentBatch};
use crate::config::Config;
use crate::message::Message;
use crate::publish::publish_result::{
    ConfirmationBatch, PublishFailure, PublishResult, declarable, result_of,
};

/// The batch that was sent and the number of its connection, or why sending failed. Messages whose queues take
/// none now were postponed, not sent.
pub(in crate::publish) struct SendAttempt {
    sent: Result<(u64, SentBatch), PublishFailure>,
    /// The indexes of the postponed messages.
    postponed: Vec<usize>,
}

/// [`PublishResult::Waiting`] for each of the messages.
pub(super) fn waiting(messages: &[&Message], reason: &str) -> Vec<PublishResult> {
    let waits = |_| PublishResult::Waiting(reason.to_owned());
    messages.iter().map(waits).collect()
}

/// Splits the messages into those at `indexes`, which are in order, and the others.
fn split<'a>(messages: &[&'a Message], indexes: &[usize]) -> (Vec<&'a Message>, Vec<&'a Message>) {
    let is_selected = |nth: &usize| indexes.binary_search(nth).is_ok();
    let (selected, others): (Vec<usize>, Vec<usize>) = (0..messages.len()).partition(is_selected);
    let of = |indexes: Vec<usize>| indexes.into_iter().map(|nth| messages[nth]).collect();
    (of(selected), of(others))
}

/// Merges the results of the messages at `indexes` with the results of the others; the inverse of [`split`].
fn merge(
    indexes: &[usize],
    selected: Vec<PublishResult>,
    others: Vec<PublishResult>,
) -> Vec<PublishResult> {
    let count = selected.len() + others.len();
    let (mut selected, mut others) = (selected.into_iter(), others.into_iter());
    (0..count)
        .filter_map(|nth| match indexes.binary_search(&nth) {
            Ok(_) => selected.next(),
            Err(_) => others.next(),
        })
        .collect()
}

impl BrokerLink {
    /// Sends messages. Waits only for a connection.
    pub(in crate::publish) fn send(&mut self, messages: &[&Message]) -> SendAttempt {
        self.health.started();
        let postponed = self.find_postponed(messages);
        let sent = match postponed.is_empty() {
            true => self.try_send(messages),
            false => self.try_send(&split(messages, &postponed).1),
        };
        SendAttempt { sent, postponed }
    }

    /// The indexes of the messages whose queues take none now.
    fn find_postponed(&self, messages: &[&Message]) -> Vec<usize> {
        if self.forbidden.is_empty() && self.unconfirmed.is_empty() {
            return Vec::new();
        }
        let silent = self.unconfirmed.silent_queues(self.current);
        let is_postponed = |message: &Message| {
            silent.contains(message.queue.as_str()) || self.forbidden.of(message).is_some()
        };
        let indexes = 0..messages.len();
        indexes.filter(|nth| is_postponed(messages[*nth])).collect()
    }

    fn try_send(&mut self, messages: &[&Message]) -> Result<(u64, SentBatch), PublishFailure> {
        let number = self.open().map_err(PublishFailure::Broker)?;
        let sent = self
            .publisher(number)
            .map_err(PublishFailure::Broker)?
            .send(messages);
        Ok((number, sent?))
    }

    /// Waits for the confirmations of messages that were sent; returns a result for each.
    pub(in crate::publish) fn settle(
        &mut self,
        config: &Config,
        messages: &[&Message],
        attempt: SendAttempt,
    ) -> Vec<PublishResult> {
        let SendAttempt { sent, postponed } = attempt;
        if postponed.is_empty() {
            return self.settle_sent(config, messages, sent);
        }
        let (selected, others) = split(messages, &postponed);
        let others = self.settle_sent(config, &others, sent);
        let selected = self.settle_postponed(config, &selected);
        merge(&postponed, selected, others)
    }

    fn settle_sent(
        &mut self,
        config: &Config,
        messages: &[&Message],
        sent: Result<(u64, SentBatch), PublishFailure>,
    ) -> Vec<PublishResult> {
        let (number, sent) = match sent {
            Ok(sent) => sent,
            Err(failure) => {
                self.current = None;
                return self.settle_failure(config, messages, failure);
            }
        };
        let batch = match self.publishers.get_mut(&number) {
            Some(publisher) => ConfirmationBatch::of(publisher.as_mut(), sent, messages),
            // The connection was closed.
            None => return self.send_again(config, messages),
        };
        let results = self.settle_confirmations(config, messages, number, batch);
        self.close_idle();
        results
    }

    /// The results of messages by their confirmations on connection `number`.
    fn settle_confirmations(
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
        // An unroutable message's queue can't be declared on a connection that has ended: it is sent again.
        let has_ended = batch.ended.is_some();
        let is_unsettled = |said: &Confirmation| match said {
            Confirmation::Unconfirmed(_) => true,
            Confirmation::Unroutable => has_ended,
            _ => false,
        };
        let unsettled: Vec<usize> = (0..messages.len())
            .filter(|nth| is_unsettled(&batch.confirmations[*nth]))
            .collect();
        let has_answered = unsettled.len() < messages.len() || messages.is_empty();
        if has_answered && batch.ended.is_none() {
            self.mark_available();
        }
        self.report_confirmations(messages, &batch.confirmations);
        let Some(error) = batch.ended else {
            unsettled.iter().for_each(|nth| {
                let message = messages[*nth];
                self.unconfirmed.add(number, &message.key, &message.queue);
            });
            return self.settle_routed(config, messages, number, batch);
        };
        let (unknown, known) = split(messages, &unsettled);
        let confirmations = batch.confirmations.into_iter();
        let said = confirmations.filter(|said| !is_unsettled(said));
        let known = known
            .into_iter()
            .zip(said)
            .map(|(message, said)| result_of(message, said, false));
        let known = known.collect();
        let unknown = match error.into() {
            failure if was_current => self.settle_failure(config, &unknown, failure),
            // The failure of an earlier batch ended the connection, and has been handled.
            _ => self.send_again(config, &unknown),
        };
        merge(&unsettled, unknown, known)
    }

    /// The results of messages on an open connection. Declares missing queues and publishes their messages again.
    fn settle_routed(
        &mut self,
        config: &Config,
        messages: &[&Message],
        number: u64,
        batch: ConfirmationBatch,
    ) -> Vec<PublishResult> {
        let needs_declaration = |nth: &usize| {
            batch.confirmations[*nth] == Confirmation::Unroutable
                && declarable(config, messages[*nth]).is_some()
        };
        let undeclared: Vec<usize> = (0..messages.len()).filter(needs_declaration).collect();
        let is_silent = batch.is_silent;
        let results = messages.iter().zip(batch.confirmations);
        let results = results.map(|(message, said)| result_of(message, said, is_silent));
        if undeclared.is_empty() {
            return results.collect();
        }
        let found = (0..)
            .zip(results)
            .filter(|(nth, _)| undeclared.binary_search(nth).is_err());
        let found = found.map(|(_, result)| result).collect();
        let selected = self.declare_and_publish(config, &split(messages, &undeclared).0, number);
        merge(&undeclared, selected, found)
    }

    /// Sends messages again whose connection has ended before the broker answered for them.
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
        let attempt = self.send(messages);
        self.settle(config, messages, attempt)
    }

    /// The results of messages whose connection has failed.
    fn settle_failure(
        &mut self,
        config: &Config,
        messages: &[&Message],
        failure: PublishFailure,
    ) -> Vec<PublishResult> {
        match failure {
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
