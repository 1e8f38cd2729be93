//! Tracks whether the broker still has copies of the messages that were delivered.
//!
//! Usually it does, so messages that have not begun may go back, or be dropped with their connection. It has no
//! copies after the queue was deleted, and may lose them if the queue drops messages that come back too often:
//! such messages are claimed at once and kept, and one that is given back is left to the sweep.

use super::ConsumerSetActor;
use super::arrival::Arrival;
use crate::broker::{DeliveryHandle, SubscriptionCommand};
use crate::config::QueueConfig;
use crate::execution::Attempt;
use crate::store::{BrokerCopy, Republish};

#[derive(Debug)]
pub(super) struct BrokerCopies {
    /// The queue was deleted: the broker has no copies of what connections up to this one delivered.
    gone: u64,
    /// The queue counts how often a message comes back, and may drop one that comes back too often.
    counts_returns: bool,
}

impl BrokerCopies {
    pub(super) fn of(queue: &QueueConfig) -> Self {
        Self {
            gone: 0,
            counts_returns: queue.counts_returns(),
        }
    }

    /// Whether the queue counts returns.
    pub(super) const fn queue_counts_returns(&self) -> bool {
        self.counts_returns
    }

    /// Whether the broker has no copies of what this connection delivered.
    pub(super) const fn are_gone(&self, epoch: u64) -> bool {
        epoch <= self.gone
    }

    /// Whether the broker may have no copies of what this connection delivered once the connection has ended.
    pub(super) const fn may_be_gone(&self, epoch: u64) -> bool {
        self.counts_returns || self.are_gone(epoch)
    }

    /// What the broker has of a claimed message that is given back. `None` if it simply has a copy.
    fn copy_of(&self, attempt: &Attempt) -> Option<BrokerCopy> {
        // Nobody would recognize the copy of a message without an id, so the row replaces the copy.
        let is_known = attempt.envelope.fingerprint.is_none();
        if self.are_gone(attempt.envelope.handle.epoch) || !is_known {
            Some(BrokerCopy::Gone)
        } else {
            self.counts_returns.then_some(BrokerCopy::MayBeDropped)
        }
    }
}

impl ConsumerSetActor {
    /// Handles the news that the queue counts returns: from now on no message goes back without need, and all that
    /// have arrived are claimed.
    pub(super) fn start_counting_returns(&mut self) {
        if !self.broker_copies.counts_returns {
            self.broker_copies.counts_returns = true;
            self.prefetch.count_returns(&self.source.queue);
            self.row_waits.mark_new_consumer();
            self.warn_of_counted_returns();
            self.claim_backlog();
        }
    }

    /// Warns if the configured prefetch makes messages come back that never ran.
    pub(super) fn warn_of_counted_returns(&self) {
        if self.broker_copies.counts_returns
            && let Some(factor) = self.source.queue.prefetch_factor
            && factor > 1
        {
            log::warn!(
                "queue {}: it counts how often a message comes back, and may drop it for that; with \
                 prefetch_factor = {factor} each stop and each lost connection counts for up to {} \
                 messages that did not run. Leave prefetch_factor out to hold no more than run",
                self.name,
                self.source.queue.prefetch(),
            );
        }
    }

    /// How many messages of the backlog must be claimed whatever the claim window.
    pub(super) fn urgent_count(&self) -> usize {
        let is_urgent = |arrival: &&Arrival| self.broker_copies.may_be_gone(arrival.epoch());
        self.backlog.iter().take_while(is_urgent).count()
    }

    /// Handles the end of a connection: drops unclaimed messages, which the broker delivers again, and keeps those of
    /// which the broker may have no copy.
    pub(super) fn connection_lost(&mut self, epoch: u64, with_its_queue: bool) {
        if with_its_queue {
            self.broker_copies.gone = epoch;
        }
        self.without_id.channel_ended(epoch, with_its_queue);
        let arrivals = std::mem::take(&mut self.backlog);
        let (kept, dropped): (Vec<_>, Vec<_>) = arrivals
            .into_iter()
            .partition(|arrival| self.broker_copies.may_be_gone(arrival.epoch()));
        self.backlog = kept.into();
        for arrival in dropped {
            self.without_id.forget(arrival.envelope().handle);
        }
        let copies = &self.broker_copies;
        self.row_waits
            .remove_where(|handle| !copies.may_be_gone(handle.epoch));
        if self.stopping {
            // The connection may have ended before it got this command.
            self.send_command(SubscriptionCommand::Cancel);
        }
        self.claim_backlog();
    }

    /// Removes the messages from the backlog that go back when the set stops.
    pub(super) fn take_unclaimed(&mut self) -> Vec<DeliveryHandle> {
        let copies = &self.broker_copies;
        let backlog = std::mem::take(&mut self.backlog);
        let (kept, back): (Vec<_>, Vec<_>) = backlog
            .into_iter()
            .partition(|arrival| copies.may_be_gone(arrival.epoch()));
        self.backlog = kept.into();
        let back = back.iter().map(|arrival| arrival.envelope().handle);
        let row_waits = self
            .row_waits
            .remove_where(|handle| !copies.are_gone(handle.epoch));
        back.chain(row_waits).collect()
    }

    /// Gives back messages that are claimed and not begun, first in their rows and then at the broker.
    pub(super) fn give_back(&self, attempts: Vec<Attempt>) {
        let mut releases = Vec::new();
        let mut republishes = Vec::new();
        for attempt in attempts {
            match self.broker_copies.copy_of(&attempt) {
                Some(copy) => {
                    let key = attempt.envelope.key;
                    republishes.push((attempt.run, Republish { key, copy }));
                }
                None => releases.push((attempt.run, attempt.envelope.key)),
            }
        }
        if !releases.is_empty() {
            self.ledger.release(releases);
        }
        if !republishes.is_empty() {
            self.ledger.republish(republishes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::BrokerHost;

    #[test]
    fn what_came_before_a_queue_was_deleted_is_gone_and_what_comes_after_is_not() {
        let mut copies = BrokerCopies::of(&QueueConfig::new("q", BrokerHost::default()));
        assert!(!copies.may_be_gone(1));
        copies.gone = 2;
        assert!(copies.are_gone(1) && copies.may_be_gone(2) && !copies.may_be_gone(3));
    }
}
