//! Messages that the broker refuses. The broker closes the channel over a refused message, and every other message
//! under way on that channel has to be sent again. So refused messages are tried one at a time, on a connection
//! beside the current one.

use super::link::BrokerLink;
use super::result_slots::{MessageGroup, ResultSlots, groups};
use crate::broker::{BrokerError, Confirmation};
use crate::config::Config;
use crate::message::Message;
use crate::publish::forbidden;
use crate::publish::publish_result::{
    ConfirmationBatch, MessageRefusal, PublishFailure, PublishResult, declarable, refused_reason,
    result_of, silent_reason,
};

/// The number of the connection beside the current one, once it is open.
pub(super) type SideConnection = Option<u64>;

impl BrokerLink {
    /// Finds the messages over which the broker has closed the channel. If permission is lacking, one message of
    /// each group is tried by itself, and decides for its group. After any other refusal each message is tried.
    pub(super) fn find_refused(
        &mut self,
        config: &Config,
        messages: &[&Message],
        refusal: &MessageRefusal,
    ) -> Vec<PublishResult> {
        let each = matches!(refusal, MessageRefusal::ForGood(_));
        let mut results = ResultSlots::for_messages(messages);
        let mut side = None;
        let mut permitted: MessageGroup<'_> = Vec::new();
        for (_, group) in groups(messages, |message| {
            (&message.queue, &message.exchange, &message.routing_key)
        }) {
            self.try_group(
                config,
                &mut side,
                (&group, each),
                &mut results,
                &mut permitted,
            );
        }
        permitted.sort_unstable_by_key(|(nth, _)| *nth);
        let others: Vec<&Message> = permitted.iter().map(|(_, message)| *message).collect();
        results.set_each(&permitted, self.send_again(config, &others));
        results.into_results()
    }

