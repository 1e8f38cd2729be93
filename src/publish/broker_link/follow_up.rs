//! Follows up a link between messages: late confirmations, and a broker that was away.

use super::link::{AWAY_PROBE_DELAY, BrokerLink};
use crate::health::outage::ServerPart;
use crate::publish::publish_result::silent_reason;
use crate::publish::unconfirmed::FollowedUp;

impl BrokerLink {
    /// Asks what the broker has said of messages that it was late with. While there are some, it is seen whether it
    /// takes others: else not their queues are silent, but it is.
    pub(in crate::publish) fn follow_up_unconfirmed(&mut self) -> &FollowedUp {
        let queues = self.unconfirmed.queues();
        for (number, publisher) in &mut self.publishers {
            let late = publisher.late_confirmations();
            if late.has_ended && self.current == Some(*number) {
                self.current = None;
            }
            self.unconfirmed.record_late(*number, late);
        }
        self.close_idle();
        if self.current.is_none() && self.away.is_none() && !self.unconfirmed.is_empty() {
            match self.open() {
                Ok(_) => self.mark_available(),
                Err(error) => self.mark_failed(&error),
            }
        }
        let silent_now = self.unconfirmed.silent_queues(self.current);
        let is_silent = |queue: &&String| silent_now.contains(queue.as_str());
        let (silent_now, open): (Vec<&String>, Vec<&String>) = queues.iter().partition(is_silent);
        if self.away.is_none() {
            silent_now.into_iter().for_each(|queue| {
                self.report_waiting(&ServerPart::Queue(queue.clone()), &silent_reason(queue))
            });
        }
        open.into_iter()
            .for_each(|queue| self.report_reopened(&ServerPart::Queue(queue.clone())));
        self.unconfirmed.followed_up()
    }

    /// Sees whether a broker that was away is back, though nothing waits for it any more: another
    /// service may have published that.
    pub(in crate::publish) fn probe_if_away(&mut self) {
        if self
            .away
            .is_some_and(|away| away.elapsed() > AWAY_PROBE_DELAY)
        {
            self.health.started();
            match self.open() {
                Ok(_) => self.mark_available(),
                Err(error) => self.mark_failed(&error),
            }
        }
    }
}
