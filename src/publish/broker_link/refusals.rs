//! Messages that the broker does not take from us. It closes the channel over one, and what else is under way there
//! has to be sent again: so they are tried one at a time, on a connection beside the current one.

use std::collections::BTreeMap;

use super::{BrokerLink, waiting};
use crate::broker::{BrokerError, Confirmation};
use crate::config::Config;
use crate::message::Message;
use crate::publish::forbidden;
use crate::publish::publish_result::{
    PublishResult, Refusal, Trouble, Word, declarable, fate, refused, silent,
};

/// The connection beside the current one, once there is one.
type Side = Option<u64>;

/// Messages that are permitted together, or not.
type Group<'a> = Vec<(usize, &'a Message)>;

fn groups<'a, K: Ord>(
    messages: &[&'a Message],
    of: impl Fn(&'a Message) -> K,
) -> BTreeMap<K, Group<'a>> {
    let mut groups: BTreeMap<K, Group<'a>> = BTreeMap::new();
    for (nth, message) in messages.iter().enumerate() {
        groups.entry(of(message)).or_default().push((nth, message));
    }
    groups
}

/// Fates that are found one after the other.
struct Fates(Vec<Option<PublishResult>>);

impl Fates {
    fn of(messages: &[&Message]) -> Self {
        Self(messages.iter().map(|_| None).collect())
    }

    fn set(&mut self, group: &[(usize, &Message)], fate: impl Fn(&Message) -> PublishResult) {
        for (nth, message) in group {
            self.0[*nth] = Some(fate(message));
        }
    }

    fn put(&mut self, group: &[(usize, &Message)], fates: Vec<PublishResult>) {
        for ((nth, _), fate) in group.iter().zip(fates) {
            self.0[*nth] = Some(fate);
        }
    }

    fn all(self) -> Vec<PublishResult> {
        let unknown = || PublishResult::Waiting("it is not known yet".to_owned());
        let fates = self.0.into_iter();
        fates.map(|fate| fate.unwrap_or_else(unknown)).collect()
    }
}

impl BrokerLink {
    /// One of the messages made the broker close the channel. Where that is what it is permitted for now, the first of
    /// each kind is tried by itself, and the others go where that went; else each.
    pub(super) fn find_the_refused(
        &mut self,
        config: &Config,
        messages: &[&Message],
        refusal: &Refusal,
    ) -> Vec<PublishResult> {
        let each = matches!(refusal, Refusal::ForGood(_));
        let mut fates = Fates::of(messages);
        let mut side = None;
        let mut permitted: Group<'_> = Vec::new();
        for (_, group) in groups(messages, |of| (&of.queue, &of.exchange, &of.routing_key)) {
            self.try_group(
                config,
                &mut side,
                (&group, each),
                &mut fates,
                &mut permitted,
            );
        }
        permitted.sort_unstable_by_key(|(nth, _)| *nth);
        let others: Vec<&Message> = permitted.iter().map(|(_, message)| *message).collect();
        fates.put(&permitted, self.again(config, &others));
        fates.all()
    }

