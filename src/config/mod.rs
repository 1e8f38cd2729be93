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
mod fault;
mod history;
mod locate;
mod percent;
mod queue;
mod reader;
mod secret;

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
pub use duration::shown;
pub use environment::Environment;
pub use fault::{ConfigError, Fault};
pub use history::History;
pub use queue::{ExchangeConfig, ExchangeKind, QueueConfig};
pub use secret::Secret;

use fault::Faults;
use locate::Source;
use reader::{Entry, Section};

const DEFAULT_MAX_ATTEMPTS: u32 = 3;
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
    /// The broker of all queues that name no other.
    pub default_broker: BrokerHost,
    /// The database; `carrot.db` beside the file, or in the current directory, if neither file nor
    /// environment names one.
    pub database_url: DatabaseUrl,
    /// Runs after which a message that kills its process is FAILED: at least 1,
    /// 3 by default.
    pub max_attempts: u32,
    /// How long running tasks may take once the service was told to stop, at
    /// most a year; `None`: as long as they take.
    pub shutdown_grace: Option<Duration>,
    /// How long messages that are over are kept; `None`: for good.
    pub history: Option<History>,
    /// At least one, no two of one name.
    pub queues: Vec<QueueConfig>,
    /// External commands by their task's name.
    pub tasks: BTreeMap<String, CommandConfig>,
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
        let source = locate::find(explicit, env, cwd, Path::new(locate::SYSTEM_FILE))?;
        Self::from_source(source, defaults, env, cwd)
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

    /// The queue of that name.
    #[must_use]
    pub fn queue(&self, name: &str) -> Option<&QueueConfig> {
        self.queues.iter().find(|queue| queue.name == name)
    }

    fn from_source(
        source: Option<Source>,
        defaults: &Defaults,
        env: &Environment,
        cwd: &Path,
    ) -> Result<Self, ConfigError> {
        let (table, base) = match &source {
            Some(source) => (source.parse()?, source.directory()),
            None => (Table::new(), cwd),
        };
        let table = defaults.below(table);
        let faults = Faults::default();
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
            max_attempts: read_max_attempts(&mut root),
            shutdown_grace: root
                .get("shutdown_grace")
                .and_then(|entry| duration::read(&entry, Duration::ZERO..=LONGEST_GRACE, GRACE)),
            history: root.get("history").and_then(|entry| History::read(&entry)),
            queues: queues
                .unwrap_or_else(|| Some(QueueConfig::defaults(&default_broker)))
                .unwrap_or_default(),
            tasks: read_tasks(&mut root, base),
            default_broker,
        };
        root.finish();
        let file = source.map(|source| source.path);
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
            max_attempts: DEFAULT_MAX_ATTEMPTS,
            shutdown_grace: None,
            history: None,
            queues: QueueConfig::defaults(&BrokerHost::default()),
            tasks: BTreeMap::new(),
        }
    }
}

