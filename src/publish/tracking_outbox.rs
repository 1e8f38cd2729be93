//! The outbox of one who tracks_unconfirmed: between messages it is seen what has become of those that a broker is late with,
//! and whether brokers that were away are back.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError};

use super::broker_link::{AWAY_PROBE_DELAY, BrokerLink};
use super::outbox::{Flushed, Outbox, UNCONFIRMED_LEASE};
use crate::config::Config;
use crate::health::outage::{HealthProbe, Servers};
use crate::message::Message;
use crate::store::{OutboxStore, Recorded, StoreError};

/// The leases of messages that the broker is late with are renewed so often.
const LEASE_RENEWAL_INTERVAL: Duration = Duration::from_secs(10);

/// While there are such messages, it is asked so often what has become of them.
const FOLLOW_UP_INTERVAL: Duration = Duration::from_millis(500);

/// What is next for one who publishes.
pub(crate) enum NextWork<T> {
    /// This has come.
    Received(T),
    /// The broker may have said by now what has become of messages that it was late with: it is time to
    /// [look](TrackingOutbox::follow_up_unconfirmed).
    FollowUp,
    /// Nothing has come for some time.
    Idle,
    /// Nothing will come any more.
    Closed,
}

/// A outbox, and the brokers behind it.
pub(crate) struct TrackingOutbox {
    outbox: Outbox,
    /// Whether a sweep of the same service knows better how brokers are that were away for [`AWAY_PROBE_DELAY`]:
    /// it has what waits for them.
    beside_sweep: bool,
    /// When the leases of what brokers are late with were renewed.
    renewed: Instant,
}

impl TrackingOutbox {
    /// The outbox of a sweep, or of a program that has none.
    pub(crate) fn new(config: Arc<Config>, servers: Arc<Servers>) -> Self {
        Self {
            outbox: Outbox::with_servers(config, servers, true),
            beside_sweep: false,
            renewed: Instant::now(),
        }
    }

    /// The outbox of one who publishes beside the sweep of its service.
    pub(crate) fn beside_sweep(config: Arc<Config>, servers: Arc<Servers>) -> Self {
        Self {
            beside_sweep: true,
            ..Self::new(config, servers)
        }
    }

    /// Waits for what comes to be published, or for something else to do.
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

    /// Nothing is to be published just now: sees whether brokers that were away are back.
    pub(crate) fn probe_away_brokers(&mut self) {
        self.drop_away_brokers();
        self.outbox
            .links
            .values_mut()
            .for_each(BrokerLink::probe_if_away);
    }

    fn drop_away_brokers(&mut self) {
        if self.beside_sweep {
            let is_left = |away| away >= AWAY_PROBE_DELAY;
            self.outbox
                .links
                .retain(|_, link| link.has_unconfirmed() || !link.away_for().is_some_and(is_left));
        }
    }

    /// Whether a broker is late with messages.
    pub(crate) fn has_unconfirmed(&self) -> bool {
        self.outbox.links.values().any(BrokerLink::has_unconfirmed)
    }

    /// Writes what has become of messages that the broker was late with, and keeps the others from the sweep.
    /// Those whose connection has ended are due.
    ///
    /// # Errors
    /// When the database is away: the next look does it.
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

    /// [`Outbox::flush`] of one who tells when the database is asked.
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
            .flush_in_parts(Some(database), session, &recorded, |_, _| Ok(()))
    }

    /// [`Outbox::publish`].
    ///
    /// # Errors
    /// When the database is away. The first so many messages are recorded then, and will be published.
    pub(crate) fn publish(
        &mut self,
        session: &mut dyn OutboxStore,
        messages: &[Message],
    ) -> Result<Flushed, (usize, StoreError)> {
        self.outbox.publish(session, messages)
    }
}
