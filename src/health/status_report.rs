//! The report of a service's state, as the control socket and systemd get it.

use chrono::{DateTime, SecondsFormat, Utc};
use serde::{Deserialize, Serialize};

/// What the service is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ServiceState {
    /// It does not know yet which of the next two states it is in. A start that waited for the database returns
    /// to this state when the database is back.
    Starting,
    /// It is up, and something that it needs is away: see [`StatusReport::waiting_for`].
    Waiting,
    /// It is up, and every queue is consumed.
    Consuming,
    /// It was told to stop, or has run all messages in test mode: running tasks finish. Or a vital part has died,
    /// and the service ends: see [`StatusReport::failure`].
    Stopping,
    /// A vital part has died, and the service restarts in the same process: see [`StatusReport::failure`].
    Restarting,
}

/// How often a service has restarted itself after a vital part had died.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Restarts {
    /// How often.
    pub count: u32,
    /// The part that had died before the last restart.
    pub cause: String,
    /// When it died: UTC, RFC 3339, whole seconds.
    pub last: String,
}

impl Restarts {
    /// One more restart than `before`, now.
    #[must_use]
    pub fn after(before: Option<&Self>, cause: &str) -> Self {
        Self {
            count: before.map_or(0, |before| before.count).saturating_add(1),
            cause: cause.to_owned(),
            last: rfc3339(Utc::now()),
        }
    }
}

/// The state of a service at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatusReport {
    /// The service's process.
    pub pid: u32,
    /// What it is doing.
    pub state: ServiceState,
    /// When it started or restarted: UTC, RFC 3339, whole seconds.
    pub since: String,
    /// The vital part that has died, if the service ends or restarts because of that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
    /// How often it has restarted itself, if it has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restarts: Option<Restarts>,
    /// Whether it has a scheduler.
    pub scheduler: bool,
    /// What is away or refused, each as a clause such as `the broker amqp://… is away: …`, without
    /// secrets. May have entries in any state.
    pub waiting_for: Vec<String>,
    /// The number of running tasks in all queues.
    pub running_tasks: usize,
    /// The number of messages in flight in all queues: claimed, and neither recorded nor given back. Includes
    /// the running tasks.
    pub in_hand: usize,
    /// The queues that it consumes, or waits to consume.
    pub queues: Vec<QueueReport>,
}

impl StatusReport {
    /// Whether the service is up: it consumes, or waits for something that is away.
    #[must_use]
    pub const fn is_up(&self) -> bool {
        matches!(self.state, ServiceState::Consuming | ServiceState::Waiting)
    }
}

/// The state of a queue at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueueReport {
    /// Its name.
    pub name: String,
    /// How many tasks may run at once.
    pub consumers: usize,
    /// How many are running.
    pub running_tasks: usize,
    /// Whether the broker has this service as a consumer.
    pub consumed: bool,
}

/// UTC, whole seconds.
pub(super) fn rfc3339(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::Secs, true)
}
