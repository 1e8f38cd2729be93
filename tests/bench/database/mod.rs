//! The databases of the benchmark. It uses its own SQL, as little as possible.

mod link;

use std::fs;
use std::path::Path;

use carrot_actors::config::DatabaseUrl;
use carrot_actors::internals::store::{self, Session, Store, Tables};
use clap::ValueEnum;

pub use self::link::Link;

/// The schema, database or file that is made for the benchmark.
const NAME: &str = "carrot_bench";

/// How many rows one INSERT has.
const CHUNK: usize = 1_000;

/// A kind of database.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    /// On `CARROT_TEST_POSTGRES`
    Postgresql,
    /// In a file below `target`
    Sqlite,
    /// On `CARROT_TEST_MYSQL`
    Mariadb,
}

impl Kind {
    /// Its name in the report.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Postgresql => "PostgreSQL",
            Self::Sqlite => "SQLite",
            Self::Mariadb => "MariaDB",
        }
    }

    /// Its URL for the service.
    fn url(self) -> Result<String, String> {
        let server =
            |variable| std::env::var(variable).map_err(|_| format!("{variable} is not set"));
        match self {
            Self::Postgresql => {
                let url = server("CARROT_TEST_POSTGRES")?;
                Ok(format!("{url}?options=-csearch_path%3D{NAME}"))
            }
            Self::Sqlite => Ok(format!(
                "sqlite://{}/{NAME}/carrot.db",
                env!("CARGO_TARGET_TMPDIR")
            )),
            Self::Mariadb => {
                let mut url = server("CARROT_TEST_MYSQL")?
                    .parse::<url::Url>()
                    .map_err(|error| format!("CARROT_TEST_MYSQL: {error}"))?;
                url.set_path(NAME);
                Ok(url.into())
            }
        }
    }

    /// Creates it, empty. The rest of an interrupted run is dropped.
    fn make(self) -> Result<(), String> {
        match self {
            Self::Postgresql => Link::open(self, &server("CARROT_TEST_POSTGRES"))?.execute(
                &format!("DROP SCHEMA IF EXISTS {NAME} CASCADE; CREATE SCHEMA {NAME}"),
            ),
            Self::Mariadb => Link::open(self, &server("CARROT_TEST_MYSQL"))?.execute(&format!(
                "DROP DATABASE IF EXISTS {NAME}; CREATE DATABASE {NAME} CHARACTER SET utf8mb4"
            )),
            Self::Sqlite => {
                self.remove();
                fs::create_dir_all(directory()).expect("a directory");
            }
        }
        Ok(())
    }

    fn remove(self) {
        let link = |variable| Link::open(self, &server(variable)).expect("the database");
        match self {
            Self::Postgresql => {
                link("CARROT_TEST_POSTGRES").execute(&format!("DROP SCHEMA {NAME} CASCADE"));
            }
            Self::Mariadb => link("CARROT_TEST_MYSQL").execute(&format!("DROP DATABASE {NAME}")),
            Self::Sqlite => {
                if Path::new(&directory()).exists() {
                    fs::remove_dir_all(directory()).expect("the directory removed");
                }
            }
        }
    }
}

fn directory() -> String {
    format!("{}/{NAME}", env!("CARGO_TARGET_TMPDIR"))
}

fn server(variable: &str) -> String {
    std::env::var(variable).unwrap_or_default()
}

/// A database with a table that has a history.
pub struct Database {
    kind: Kind,
    /// One store for all publishers of this process, as in a program.
    store: Box<dyn Store>,
    /// Its URL, for the service.
    pub url: String,
    /// The version as the server reports it.
    pub version: String,
    history: usize,
}

impl Database {
    /// Creates the tables with `history` finished rows, or says why it can't.
    pub fn prepare(kind: Kind, history: usize) -> Result<Self, String> {
        let text = kind.url()?;
        let url: DatabaseUrl = text.parse().map_err(|error| format!("{error}"))?;
        let store = store::open(&url, Tables::Plain).map_err(|error| error.to_string())?;
        kind.make()?;
        store.migrate().map_err(|error| error.to_string())?;
        let mut session = store.connect().map_err(|error| error.to_string())?;
        let database = Self {
            kind,
            store,
            url: text,
            version: session.version().map_err(|error| error.to_string())?,
            history,
        };
        database.insert_finished();
        database.settle();
        Ok(database)
    }

