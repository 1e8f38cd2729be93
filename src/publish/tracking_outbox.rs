//! The door of one who stays: between messages it is seen what has become of those that a broker is late with,
//! and whether brokers that were away are back.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError};

use super::broker_link::{BrokerLink, NOTHING_WAITS};
use super::{Flushed, LATE_LEASE, Outbox};
use crate::config::Config;
use crate::health::outage::{HealthProbe, Servers};
use crate::message::Message;
use crate::store::{OutboxStore, RecordedMessages, StoreError};

/// The leases of messages that the broker is late with are renewed so often.
const RENEWAL: Duration = Duration::from_secs(10);

/// While there are such messages, it is asked so often what has become of them.
const LATE_LOOK: Duration = Duration::from_millis(500);

/// What is next for one who publishes.
pub(crate) enum Next<T> {
    /// This has come.
    Came(T),
    /// The broker may have said by now what has become of messages that it was late with: it is time to
    /// [look](TrackingOutbox::look_after_the_late).
    Late,
    /// Nothing has come for some time.
    Idle,
    /// Nothing will come any more.
    Over,
}

/// A door, and the brokers behind it.
pub(crate) struct TrackingOutbox {
    door: Outbox,
    /// Whether a sweep of the same service knows better how brokers are that were away for [`NOTHING_WAITS`]:
    /// it has what waits for them.
    beside_a_sweep: bool,
    /// When the leases of what brokers are late with were renewed.
    renewed: Instant,
}

impl TrackingOutbox {
    /// The door of a sweep, or of a program that has none.
    pub(crate) fn alone(config: Arc<Config>, servers: Arc<Servers>) -> Self {
        Self {
            door: Outbox::of(config, servers, true),
            beside_a_sweep: false,
            renewed: Instant::now(),
        }
    }

    /// The door of one who publishes beside the sweep of its service.
    pub(crate) fn beside_a_sweep(config: Arc<Config>, servers: Arc<Servers>) -> Self {
        Self {
            beside_a_sweep: true,
            ..Self::alone(config, servers)
        }
    }

    /// Waits for what comes to be published, or for something else to do.
    pub(crate) fn next<T>(&mut self, coming: &Receiver<T>) -> Next<T> {
        self.leave_the_away();
        let has_late = self.has_late();
        let patience = if has_late { LATE_LOOK } else { NOTHING_WAITS };
        match coming.recv_timeout(patience) {
            Ok(came) => Next::Came(came),
            Err(RecvTimeoutError::Disconnected) => Next::Over,
            Err(RecvTimeoutError::Timeout) => {
                self.look_after_brokers();
                if has_late { Next::Late } else { Next::Idle }
            }
        }
    }

    /// Nothing is to be published just now: sees whether brokers that were away are back.
    pub(crate) fn look_after_brokers(&mut self) {
        self.leave_the_away();
        self.door.ways.values_mut().for_each(BrokerLink::look_after);
    }

    fn leave_the_away(&mut self) {
        if self.beside_a_sweep {
            let is_left = |away| away >= NOTHING_WAITS;
            self.door
                .ways
                .retain(|_, way| way.has_late() || !way.away_for().is_some_and(is_left));
        }
    }

    /// Whether a broker is late with messages.
    pub(crate) fn has_late(&self) -> bool {
        self.door.ways.values().any(BrokerLink::has_late)
    }

    /// Writes what has become of messages that the broker was late with, and keeps the others from the sweep.
    /// Those whose connection has ended are due.
    ///
    /// # Errors
    /// When the database is away: the next look does it.
    pub(crate) fn look_after_the_late(
        &mut self,
        session: &mut dyn OutboxStore,
    ) -> Result<(), StoreError> {
        if !self.has_late() {
            return Ok(());
        }
        let is_time = self.renewed.elapsed() >= RENEWAL;
        for way in self.door.ways.values_mut().filter(|way| way.has_late()) {
            let known = way.look_after_the_late();
            if !known.published.is_empty() {
                session.mark_published(&known.published)?;
            }
            if !known.lost.is_empty() {
                session.renew_leases(&known.lost, Duration::ZERO)?;
            }
            way.late().is_written();
            let late = way.late().keys();
            if is_time && !late.is_empty() {
                session.renew_leases(&late, LATE_LEASE)?;
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
        recorded: RecordedMessages<'_>,
    ) -> Result<Flushed, StoreError> {
        self.door
            .in_parts(Some(database), session, &recorded, |_, _| Ok(()))
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
        self.door.publish(session, messages)
    }
}