fn read_max_attempts(root: &mut Section<'_>) -> u32 {
    let entry = root.get("max_attempts");
    // The upper bound is that of an integer column.
    let attempts = entry.and_then(|entry| entry.whole(1..=i64::from(i32::MAX)));
    attempts.unwrap_or(DEFAULT_MAX_ATTEMPTS)
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

#[cfg(test)]
mod tests {
    use super::{BrokerHost, Config, ConfigError, Defaults, Environment, Fault, Source};
    use std::path::{Path, PathBuf};
    use std::time::Duration;

    const NONE: [(&str, &str); 0] = [];

    fn load<const N: usize>(text: &str, env: [(&str, &str); N]) -> Result<Config, ConfigError> {
        let source = Source {
            path: "/etc/carrot/test.toml".into(),
            text: text.to_owned(),
        };
        Config::from_source(
            Some(source),
            &Defaults::default(),
            &Environment::from_pairs(env),
            Path::new("/home/me"),
        )
    }

    fn faults(error: ConfigError) -> Vec<Fault> {
        match error {
            ConfigError::Faulty { faults, .. } => faults,
            other => panic!("{other}"),
        }
    }

    #[test]
    fn without_a_file_the_defaults_hold() {
        let (none, env) = (Defaults::default(), Environment::default());
        let config = Config::from_source(None, &none, &env, Path::new("/home/me")).unwrap();
        assert_eq!(config.database_url.expose(), "sqlite:///home/me/carrot.db");
        let elsewhere = Config {
            database_url: Config::default().database_url,
            ..config.clone()
        };
        assert_eq!(elsewhere, Config::default());
        let queue = config.queue("default").unwrap();
        assert_eq!(
            queue.host.to_string(),
            "amqp://guest:***@localhost:5672/%2f"
        );
        assert_eq!(
            (
                config.max_attempts,
                config.shutdown_grace,
                config.queue("other")
            ),
            (3, None, None)
        );
    }

    #[test]
    fn an_empty_file_is_the_defaults_too() {
        let config = load("", NONE).unwrap();
        assert_eq!(config.file, Some(PathBuf::from("/etc/carrot/test.toml")));
        assert_eq!(
            Config {
                file: None,
                database_url: Config::default().database_url,
                ..config
            },
            Config::default()
        );
    }

    #[test]
    fn every_key_is_read() {
        let text = r#"
            default_broker = "amqp://user:secret@host:5672/vhost"
            database_url = "sqlite://carrot.db"
            max_attempts = 5
            shutdown_grace = "5m"
            history = { completed = "7d" }
            [[queues]]
            name = "a"
            [[queues]]
            name = "b"
            host = "embedded"
            [tasks."reports.build"]
            command = ["python3", "build.py", "--fast"]
        "#;
        let config = load(text, NONE).unwrap();
        assert_eq!(config.queue("a").unwrap().host, config.default_broker);
        let url = config.default_broker.rabbitmq().unwrap();
        assert_eq!(url.password.expose(), "secret");
        assert_eq!(config.queue("b").unwrap().host, BrokerHost::Embedded);
        assert_eq!(
            config.database_url.expose(),
            "sqlite:///etc/carrot/carrot.db"
        );
        assert_eq!(config.shutdown_grace, Some(Duration::from_mins(5)));
        let week = Duration::from_hours(7 * 24);
        assert_eq!(config.history.as_ref().unwrap().completed, Some(week));
        assert_eq!(
            (
                config.max_attempts,
                config.tasks["reports.build"].command.len()
            ),
            (5, 3)
        );
        assert!(!format!("{config:?}").contains("secret"));
    }

    #[test]
    fn the_environment_stands_above_the_file() {
        let text = "default_broker = 'amqp://file'\ndatabase_url = 'mysql://file/d'\n[[queues]]\nname = 'q'";
        let config = load(
            text,
            [
                ("CARROT_DEFAULT_BROKER", "amqp://env/v"),
                ("DATABASE_URL", "sqlite://x.db"),
            ],
        )
        .unwrap();
        assert_eq!(config.default_broker.rabbitmq().unwrap().host, "env");
        assert_eq!(config.queue("q").unwrap().host, config.default_broker);
        assert_eq!(config.database_url.expose(), "sqlite:///home/me/x.db");
    }

    #[test]
    fn every_fault_is_reported_at_once() {
        let text = r#"
            default_broker = "embeded"
            database_url = 5
            max_attempts = 0
            shutdown_grace = "soon"
            max_atempts = 3
            [[queues]]
            name = "a"
            concurrency = "four"
            host = { port = "secret", passwort = "secret" }
            [[queues]]
            consumer_class = "x"
            [tasks.t]
            command = "run secret"
        "#;
        let error = load(text, [("DATABASE_URL", "postgres://u:secret@h:x/")]).unwrap_err();
        let told = error.to_string();
        assert!(!told.contains("secret"), "{told}");
        assert!(
            told.starts_with("configuration file /etc/carrot/test.toml has faults:\n  "),
            "{told}"
        );
        let keys: Vec<String> = faults(error).into_iter().map(|fault| fault.key).collect();
        assert_eq!(
            keys,
            [
                "default_broker",
                "database_url",
                "queues[0].host.port",
                "queues[0].host.passwort",
                "queues[0].concurrency",
                "queues[1].name",
                "queues[1].consumer_class",
                "DATABASE_URL",
                "max_attempts",
                "shutdown_grace",
                "tasks.t.command",
                "max_atempts",
            ]
        );
        assert!(told.contains(
            "\n  queues[0].concurrency: must be a whole number from 1 to 1000, not \"four\""
        ));
        assert!(told.contains("\n  max_atempts: is not a known key; did you mean max_attempts?"));
    }

    #[test]
    fn a_grace_time_is_a_duration_that_clocks_can_add() {
        let grace = |text: &str| load(&format!("shutdown_grace = {text}"), NONE);
        assert_eq!(grace("'0s'").unwrap().shutdown_grace, Some(Duration::ZERO));
        for text in ["300", "'2 years'"] {
            let told = grace(text).unwrap_err().to_string();
            assert!(
                told.contains("shutdown_grace: must be a duration of at most a year"),
                "{told}"
            );
        }
    }

    #[test]
    fn a_broken_file_shows_no_line_of_itself() {
        for text in [
            "password = \"hunter2",
            "password = hunter2",
            "password = 'hunter2' 'hunter2'",
            "password = [\"hunter2\"",
            "password = { x = \"hunter2\"",
            "password hunter2",
            "password = \"hunter2\\q\"",
            "password = 1hunter2",
            "password = 2020-hunter2",
            "password = truhunter2",
            "a = 1\na = \"hunter2\"",
            "[a]\nb = 1\n[a.b]\nc = \"hunter2\"",
            "a = 99999999999999999999999 # hunter2",
        ] {
            let told = load(text, NONE).unwrap_err().to_string();
            assert!(
                told.contains(", line ") && !told.contains("hunter2"),
                "{told}"
            );
        }
    }
}