    /// Its name in the report.
    pub const fn name(&self) -> &'static str {
        self.kind.name()
    }

    /// A session of the library.
    pub fn session(&self) -> Box<dyn Session> {
        self.store.connect().expect("a session")
    }

    /// Inserts the rows of messages that the broker has, as django-carrot writes them.
    pub fn insert_published(&self, keys: &[String], task: &str, queue: &str) {
        self.insert(keys, |key| {
            format!(
                "('PUBLISHED', '{key}', 0, '{task}', '(1, ''two'')', '{{}}', '{queue}', '', '{queue}', \
                 NULL, CURRENT_TIMESTAMP, NULL)"
            )
        });
    }

    fn insert_finished(&self) {
        let keys: Vec<String> = (0..self.history)
            .map(|_| carrot_actors::internals::names::new_key())
            .collect();
        let log = "x".repeat(200);
        self.insert(&keys, |key| {
            format!(
                "('COMPLETED', '{key}', 0, 'noop', '()', '{{}}', 'old', '', 'old', '{log}', \
                 CURRENT_TIMESTAMP, CURRENT_TIMESTAMP)"
            )
        });
    }

    fn insert(&self, keys: &[String], row: impl Fn(&String) -> String) {
        let mut link = self.link();
        for keys in keys.chunks(CHUNK) {
            let rows: Vec<String> = keys.iter().map(&row).collect();
            link.execute(&format!(
                "INSERT INTO carrot_messagelog (status, uuid, priority, task, task_args, content, queue, \
                     exchange, routing_key, log, publish_time, completion_time) VALUES {}",
                rows.join(",")
            ));
        }
    }

    /// Inserts `count` schedules that run every minute, spread over it from `base` on, in nanoseconds since
    /// 1970. Django writes them like this, except for the anchor.
    pub fn insert_schedules(&self, count: usize, queue: &str, base: u64) {
        let mut link = self.link();
        let zone = if self.kind == Kind::Postgresql {
            "+00"
        } else {
            ""
        };
        let row = |nth: &u64| {
            let offset = nth * crate::schedules::PERIOD / count as u64;
            let anchor = chrono::DateTime::from_timestamp_nanos((base + offset) as i64);
            let anchor = anchor.format("%Y-%m-%d %H:%M:%S%.6f");
            format!(
                "('minutes', 1, '{queue}', '{queue}', 'noop', '{nth}', '\"{{}}\"', true, \
                 'schedule {nth}', '{anchor}{zone}')"
            )
        };
        let all: Vec<u64> = (0..count as u64).collect();
        for some in all.chunks(CHUNK) {
            let rows: Vec<String> = some.iter().map(row).collect();
            link.execute(&format!(
                "INSERT INTO carrot_scheduledtask (interval_type, interval_count, queue, routing_key, \
                     task, task_args, content, active, task_name, anchor) VALUES {}",
                rows.join(",")
            ));
        }
    }

    /// Waits until each schedule has its next run.
    pub fn await_planned(&self) {
        let unplanned =
            "SELECT count(*) AS number FROM carrot_scheduledtask WHERE next_run IS NULL";
        let mut link = self.link();
        while link.number(unplanned) > 0 {
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
    }

    /// Calls `work` with the index of the embedded broker, which costs nothing elsewhere.
    pub fn with_queues<T>(&self, work: impl FnOnce() -> T) -> T {
        let url = self.url.parse().expect("a URL");
        let store = store::open(&url, Tables::WithQueues).expect("the database");
        store.migrate().expect("a migration");
        self.settle();
        let result = work();
        let index = "DROP INDEX carrot_messagelog_waiting";
        let table = match self.kind {
            Kind::Mariadb => " ON carrot_messagelog",
            Kind::Postgresql | Kind::Sqlite => "",
        };
        let note = "DELETE FROM __diesel_schema_migrations WHERE version = '20261123000003'";
        self.link().execute(&format!("{index}{table}; {note}"));
        result
    }

    /// Deletes all schedules.
    pub fn remove_schedules(&self) {
        self.link().execute("DELETE FROM carrot_scheduledtask");
    }

    /// Waits until no message is in progress, and fails unless `count` are COMPLETED then.
    pub fn await_completed(&self, count: usize) {
        let mut link = self.link();
        while link.number(&self.counting("IN_PROGRESS")) > 0 {}
        let completed = link.number(&self.counting("COMPLETED"));
        assert_eq!(usize::try_from(completed), Ok(count), "COMPLETED messages");
    }

    /// How many messages since the history are COMPLETED.
    pub fn completed(&self) -> usize {
        let completed = self.link().number(&self.counting("COMPLETED"));
        usize::try_from(completed).expect("a count")
    }

    /// Counts by the primary key, so that it is cheap on every database.
    fn counting(&self, status: &str) -> String {
        format!(
            "SELECT count(*) AS number FROM carrot_messagelog WHERE id > {} AND status = '{status}'",
            self.history
        )
    }

    /// Deletes all rows but the history, and tidies the table.
    pub fn reset(&self) {
        let since = format!("DELETE FROM carrot_messagelog WHERE id > {}", self.history);
        self.link().execute(&since);
        self.settle();
    }

    /// Does now what a database does by itself in time, so that it does not happen during a run.
    fn settle(&self) {
        self.link().execute(match self.kind {
            Kind::Postgresql => "VACUUM ANALYZE carrot_messagelog",
            Kind::Sqlite => "ANALYZE; PRAGMA wal_checkpoint(TRUNCATE)",
            Kind::Mariadb => "ANALYZE TABLE carrot_messagelog",
        });
    }

    /// A new connection of the benchmark.
    pub fn link(&self) -> Link {
        Link::open(self.kind, &self.url).expect("the database")
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        self.kind.remove();
    }
}