    /// Tries the messages of a group one at a time. Unless `each` is set, the first result that is not a failure of
    /// the message itself decides for the rest: they are refused or wait too, or are added to `permitted`.
    fn try_group<'a>(
        &mut self,
        config: &Config,
        side: &mut SideConnection,
        (group, each): (&[(usize, &'a Message)], bool),
        results: &mut ResultSlots,
        permitted: &mut MessageGroup<'a>,
    ) {
        let mut rest = group;
        while let Some(((nth, message), others)) = rest.split_first() {
            let forbidden = self.forbidden.of(message);
            let result = match forbidden.filter(|path| !path.may_be_retried()) {
                Some(path) => PublishResult::Refused(path.reason.clone()),
                None if self.away.is_some() => {
                    PublishResult::Waiting("the broker has gone away".to_owned())
                }
                None => self.publish_single(config, side, message),
            };
            rest = others;
            match &result {
                // Only this message may be at fault.
                PublishResult::Failed(_) => {}
                PublishResult::Published | PublishResult::QueueBusy(_) if each => {}
                PublishResult::Refused(reason) => {
                    results.set_all(rest, |_| PublishResult::Refused(reason.clone()));
                    rest = &[];
                }
                PublishResult::Waiting(reason) => {
                    results.set_all(rest, |_| PublishResult::Waiting(reason.clone()));
                    rest = &[];
                }
                PublishResult::Published
                | PublishResult::QueueBusy(_)
                | PublishResult::Unconfirmed { .. } => {
                    permitted.extend(rest);
                    rest = &[];
                }
            }
            results.set_one(*nth, result);
        }
    }

    /// The results of postponed messages. Of a forbidden group, one message is tried once its retry is due.
    pub(super) fn settle_postponed(
        &mut self,
        config: &Config,
        messages: &[&Message],
    ) -> Vec<PublishResult> {
        let mut results = ResultSlots::for_messages(messages);
        let mut side = None;
        let mut permitted: MessageGroup<'_> = Vec::new();
        for (_, mut group) in groups(messages, |message| (&message.queue, &message.exchange)) {
            let Some(((_, first), _)) = group.split_first() else {
                continue;
            };
            if self
                .unconfirmed
                .silent_queues(self.current)
                .contains(first.queue.as_str())
            {
                results.set_all(&group, |message| {
                    PublishResult::QueueBusy(silent_reason(&message.queue))
                });
                continue;
            }
            if let Some(path) = self.forbidden.of(first) {
                // The routing key that was refused is tried first.
                group.sort_by_key(|(_, message)| message.routing_key != path.routing_key);
            }
            self.try_group(
                config,
                &mut side,
                (&group, false),
                &mut results,
                &mut permitted,
            );
        }
        permitted.sort_unstable_by_key(|(nth, _)| *nth);
        let others: Vec<&Message> = permitted.iter().map(|(_, message)| *message).collect();
        results.set_each(&permitted, self.send_again(config, &others));
        self.close_idle();
        results.into_results()
    }

    /// Publishes one message on the side connection, where a refusal affects no other message.
    fn publish_single(
        &mut self,
        config: &Config,
        side: &mut SideConnection,
        message: &Message,
    ) -> PublishResult {
        match self.try_single(side, message) {
            Ok(Confirmation::Unroutable) if declarable(config, message).is_some() => {
                self.declare_and_try(config, side, message, None)
            }
            Ok(said) => self.settle_single(*side, message, said),
            Err(PublishFailure::Message(MessageRefusal::ForGood(reason))) => {
                // The queue's exchange may be missing: if it is not durable, it is gone after a restart of the broker
                // until somebody declares it.
                match declarable(config, message) {
                    Some(_) if !message.exchange.is_empty() => {
                        self.declare_and_try(config, side, message, Some(reason))
                    }
                    _ => PublishResult::Failed(reason),
                }
            }
            Err(failure) => self.settle_single_failure(message, failure),
        }
    }

    /// Declares the message's queue and publishes the message. `reason` is why it was refused before, if it was.
    fn declare_and_try(
        &mut self,
        config: &Config,
        side: &mut SideConnection,
        message: &Message,
        reason: Option<String>,
    ) -> PublishResult {
        let declared = self
            .side_connection(side)
            .map_err(PublishFailure::Broker)
            .and_then(|number| {
                let publisher = self.publisher(number).map_err(PublishFailure::Broker)?;
                if let Some(queue) = declarable(config, message) {
                    publisher.declare(queue)?;
                }
                Ok(())
            });
        match declared.and_then(|()| self.try_single(side, message)) {
            Ok(said) => self.settle_single(*side, message, said),
            Err(PublishFailure::Message(MessageRefusal::ForGood(last))) => {
                PublishResult::Failed(reason.unwrap_or(last))
            }
            Err(failure) => self.settle_single_failure(message, failure),
        }
    }

    fn try_single(
        &mut self,
        side: &mut SideConnection,
        message: &Message,
    ) -> Result<Confirmation, PublishFailure> {
        let number = self.side_connection(side).map_err(PublishFailure::Broker)?;
        let publisher = self.publisher(number).map_err(PublishFailure::Broker)?;
        let sent = publisher.send(&[message])?;
        let batch = ConfirmationBatch::of(publisher, sent, &[message]);
        if let Some(error) = batch.ended {
            return Err(error.into());
        }
        let said = batch.confirmations.into_iter().next();
        said.ok_or_else(|| {
            let silent = BrokerError::Away("the broker did not answer for a message".to_owned());
            PublishFailure::Broker(silent)
        })
    }

    fn settle_single(
        &mut self,
        side: SideConnection,
        message: &Message,
        said: Confirmation,
    ) -> PublishResult {
        if let (Confirmation::Unconfirmed(_), Some(number)) = (&said, side) {
            self.unconfirmed.add(number, &message.key, &message.queue);
        } else {
            self.mark_available();
            self.forbidden.remove(message);
        }
        let said = [said];
        self.report_confirmations(&[message], &said);
        let [said] = said;
        result_of(message, said, true)
    }

    pub(super) fn settle_single_failure(
        &mut self,
        message: &Message,
        failure: PublishFailure,
    ) -> PublishResult {
        match failure {
            PublishFailure::Broker(error) => {
                self.mark_failed(&error);
                PublishResult::Waiting(error.to_string())
            }
            PublishFailure::Message(MessageRefusal::ForGood(reason)) => {
                PublishResult::Failed(reason)
            }
            PublishFailure::Message(MessageRefusal::ForNow(reason)) => {
                self.mark_available();
                self.forbidden.add(message, &reason);
                self.report_waiting(
                    &forbidden::server_part(message),
                    &refused_reason(message, &reason),
                );
                PublishResult::Refused(reason)
            }
        }
    }

    /// The number of the side connection. Opens one if necessary.
    pub(super) fn side_connection(
        &mut self,
        side: &mut SideConnection,
    ) -> Result<u64, BrokerError> {
        if let Some(number) = *side
            && self
                .publishers
                .get_mut(&number)
                .is_some_and(|open| open.is_open())
        {
            return Ok(number);
        }
        let number = self.connect()?;
        *side = Some(number);
        Ok(number)
    }
}
