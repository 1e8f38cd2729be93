//! The state of a link: its connections, and whether the broker is away.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::broker::{self, BrokerError, BrokerPublisher};
use crate::config::BrokerHost;
use crate::health::outage::{HealthProbe, Servers};
use crate::message::Message;
use crate::publish::forbidden::ForbiddenPaths;
use crate::publish::unconfirmed::UnconfirmedMessages;
use crate::store::PUBLISH_LEASE;

/// How long a broker must be away before a publisher with nothing to send probes it. By then the sweep has
/// retried every message that waits for the broker, whoever recorded it.
pub(in crate::publish) const AWAY_PROBE_DELAY: Duration = PUBLISH_LEASE.saturating_mul(2);

/// The most connections to one broker. All but one await late confirmations.
const MAX_CONNECTIONS: usize = 8;

/// The link to one broker.
pub(in crate::publish) struct BrokerLink {
    pub(super) host: BrokerHost,
    /// The open connections, by their numbers.
    pub(super) publishers: BTreeMap<u64, Box<dyn BrokerPublisher>>,
    /// The number of the connection to send on, unless it is known to have ended.
    pub(super) current: Option<u64>,
    /// How many connections have been opened: the number of the last one.
    pub(super) connections: u64,
    pub(super) health: HealthProbe,
    /// When the broker was last found away. `None` once it has answered.
    pub(super) away: Option<Instant>,
    /// Whether the broker refused the last connection. Connections that were opened before may go on.
    pub(super) login_refused: bool,
    pub(super) forbidden: ForbiddenPaths,
    pub(super) unconfirmed: UnconfirmedMessages,
}

impl BrokerLink {
    pub(in crate::publish) fn new(host: BrokerHost, servers: &Servers) -> Self {
        Self {
            publishers: BTreeMap::new(),
            current: None,
            connections: 0,
            health: servers.broker(&host.to_string()).probe("publishing"),
            away: None,
            login_refused: false,
            host,
            forbidden: ForbiddenPaths::default(),
            unconfirmed: UnconfirmedMessages::default(),
        }
    }

    /// The messages that were sent and are not confirmed yet.
    pub(in crate::publish) const fn unconfirmed(&mut self) -> &mut UnconfirmedMessages {
        &mut self.unconfirmed
    }

    /// Whether there are such messages, or results of them to write.
    pub(in crate::publish) fn has_unconfirmed(&self) -> bool {
        !self.unconfirmed.is_empty()
    }

    /// How long ago the broker was last found away, if it has not answered since.
    pub(in crate::publish) fn away_for(&self) -> Option<Duration> {
        self.away.map(|away| away.elapsed())
    }

    /// Tells the current connection that the rows of these messages are marked as published.
    pub(in crate::publish) fn rows_marked(&mut self, messages: &[&Message]) {
        if let Some(number) = self.current
            && let Some(publisher) = self.publishers.get_mut(&number)
        {
            publisher.rows_marked(messages);
        }
    }

    /// Abandons the messages that were sent and not settled.
    pub(in crate::publish) fn abandon_sent(&mut self) {
        self.current = None;
        self.publishers
            .values_mut()
            .for_each(|publisher| publisher.abandon_sent());
        self.close_idle();
    }

    pub(super) fn mark_available(&mut self) {
        self.away = None;
        self.health.succeeded();
    }

    pub(super) fn mark_failed(&mut self, error: &BrokerError) {
        self.current = None;
        self.close_idle();
        if let BrokerError::Away(_) = error {
            self.away = Some(Instant::now());
            self.health.failed(error);
        } else {
            self.mark_available();
            self.login_refused = true;
            self.report_refused_login(error);
        }
    }

    /// The number of the connection to send on. Opens one if necessary.
    pub(super) fn open(&mut self) -> Result<u64, BrokerError> {
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

    /// Opens one more connection; returns its number.
    pub(super) fn connect(&mut self) -> Result<u64, BrokerError> {
        if self.publishers.len() >= MAX_CONNECTIONS {
            return Err(BrokerError::Ended(format!(
                "{MAX_CONNECTIONS} connections wait for the broker to confirm what it was sent"
            )));
        }
        let publisher = broker::publisher(&self.host)?;
        self.connections += 1;
        self.publishers.insert(self.connections, publisher);
        Ok(self.connections)
    }

    pub(super) fn publisher(
        &mut self,
        number: u64,
    ) -> Result<&mut dyn BrokerPublisher, BrokerError> {
        match self.publishers.get_mut(&number) {
            Some(publisher) => Ok(publisher.as_mut()),
            None => Err(BrokerError::Away("the connection is gone".to_owned())),
        }
    }

    /// Closes the connections that await no confirmation, except the current one.
    pub(super) fn close_idle(&mut self) {
        let current = self.current;
        self.publishers
            .retain(|number, publisher| current == Some(*number) || !publisher.is_idle());
    }
}
