//! What is told of a service.

use chrono::{DateTime, SecondsFormat, Utc};
use serde::{Deserialize, Serialize};

/// What the service is at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ServiceState {
    /// It has not got so far that it could say which of the next two it is; also when the database is
    /// back that a start has waited for.
    Starting,
    /// It is up, and something that it needs is not: see [`StatusReport::waiting_for`].
    Waiting,
    /// It is up, and every queue is consumed.
    Consuming,
    /// It was told to stop, or has run what there was: tasks that are running finish. Or it has lost what it
    /// can't do without, and ends: see [`StatusReport::failure`].
    Stopping,
    /// It has lost what it can't do without, and starts again in the same process: see [`StatusReport::failure`].
    Restarting,
}

/// How often a service has started again, having lost what it can't do without.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Restarts {
    /// How often.
    pub count: u32,
    /// What had died the last time.
    pub cause: String,
    /// When that was: UTC, RFC 3339, whole seconds.
    pub last: String,
}

impl Restarts {
    /// One more than `before`, now.
    #[must_use]
    pub fn after(before: Option<&Self>, cause: &str) -> Self {
        Self {
            count: before.map_or(0, |before| before.count).saturating_add(1),
            cause: cause.to_owned(),
            last: shown(Utc::now()),
        }
    }
}

/// The service_status of one moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatusReport {
    /// The service's process.
    pub pid: u32,
    /// What it is at.
    pub state: ServiceState,
    /// When it was started, or started again: UTC, RFC 3339, whole seconds.
    pub since: String,
    /// What it has lost that it can't do without, if that is why it ends or starts again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
    /// How often it has started again, if it has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restarts: Option<Restarts>,
    /// Whether it has a scheduler.
    pub scheduler: bool,
    /// What is away or shut, each a sentence's part such as `the broker amqp://… is away: …`, without
    /// secrets. May have entries in any state.
    pub waiting_for: Vec<String>,
    /// Tasks that are running, in all queues.
    pub running_tasks: usize,
    /// What is claimed and neither recorded nor given back, in all queues; the running tasks are
    /// among it.
    pub in_hand: usize,
    /// The queues that it consumes, or would.
    pub queues: Vec<QueueReport>,
}

impl StatusReport {
    /// Whether it consumes, or waits for something that is away.
    #[must_use]
    pub const fn is_up(&self) -> bool {
        matches!(self.state, ServiceState::Consuming | ServiceState::Waiting)
    }
}

/// A queue at one moment.
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

/// A time as it is told.
pub(super) fn shown(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::Secs, true)
}
