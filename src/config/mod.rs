//! What is true of this service: the validated configuration.
//!
//! [`Config::load`] finds the TOML file, reads it and lays the environment over
//! it. It reports all faults at once. Nothing here connects to anything, and
//! nothing that is shown of it holds a password.

mod argument;
mod broker_host;
mod broker_url;
mod command;
mod database_url;
mod defaults;
mod duration;
mod environment;
mod exchange;
mod fault;
mod history;
mod load;
mod locate;
mod max_crashes;
mod name;
mod percent;
mod queue;
mod reader;
mod secret;
#[cfg(test)]
mod tests;
mod unknown_tasks;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub use argument::ArgumentValue;
pub use broker_host::BrokerHost;
pub use broker_url::{BrokerUrl, BrokerUrlError};
pub use command::CommandConfig;
pub use database_url::{DatabaseKind, DatabaseUrl, DatabaseUrlError};
pub use defaults::Defaults;
pub(crate) use duration::format_duration;
pub use environment::Environment;
pub use exchange::{ExchangeConfig, ExchangeKind};
pub use fault::{ConfigError, Fault};
pub use history::History;
pub(crate) use locate::Origin;
pub use queue::QueueConfig;
pub use secret::Secret;
pub use unknown_tasks::UnknownTasks;

/// The configuration of a service.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// The file that it was read from, absolute; `None` if there was none.
    pub file: Option<PathBuf>,
    /// The broker of messages for queues that are not among [`queues`](Self::queues). Of these each has its
    /// own: in a file it is this one unless it names another, and who builds a configuration in code sets
    /// both, as by `queues: vec![QueueConfig::new("default", BrokerHost::Embedded)]`.
    pub default_broker: BrokerHost,
    /// The database; `carrot.db` beside the file, or in the current directory, if neither file nor
    /// environment names one.
    pub database_url: DatabaseUrl,
    /// After so many runs in which its worker vanished a message is FAILED: at least 1, 3 by default. With 1
    /// no run follows one that crashed; for that each run is recorded before it starts.
    pub max_crashes: u32,
    /// What becomes of messages whose task no service here knows: they wait, by default.
    pub unknown_tasks: UnknownTasks,
    /// How long running tasks may take once the service was told to stop, at
    /// most a year; `None`: as long as they take.
    pub shutdown_grace: Option<Duration>,
    /// How long messages that are over are kept; `None`: for good.
    pub history: Option<History>,
    /// At least one, no two of one name.
    pub queues: Vec<QueueConfig>,
    /// External commands by their task's name.
    pub tasks: BTreeMap<String, CommandConfig>,
    /// Keys that are good for now, and why not for long.
    pub warnings: Vec<Fault>,
}

impl Config {
    /// Whether messages of any queue wait in the database.
    #[must_use]
    pub fn has_embedded_queues(&self) -> bool {
        let mut queues = self.queues.iter();
        queues.any(|queue| queue.host == BrokerHost::Embedded)
    }

    /// The queue of that name.
    #[must_use]
    pub fn queue(&self, name: &str) -> Option<&QueueConfig> {
        self.queues.iter().find(|queue| queue.name == name)
    }
}

impl Default for Config {
    /// What holds without a file: one queue, `default`, on
    /// `amqp://guest:guest@localhost:5672/`.
    fn default() -> Self {
        Self {
            file: None,
            default_broker: BrokerHost::default(),
            database_url: DatabaseUrl::default_in(Path::new("")),
            max_crashes: max_crashes::DEFAULT,
            unknown_tasks: UnknownTasks::default(),
            shutdown_grace: None,
            history: None,
            queues: QueueConfig::defaults(&BrokerHost::default()),
            tasks: BTreeMap::new(),
            warnings: Vec::new(),
        }
    }
}
