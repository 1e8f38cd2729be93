//! An outbox that keeps its connections. Between messages it follows up unconfirmed messages, and probes brokers
//! that were away.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError};

use super::broker_link::{AWAY_PROBE_DELAY, BrokerLink};
use super::outbox::{Flushed, Outbox, UNCONFIRMED_LEASE};
use crate::config::Config;
use crate::health::outage::{HealthProbe, Servers};
use crate::message::Message;
use crate::store::{OutboxStore, Recorded, StoreError};

/// How often the leases of unconfirmed messages are renewed.
const LEASE_RENEWAL_INTERVAL: Duration = Duration::from_secs(10);

/// How often unconfirmed messages are followed up.
const FOLLOW_UP_INTERVAL: Duration = Duration::from_millis(500);

/// What a publishing thread has to do next.
pub(crate) enum NextWork<T> {
    /// Publish this, which was received.
    Received(T),
    /// Call [`TrackingOutbox::follow_up_unconfirmed`]: late confirmations may have come.
    FollowUp,
    /// Nothing: no message has come for some time.
    Idle,
    /// End: the senders are gone.
    Closed,
}

/// An outbox that keeps its connections and follows up unconfirmed messages.
pub(crate) struct TrackingOutbox {
    outbox: Outbox,
    /// Whether the same service has a sweep, which probes brokers that have been away for [`AWAY_PROBE_DELAY`]: it
    /// publishes the messages that wait for them.
    beside_sweep: bool,
    /// When the leases of unconfirmed messages were last renewed.
    renewed: Instant,
}

impl TrackingOutbox {
    /// The outbox of a sweep, or of a program without a sweep.
    pub(crate) fn new(config: Arc<Config>, servers: Arc<Servers>) -> Self {
        Self {
            outbox: Outbox::with_servers(config, servers, true),
            beside_sweep: false,
            renewed: Instant::now(),
        }
    }

    /// The outbox of a publisher beside the sweep of its service.
    pub(crate) fn beside_sweep(config: Arc<Config>, servers: Arc<Servers>) -> Self {
        Self {
            beside_sweep: true,
            ..Self::new(config, servers)
        }
    }

    /// Waits for something to publish or to follow up.
    pub(crate) fn next<T>(&mut self, coming: &Receiver<T>) -> NextWork<T> {
        self.drop_away_brokers();
        let has_unconfirmed = self.has_unconfirmed();
        let patience = if has_unconfirmed {
            FOLLOW_UP_INTERVAL
        } else {
            AWAY_PROBE_DELAY
        };
        match coming.recv_timeout(patience) {
            Ok(came) => NextWork::Received(came),
            Err(RecvTimeoutError::Disconnected) => NextWork::Closed,
            Err(RecvTimeoutError::Timeout) => {
                self.probe_away_brokers();
                if has_unconfirmed {
                    NextWork::FollowUp
                } else {
                    NextWork::Idle
                }
            }
        }
    }

    /// Probes brokers that were away. Called when there is nothing to publish.
    pub(crate) fn probe_away_brokers(&mut self) {
        self.drop_away_brokers();
        self.outbox
            .links
            .values_mut()
            .for_each(BrokerLink::probe_if_away);
    }

    fn drop_away_brokers(&mut self) {
        if self.beside_sweep {
            let is_left_to_sweep = |away| away >= AWAY_PROBE_DELAY;
            self.outbox.links.retain(|_, link| {
                link.has_unconfirmed() || !link.away_for().is_some_and(is_left_to_sweep)
            });
        }
    }

    /// Whether any message is unconfirmed.
    pub(crate) fn has_unconfirmed(&self) -> bool {
        self.outbox.links.values().any(BrokerLink::has_unconfirmed)
    }

    /// Writes the results of late confirmations, and renews the leases of messages that are still unconfirmed, which
    /// keeps them from the sweep. Messages whose connection has ended become due for the sweep.
    ///
    /// # Errors
    /// When the database is away: the next call writes the results.
    pub(crate) fn follow_up_unconfirmed(
        &mut self,
        session: &mut dyn OutboxStore,
    ) -> Result<(), StoreError> {
        if !self.has_unconfirmed() {
            return Ok(());
        }
        let is_time = self.renewed.elapsed() >= LEASE_RENEWAL_INTERVAL;
        for link in self
            .outbox
            .links
            .values_mut()
            .filter(|link| link.has_unconfirmed())
        {
            let known = link.follow_up_unconfirmed();
            if !known.published.is_empty() {
                session.mark_published(&known.published)?;
            }
            if !known.lost.is_empty() {
                session.renew_leases(&known.lost, Duration::ZERO)?;
            }
            link.unconfirmed().clear_followed_up();
            let late = link.unconfirmed().keys();
            if is_time && !late.is_empty() {
                session.renew_leases(&late, UNCONFIRMED_LEASE)?;
            }
        }
        if is_time {
            self.renewed = Instant::now();
        }
        Ok(())
    }

    /// [`Outbox::flush`], which also reports to `database` when the database is asked.
    ///
    /// # Errors
    /// When the database is away.
    pub(crate) fn flush(
        &mut self,
        database: &HealthProbe,
        session: &mut dyn OutboxStore,
        recorded: Recorded<'_>,
    ) -> Result<Flushed, StoreError> {
        self.outbox
            .flush_in_batches(Some(database), session, &recorded, |_, _| Ok(()))
    }

    /// [`Outbox::publish`].
    ///
    /// # Errors
    /// When the database is away. The number says how many messages, the first ones, are recorded; they will be
    /// published.
    pub(crate) fn publish(
        &mut self,
        session: &mut dyn OutboxStore,
        messages: &[Message],
    ) -> Result<Flushed, (usize, StoreError)> {
        self.outbox.publish(session, messages)
    }
}
