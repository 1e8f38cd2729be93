//! Publishes unroutable messages again, once their queues are declared.

use super::link::BrokerLink;
use super::refusals::SideConnection;
use super::result_slots::{ResultSlots, groups};
use super::settle::waiting;
use crate::broker::Confirmation;
use crate::config::Config;
use crate::message::Message;
use crate::publish::publish_result::{
    ConfirmationBatch, MessageRefusal, PublishFailure, PublishResult, declarable, result_of,
};

impl BrokerLink {
    /// Declares the queues of unroutable messages, and publishes the messages again. Uses connection `number`, unless
    /// other messages are under way on it, which a refusal would affect.
    pub(super) fn declare_and_publish(
        &mut self,
        config: &Config,
        messages: &[&Message],
        number: u64,
    ) -> Vec<PublishResult> {
        let mut results = ResultSlots::for_messages(messages);
        let is_free = self
            .publishers
            .get(&number)
            .is_some_and(|publisher| publisher.is_idle());
        let mut side = is_free.then_some(number);
        for (_, group) in groups(messages, |message| &message.queue) {
            let found = self.declare_and_publish_to_one(config, &mut side, &group);
            results.set_each(&group, found);
        }
        results.into_results()
    }

    fn declare_and_publish_to_one(
        &mut self,
        config: &Config,
        side: &mut SideConnection,
        group: &[(usize, &Message)],
    ) -> Vec<PublishResult> {
        let messages: Vec<&Message> = group.iter().map(|(_, message)| *message).collect();
        let Some(first) = messages.first() else {
            return Vec::new();
        };
        let published = self
            .side_connection(side)
            .map_err(PublishFailure::Broker)
            .and_then(|number| {
                let publisher = self.publisher(number).map_err(PublishFailure::Broker)?;
                if let Some(queue) = declarable(config, first) {
                    publisher.declare(queue)?;
                }
                let sent = publisher.send(&messages)?;
                let batch = ConfirmationBatch::of(publisher, sent, &messages);
                Ok((number, batch))
            });
        match published {
            Ok((number, batch)) => {
                // `settle_declared` does not declare again, so this can't recurse.
                let word_ended = batch.ended.is_some();
                let results = self.settle_declared(&messages, number, batch);
                if word_ended {
                    *side = None;
                }
                results
            }
            Err(PublishFailure::Broker(error)) => {
                self.mark_failed(&error);
                waiting(&messages, &error.to_string())
            }
            Err(PublishFailure::Message(MessageRefusal::ForGood(reason))) => {
                let failed = |_: &&Message| PublishResult::Failed(reason.clone());
                messages.iter().map(failed).collect()
            }
            Err(failure) => match self.settle_single_failure(first, failure) {
                PublishResult::Refused(reason) => {
                    let refused = |_: &&Message| PublishResult::Refused(reason.clone());
                    messages.iter().map(refused).collect()
                }
                _ => waiting(&messages, "the broker has gone away"),
            },
        }
    }

    fn settle_declared(
        &mut self,
        messages: &[&Message],
        number: u64,
        batch: ConfirmationBatch,
    ) -> Vec<PublishResult> {
        self.report_confirmations(messages, &batch.confirmations);
        if let Some(error) = &batch.ended {
            if self.current == Some(number) {
                self.current = None;
            }
            let reason = error.to_string();
            let results = messages.iter().zip(batch.confirmations);
            let results = results.map(|(message, said)| match said {
                Confirmation::Unconfirmed(_) => PublishResult::Waiting(reason.clone()),
                said => result_of(message, said, false),
            });
            return results.collect();
        }
        let results = messages.iter().zip(batch.confirmations);
        results
            .map(|(message, said)| {
                if matches!(said, Confirmation::Unconfirmed(_)) {
                    self.unconfirmed.add(number, &message.key, &message.queue);
                }
                result_of(message, said, batch.is_silent)
            })
            .collect()
    }
}
