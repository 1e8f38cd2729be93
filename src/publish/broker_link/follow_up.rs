//! Follows up a link between messages: late confirmations, and a broker that was away.

use super::link::{AWAY_PROBE_DELAY, BrokerLink};
use crate::health::outage::ServerPart;
use crate::publish::publish_result::silent_reason;
use crate::publish::unconfirmed::FollowedUp;

impl BrokerLink {
    /// Collects late confirmations. While messages are unconfirmed, it also opens a connection to see whether the
    /// broker answers at all: otherwise the broker is silent, not only the messages' queues.
    pub(in crate::publish) fn follow_up_unconfirmed(&mut self) -> &FollowedUp {
        let queues = self.unconfirmed.queues();
        for (number, publisher) in &mut self.publishers {
            let late = publisher.late_confirmations();
            if late.has_ended && self.current == Some(*number) {
                self.current = None;
            }
            self.unconfirmed.record_confirmations(*number, late);
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

    /// Probes a broker that has been away for long. Perhaps no message waits for it any more, because another
    /// service has published them.
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
