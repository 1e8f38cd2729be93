//! The validated configuration of a service.
//!
//! [`Config::load`] finds and reads the TOML file, lets the environment override it, and reports all faults at
//! once. Nothing here connects to a server, and neither `Display` nor `Debug` shows a password.

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
    /// The absolute path of the file that it was read from; `None` if there was none.
    pub file: Option<PathBuf>,
    /// The broker for messages to queues that are not among [`queues`](Self::queues). Each of those has a broker
    /// of its own. In a file that is this one unless the queue names another; in a configuration built in code,
    /// set both, as by `queues: vec![QueueConfig::new("default", BrokerHost::Embedded)]`.
    pub default_broker: BrokerHost,
    /// The database. If neither file nor environment names one, it is the SQLite file `carrot.db` in the
    /// directory of the configuration file, or in the current directory if there is no file.
    pub database_url: DatabaseUrl,
    /// After this many runs in which its worker vanished, a message is FAILED: at least 1, 3 by default. With 1, a
    /// run that crashed is never repeated; to ensure this, each run is recorded before it starts.
    pub max_crashes: u32,
    /// What happens to messages whose task this service does not know: they wait, by default.
    pub unknown_tasks: UnknownTasks,
    /// How long tasks may go on running once the service was told to stop, at most a year. `None`: there is no
    /// limit.
    pub shutdown_grace: Option<Duration>,
    /// How long finished messages are kept. `None`: for ever.
    pub history: Option<History>,
    /// The queues: at least one, each with a name of its own.
    pub queues: Vec<QueueConfig>,
    /// The tasks that are external commands, by the task's name.
    pub tasks: BTreeMap<String, CommandConfig>,
    /// Deprecated keys that the file has, and what to use instead.
    pub warnings: Vec<Fault>,
}

impl Config {
    /// Whether any queue is on the embedded broker.
    #[must_use]
    pub fn has_embedded_queues(&self) -> bool {
        let mut queues = self.queues.iter();
        queues.any(|queue| queue.host == BrokerHost::Embedded)
    }

    /// The queue with this name.
    #[must_use]
    pub fn queue(&self, name: &str) -> Option<&QueueConfig> {
        self.queues.iter().find(|queue| queue.name == name)
    }
}

impl Default for Config {
    /// The configuration without a file: one queue, `default`, on `amqp://guest:guest@localhost:5672/`.
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
