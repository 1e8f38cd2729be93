//! Logs, once each, that messages to a broker wait, and that publishing goes on.

use std::collections::BTreeSet;

use super::link::BrokerLink;
use crate::broker::{BrokerError, Confirmation};
use crate::health::outage::ServerPart;
use crate::message::Message;
use crate::publish::forbidden;
use crate::publish::publish_result::full_reason;

impl BrokerLink {
    /// Reports, from the broker's answers, which parts of the broker hold messages up and which take them again.
    pub(super) fn report_confirmations(
        &mut self,
        messages: &[&Message],
        confirmations: &[Confirmation],
    ) {
        let has_answered = confirmations
            .iter()
            .any(|said| !matches!(said, Confirmation::Unconfirmed(_)));
        if !has_answered {
            return;
        }
        if std::mem::take(&mut self.login_refused) {
            self.report_reopened(&ServerPart::Entrance);
        }
        let blocked = confirmations.iter().find_map(|said| match said {
            Confirmation::Blocked(reason) => Some(reason.as_str()),
            _ => None,
        });
        match blocked {
            Some(reason) => self.report_waiting(&ServerPart::Intake, reason),
            None => self.report_reopened(&ServerPart::Intake),
        }
        let of = |wanted: Confirmation| {
            let said = messages.iter().zip(confirmations);
            let said = said.filter(move |(_, said)| **said == wanted);
            said.map(|(message, _)| *message)
        };
        let full_now: BTreeSet<&String> = of(Confirmation::Busy)
            .map(|message| &message.queue)
            .collect();
        for queue in &full_now {
            self.report_waiting(&ServerPart::Queue((*queue).clone()), &full_reason(queue));
        }
        let mut paths = BTreeSet::new();
        for message in of(Confirmation::Confirmed) {
            if paths.insert((&message.queue, &message.exchange)) {
                self.report_reopened(&forbidden::server_part(message));
            }
        }
        let queues: BTreeSet<&String> = paths.into_iter().map(|(queue, _)| queue).collect();
        let silent = self.unconfirmed.silent_queues(self.current);
        for queue in queues.difference(&full_now) {
            if !silent.contains(queue.as_str()) {
                self.report_reopened(&ServerPart::Queue((*queue).clone()));
            }
        }
    }

    pub(super) fn report_refused_login(&self, error: &BrokerError) {
        self.report_waiting(&ServerPart::Entrance, &error.to_string());
    }

    /// Logs once why messages wait, whichever publisher of the service finds it.
    pub(super) fn report_waiting(&self, part: &ServerPart, reason: &str) {
        let host = &self.host;
        if self.health.close(part, reason) {
            log::error!(
                "publishing to {host} waits: {reason}; trying again until that has changed"
            );
        }
    }

    /// Logs once that publishing goes on.
    pub(super) fn report_reopened(&self, part: &ServerPart) {
        if let Some(time) = self.health.reopen(part) {
            let (host, time) = (&self.host, time.as_secs_f64());
            log::warn!("publishing to {host} goes on after {time:.1} s");
        }
    }
}
