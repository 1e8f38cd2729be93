//! Reads a [`Config`] from its file, the environment and the program's defaults.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use toml::Table;

use super::fault::Faults;
use super::locate::ConfigFile;
use super::reader::Section;
use super::{
    BrokerHost, CommandConfig, Config, ConfigError, DatabaseUrl, Defaults, Environment, History,
    Origin, QueueConfig, UnknownTasks, duration, max_crashes,
};

const GRACE_EXPECTED: &str = "a duration of at most a year, as \"90s\", \"5m\" or \"1h 30m\"";
/// A bound that can be added to any clock without overflow.
const MAX_GRACE: Duration = Duration::from_hours(365 * 24);

impl Config {
    /// Reads the configuration from the first of these files: `explicit`, the file that `CARROT_CONFIG` names,
    /// `carrot.toml` in `cwd`, `/etc/carrot/carrot.toml`. Without a file, the defaults apply.
    /// `CARROT_DEFAULT_BROKER` and `CARROT_DATABASE_URL` (or else `DATABASE_URL`) override the file. `cwd` is the
    /// absolute path of the current directory.
    ///
    /// # Errors
    /// When a file that was named, or that exists, can't be read; when it is not TOML; or with all faults of its
    /// keys and of the environment.
    pub fn load(
        explicit: Option<&Path>,
        env: &Environment,
        cwd: &Path,
    ) -> Result<Self, ConfigError> {
        Self::load_over(&Defaults::default(), explicit, env, cwd)
    }

    /// As [`Config::load`], with a program's own defaults.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn load_over(
        defaults: &Defaults,
        explicit: Option<&Path>,
        env: &Environment,
        cwd: &Path,
    ) -> Result<Self, ConfigError> {
        Self::of_origin(&Origin::find(explicit, env, cwd)?, defaults, env)
    }

    /// As [`Config::load_over`], from a file that has been read before.
    ///
    /// # Errors
    /// When the file is not TOML, or has faults.
    pub(crate) fn of_origin(
        origin: &Origin,
        defaults: &Defaults,
        env: &Environment,
    ) -> Result<Self, ConfigError> {
        Self::from_source(origin.source.as_ref(), defaults, env, &origin.directory)
    }

    /// The configuration that the service would read if it were started in this process's directory and
    /// environment.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn of_process() -> Result<Self, ConfigError> {
        Self::of_process_over(&Defaults::default())
    }

    /// As [`Config::of_process`], with a program's own defaults.
    pub(crate) fn of_process_over(defaults: &Defaults) -> Result<Self, ConfigError> {
        let cwd = std::env::current_dir().map_err(|cause| ConfigError::Unreadable {
            file: PathBuf::from("."),
            cause,
        })?;
        Self::load_over(defaults, None, &Environment::from_process(), &cwd)
    }

    pub(super) fn from_source(
        source: Option<&ConfigFile>,
        defaults: &Defaults,
        env: &Environment,
        cwd: &Path,
    ) -> Result<Self, ConfigError> {
        let (table, base) = match source {
            Some(source) => (source.parse()?, source.directory()),
            None => (Table::new(), cwd),
        };
        let table = defaults.fill_in(table);
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
            shutdown_grace: root.get("shutdown_grace").and_then(|entry| {
                duration::read(&entry, Duration::ZERO..=MAX_GRACE, GRACE_EXPECTED)
            }),
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

impl Defaults {
    /// Reads and checks defaults that are written as TOML.
    ///
    /// # Errors
    /// [`ConfigError::Defaults`] when they are not TOML, or with all faults of their keys.
    pub fn read(text: &str) -> Result<Self, ConfigError> {
        let source = ConfigFile {
            path: "defaults".into(),
            text: text.to_owned(),
        };
        let told = |error| match error {
            ConfigError::NotToml {
                line,
                column,
                message,
                ..
            } => ConfigError::Defaults(format!(", line {line}, column {column}: {message}")),
            ConfigError::Faulty { faults, .. } => {
                let faults = faults.iter().map(|fault| format!("\n  {fault}"));
                ConfigError::Defaults(format!(":{}", faults.collect::<String>()))
            }
            other => other,
        };
        let table = source.parse().map_err(told)?;
        let alone = Environment::default();
        Config::from_source(Some(&source), &Self::default(), &alone, Path::new("/"))
            .map_err(told)?;
        Ok(Self::from_table(table))
    }
}

fn read_tasks(root: &mut Section<'_>, base: &Path) -> BTreeMap<String, CommandConfig> {
    let entry = root.get("tasks");
    entry
        .map(|entry| CommandConfig::read_all(&entry, base))
        .unwrap_or_default()
}
