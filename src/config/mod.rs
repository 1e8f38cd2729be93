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
mod locate;
mod max_crashes;
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

use toml::Table;

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

use fault::Faults;
use locate::Source;
use reader::{Entry, Section};

/// The columns of django-carrot's tables that hold names of queues and tasks
/// are `varchar(200)`.
const MOST_NAME_BYTES: usize = 200;
const GRACE: &str = "a duration of at most a year, as \"90s\", \"5m\" or \"1h 30m\"";
/// A bound that can be added to any clock without overflow.
const LONGEST_GRACE: Duration = Duration::from_hours(365 * 24);

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
    /// Reads the configuration: from `explicit`, else from the file that
    /// `CARROT_CONFIG` names, else from `carrot.toml` in `cwd`, else from
    /// `/etc/carrot/carrot.toml`, else the defaults. `CARROT_DEFAULT_BROKER` and
    /// `CARROT_DATABASE_URL` (else `DATABASE_URL`) override the file. `cwd` is
    /// the current directory, absolute.
    ///
    /// # Errors
    /// When a named file cannot be read, when it is not TOML, or with all the
    /// faults that its keys and the environment have.
    pub fn load(
        explicit: Option<&Path>,
        env: &Environment,
        cwd: &Path,
    ) -> Result<Self, ConfigError> {
        Self::load_over(&Defaults::default(), explicit, env, cwd)
    }

    /// The same, over other defaults than those of the stock service.
    ///
    /// # Errors
    /// As [`Config::load`] has them.
    pub fn load_over(
        defaults: &Defaults,
        explicit: Option<&Path>,
        env: &Environment,
        cwd: &Path,
    ) -> Result<Self, ConfigError> {
        Self::of_origin(&Origin::find(explicit, env, cwd)?, defaults, env)
    }

    /// The same from what was found before.
    ///
    /// # Errors
    /// When that is not TOML, or has faults.
    pub(crate) fn of_origin(
        origin: &Origin,
        defaults: &Defaults,
        env: &Environment,
    ) -> Result<Self, ConfigError> {
        Self::from_source(origin.source.as_ref(), defaults, env, &origin.directory)
    }

    /// The configuration that the binary would read, started as this process was.
    ///
    /// # Errors
    /// As [`Config::load`] has them.
    pub fn of_process() -> Result<Self, ConfigError> {
        Self::of_process_over(&Defaults::default())
    }

    /// The same, over other defaults.
    pub(crate) fn of_process_over(defaults: &Defaults) -> Result<Self, ConfigError> {
        let cwd = std::env::current_dir().map_err(|cause| ConfigError::Unreadable {
            file: PathBuf::from("."),
            cause,
        })?;
        Self::load_over(defaults, None, &Environment::from_process(), &cwd)
    }

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

    fn from_source(
        source: Option<&Source>,
        defaults: &Defaults,
        env: &Environment,
        cwd: &Path,
    ) -> Result<Self, ConfigError> {
        let (table, base) = match source {
            Some(source) => (source.parse()?, source.directory()),
            None => (Table::new(), cwd),
        };
        let table = defaults.below(table);
        let (faults, mut warnings) = (Faults::default(), Vec::new());
        let mut root = Section::root(&table, &faults);
        let broker = root.get("default_broker").and_then(BrokerHost::read);
        let database = root
            .get("database_url")
            .and_then(|entry| DatabaseUrl::read(entry, base));
        let default_broker = env.default_broker(&faults).or(broker).unwrap_or_default();
        let queues = root
            .get("queues")
            .map(|entry| QueueConfig::read_all(&entry, &default_broker));
        let config = Self {
            file: None,
            database_url: env
                .database_url(&faults, cwd)
                .or(database)
                .unwrap_or_else(|| DatabaseUrl::default_in(base)),
            max_crashes: max_crashes::read(&mut root, &mut warnings),
            unknown_tasks: root
                .get("unknown_tasks")
                .and_then(|entry| UnknownTasks::read(&entry))
                .unwrap_or_default(),
            shutdown_grace: root
                .get("shutdown_grace")
                .and_then(|entry| duration::read(&entry, Duration::ZERO..=LONGEST_GRACE, GRACE)),
            history: root.get("history").and_then(|entry| History::read(&entry)),
            queues: queues
                .unwrap_or_else(|| Some(QueueConfig::defaults(&default_broker)))
                .unwrap_or_default(),
            tasks: read_tasks(&mut root, base),
            default_broker,
            warnings,
        };
        root.finish();
        let file = source.map(|source| source.path.clone());
        faults.into_result(
            Self {
                file: file.clone(),
                ..config
            },
            file,
        )
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

fn read_tasks(root: &mut Section<'_>, base: &Path) -> BTreeMap<String, CommandConfig> {
    let entry = root.get("tasks");
    entry
        .map(|entry| CommandConfig::read_all(&entry, base))
        .unwrap_or_default()
}

/// Checks the name of a queue or task, which stands in the database, where
/// PostgreSQL refuses a NUL.
fn read_name<'a>(entry: &Entry<'_>, name: &'a str) -> Option<&'a str> {
    if name.is_empty() || name.len() > MOST_NAME_BYTES {
        entry.fault(format!(
            "must have a name of 1 to {MOST_NAME_BYTES} bytes, not {}",
            name.len()
        ));
        return None;
    }
    if name.contains('\0') {
        entry.fault("must have a name without a NUL");
        return None;
    }
    Some(name)
}