    fn try_group<'a>(
        &mut self,
        config: &Config,
        side: &mut Side,
        (group, each): (&[(usize, &'a Message)], bool),
        fates: &mut Fates,
        permitted: &mut Group<'a>,
    ) {
        let mut rest = group;
        while let Some(((nth, message), others)) = rest.split_first() {
            let known = self.closed.of(message);
            let fate = match known.filter(|closed| !closed.is_due()) {
                Some(closed) => PublishResult::Refused(closed.reason.clone()),
                None if self.away.is_some() => {
                    PublishResult::Waiting("the broker has gone away".to_owned())
                }
                None => self.publish_alone(config, side, message),
            };
            rest = others;
            match &fate {
                // It may be of that message alone.
                PublishResult::Failed(_) => {}
                PublishResult::Published | PublishResult::Held(_) if each => {}
                PublishResult::Refused(reason) => {
                    fates.set(rest, |_| PublishResult::Refused(reason.clone()));
                    rest = &[];
                }
                PublishResult::Waiting(reason) => {
                    fates.set(rest, |_| PublishResult::Waiting(reason.clone()));
                    rest = &[];
                }
                PublishResult::Published
                | PublishResult::Held(_)
                | PublishResult::Unconfirmed { .. } => {
                    permitted.extend(rest);
                    rest = &[];
                }
            }
            fates.0[*nth] = Some(fate);
        }
    }

    /// The fates of messages whose queues take nothing now. Of those that are refused one is tried, if it is time to.
    pub(super) fn settle_held(
        &mut self,
        config: &Config,
        messages: &[&Message],
    ) -> Vec<PublishResult> {
        let mut fates = Fates::of(messages);
        let mut side = None;
        let mut permitted: Group<'_> = Vec::new();
        for (_, mut group) in groups(messages, |message| (&message.queue, &message.exchange)) {
            let Some(((_, first), _)) = group.split_first() else {
                continue;
            };
            if self
                .late
                .silent(self.current)
                .contains(first.queue.as_str())
            {
                fates.set(&group, |message| {
                    PublishResult::Held(silent(&message.queue))
                });
                continue;
            }
            if let Some(closed) = self.closed.of(first) {
                // One that was refused first.
                group.sort_by_key(|(_, message)| message.routing_key != closed.routing_key);
            }
            self.try_group(
                config,
                &mut side,
                (&group, false),
                &mut fates,
                &mut permitted,
            );
        }
        permitted.sort_unstable_by_key(|(nth, _)| *nth);
        let others: Vec<&Message> = permitted.iter().map(|(_, message)| *message).collect();
        fates.put(&permitted, self.again(config, &others));
        self.close_idle();
        fates.all()
    }

    /// Publishes a message on a connection where it harms no other.
    fn publish_alone(
        &mut self,
        config: &Config,
        side: &mut Side,
        message: &Message,
    ) -> PublishResult {
        match self.try_alone(side, message) {
            Ok(Confirmation::Unroutable) if declarable(config, message).is_some() => {
                self.declare_and_try(config, side, message, None)
            }
            Ok(said) => self.said_alone(*side, message, said),
            Err(Trouble::Message(Refusal::ForGood(reason))) => {
                // The exchange of its queue may be missing: it is not durable, and gone after a restart of the broker
                // until somebody declares it.
                match declarable(config, message) {
                    Some(_) if !message.exchange.is_empty() => {
                        self.declare_and_try(config, side, message, Some(reason))
                    }
                    _ => PublishResult::Failed(reason),
                }
            }
            Err(trouble) => self.troubled_alone(message, trouble),
        }
    }

    /// The same once its queue is declared; `reason` is why it was refused before, if it was.
    fn declare_and_try(
        &mut self,
        config: &Config,
        side: &mut Side,
        message: &Message,
        reason: Option<String>,
    ) -> PublishResult {
        let declared = self
            .beside(side)
            .map_err(Trouble::Broker)
            .and_then(|number| {
                let publisher = self.publisher(number).map_err(Trouble::Broker)?;
                if let Some(queue) = declarable(config, message) {
                    publisher.declare(queue)?;
                }
                Ok(())
            });
        match declared.and_then(|()| self.try_alone(side, message)) {
            Ok(said) => self.said_alone(*side, message, said),
            Err(Trouble::Message(Refusal::ForGood(last))) => {
                PublishResult::Failed(reason.unwrap_or(last))
            }
            Err(trouble) => self.troubled_alone(message, trouble),
        }
    }

    fn try_alone(&mut self, side: &mut Side, message: &Message) -> Result<Confirmation, Trouble> {
        let number = self.beside(side).map_err(Trouble::Broker)?;
        let publisher = self.publisher(number).map_err(Trouble::Broker)?;
        let sent = publisher.send(&[message])?;
        let word = Word::of(publisher, sent, &[message]);
        if let Some(error) = word.ended {
            return Err(error.into());
        }
        let said = word.confirmations.into_iter().next();
        said.ok_or_else(|| {
            let silent = BrokerError::Away("the broker said nothing of a message".to_owned());
            Trouble::Broker(silent)
        })
    }

    fn said_alone(&mut self, side: Side, message: &Message, said: Confirmation) -> PublishResult {
        if let (Confirmation::Unconfirmed(_), Some(number)) = (&said, side) {
            self.late.add(number, &message.key, &message.queue);
        } else {
            self.is_there();
            self.closed.open(message);
        }
        let said = [said];
        self.say_of(&[message], &said);
        let [said] = said;
        fate(message, said, true)
    }

    fn troubled_alone(&mut self, message: &Message, trouble: Trouble) -> PublishResult {
        match trouble {
            Trouble::Broker(error) => {
                self.fails(&error);
                PublishResult::Waiting(error.to_string())
            }
            Trouble::Message(Refusal::ForGood(reason)) => PublishResult::Failed(reason),
            Trouble::Message(Refusal::ForNow(reason)) => {
                self.is_there();
                self.closed.close(message, &reason);
                self.waits(&forbidden::part(message), &refused(message, &reason));
                PublishResult::Refused(reason)
            }
        }
    }

    /// Publishes messages again that fitted no queue, once these are declared. On the connection with that number,
    /// unless it has others under way, which a refusal would take with it.
    pub(super) fn declare_and_publish(
        &mut self,
        config: &Config,
        messages: &[&Message],
        number: u64,
    ) -> Vec<PublishResult> {
        let mut fates = Fates::of(messages);
        let is_free = self
            .publishers
            .get(&number)
            .is_some_and(|publisher| publisher.is_idle());
        let mut side = is_free.then_some(number);
        for (_, group) in groups(messages, |message| &message.queue) {
            let found = self.declare_and_publish_to_one(config, &mut side, &group);
            fates.put(&group, found);
        }
        fates.all()
    }

    fn declare_and_publish_to_one(
        &mut self,
        config: &Config,
        side: &mut Side,
        group: &[(usize, &Message)],
    ) -> Vec<PublishResult> {
        let messages: Vec<&Message> = group.iter().map(|(_, message)| *message).collect();
        let Some(first) = messages.first() else {
            return Vec::new();
        };
        let published = self
            .beside(side)
            .map_err(Trouble::Broker)
            .and_then(|number| {
                let publisher = self.publisher(number).map_err(Trouble::Broker)?;
                if let Some(queue) = declarable(config, first) {
                    publisher.declare(queue)?;
                }
                let sent = publisher.send(&messages)?;
                let word = Word::of(publisher, sent, &messages);
                Ok((number, word))
            });
        match published {
            Ok((number, word)) => {
                // Not declared once more.
                let word_ended = word.ended.is_some();
                let fates = self.read_declared(&messages, number, word);
                if word_ended {
                    *side = None;
                }
                fates
            }
            Err(Trouble::Broker(error)) => {
                self.fails(&error);
                waiting(&messages, &error.to_string())
            }
            Err(Trouble::Message(Refusal::ForGood(reason))) => {
                let failed = |_: &&Message| PublishResult::Failed(reason.clone());
                messages.iter().map(failed).collect()
            }
            Err(trouble) => match self.troubled_alone(first, trouble) {
                PublishResult::Refused(reason) => {
                    let refused = |_: &&Message| PublishResult::Refused(reason.clone());
                    messages.iter().map(refused).collect()
                }
                _ => waiting(&messages, "the broker has gone away"),
            },
        }
    }

    fn read_declared(
        &mut self,
        messages: &[&Message],
        number: u64,
        word: Word,
    ) -> Vec<PublishResult> {
        self.say_of(messages, &word.confirmations);
        if let Some(error) = &word.ended {
            if self.current == Some(number) {
                self.current = None;
            }
            let reason = error.to_string();
            let fates = messages.iter().zip(word.confirmations);
            let fates = fates.map(|(message, said)| match said {
                Confirmation::Unconfirmed(_) => PublishResult::Waiting(reason.clone()),
                said => fate(message, said, false),
            });
            return fates.collect();
        }
        let fates = messages.iter().zip(word.confirmations);
        fates
            .map(|(message, said)| {
                if matches!(said, Confirmation::Unconfirmed(_)) {
                    self.late.add(number, &message.key, &message.queue);
                }
                fate(message, said, word.is_silent)
            })
            .collect()
    }

    /// The connection beside the current one.
    fn beside(&mut self, side: &mut Side) -> Result<u64, BrokerError> {
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
