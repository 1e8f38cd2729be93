//! The databases of the service, used by the test as another client.

mod client;
mod rows;
mod slowness;
mod statements;

use serde_json::{Value, json};

pub use client::Client;
pub(crate) use client::with_connection;

use super::server;

/// A kind of database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Database {
    Postgresql,
    Sqlite,
    #[cfg(feature = "mysql")]
    Mariadb,
}

/// The columns of a message in Django's table, without the id.
pub const DJANGOS_COLUMNS: [&str; 16] = [
    "status",
    "exchange",
    "queue",
    "routing_key",
    "uuid",
    "priority",
    "task",
    "task_args",
    "content",
    "exception",
    "traceback",
    "output",
    "publish_time",
    "failure_time",
    "completion_time",
    "log",
];

impl Database {
    /// The statements that create Django's tables.
    pub fn django_schema(self) -> String {
        let schema = match self {
            Self::Postgresql => {
                include_str!("../../../fixtures/django-carrot/schema.postgresql.sql")
            }
            Self::Sqlite => include_str!("../../../fixtures/django-carrot/schema.sqlite.sql"),
            #[cfg(feature = "mysql")]
            Self::Mariadb => include_str!("../../../fixtures/django-carrot/schema.mysql.sql"),
        };
        schema.replace("public.", "")
    }

    /// SQL for the time so many seconds ago.
    pub fn ago(self, seconds: u64) -> String {
        let now = match self {
            Self::Postgresql => "now()",
            Self::Sqlite => "'now'",
            #[cfg(feature = "mysql")]
            Self::Mariadb => "utc_timestamp(6)",
        };
        self.before(now, seconds)
    }

    /// SQL for the time so many seconds before `time`.
    pub fn before(self, time: &str, seconds: u64) -> String {
        match self {
            Self::Postgresql => format!("{time} - interval '{seconds} seconds'"),
            Self::Sqlite => {
                format!("strftime('%Y-%m-%d %H:%M:%f000', {time}, '-{seconds} seconds')")
            }
            #[cfg(feature = "mysql")]
            Self::Mariadb => format!("{time} - INTERVAL {seconds} SECOND"),
        }
    }

    /// The value as an SQL literal.
    pub fn literal(self, value: &Value) -> String {
        match value {
            Value::Null => "NULL".to_owned(),
            Value::String(text) => {
                let quoted = text.replace('\'', "''");
                match self {
                    Self::Postgresql | Self::Sqlite => format!("'{quoted}'"),
                    #[cfg(feature = "mysql")]
                    Self::Mariadb => format!("'{}'", quoted.replace('\\', "\\\\")),
                }
            }
            other => other.to_string(),
        }
    }

    /// The statement that inserts rows as django-carrot does, with only its own columns.
    pub fn django_insert(self, rows: &[Value]) -> String {
        let values = |row: &Value| {
            let values = DJANGOS_COLUMNS.map(|column| self.literal(&row[column]));
            format!("({})", values.join(", "))
        };
        format!(
            "INSERT INTO carrot_messagelog ({}) VALUES {}",
            DJANGOS_COLUMNS.join(", "),
            rows.iter().map(values).collect::<Vec<_>>().join(", ")
        )
    }

    /// Creates a schema or database for a world; its URL. `file` is the path of an SQLite database.
    pub(super) fn create(self, name: &str, file: &str) -> String {
        match self {
            Self::Postgresql => {
                self.administer(&format!("CREATE SCHEMA {name}"));
                let server = server("CARROT_TEST_POSTGRES");
                format!("{server}?options=-csearch_path%3D{name}")
            }
            Self::Sqlite => format!("sqlite://{file}"),
            #[cfg(feature = "mysql")]
            Self::Mariadb => {
                self.administer(&format!("CREATE DATABASE {name} CHARACTER SET utf8mb4"));
                let server = server("CARROT_TEST_MYSQL");
                format!("{}/{name}", server.strip_suffix("/carrot").unwrap())
            }
        }
    }

    /// Drops what [`Self::create`] created.
    pub(super) fn remove(self, name: &str) {
        match self {
            Self::Postgresql => self.administer(&format!("DROP SCHEMA {name} CASCADE")),
            Self::Sqlite => {}
            #[cfg(feature = "mysql")]
            Self::Mariadb => self.administer(&format!("DROP DATABASE {name}")),
        }
    }

    /// Runs statements on the server, outside any test's schema.
    pub fn administer(self, statements: &str) {
        let url = match self {
            Self::Postgresql => server("CARROT_TEST_POSTGRES"),
            Self::Sqlite => panic!("SQLite has no server"),
            #[cfg(feature = "mysql")]
            Self::Mariadb => server("CARROT_TEST_MYSQL"),
        };
        Client::connect(self, &url).execute(statements);
    }
}

/// The row that django-carrot writes when it publishes a message without arguments.
pub fn published_row(queue: &str, task: &str, uuid: &str) -> Value {
    json!({
        "uuid": uuid, "status": "PUBLISHED", "exchange": "", "queue": queue,
        "routing_key": queue, "priority": 0, "task": task, "task_args": "()",
        "content": "{}", "publish_time": "2026-01-01 00:00:00",
    })
}

/// A text column.
pub fn text<'a>(row: &'a Value, column: &str) -> &'a str {
    row[column].as_str().unwrap_or_default()
}

/// A column that holds a time, in milliseconds since 1970, the coarsest precision of all databases.
#[track_caller]
pub fn milliseconds(row: &Value, column: &str) -> i64 {
    let text = text(row, column);
    let naive = || chrono::NaiveDateTime::parse_from_str(text, "%Y-%m-%d %H:%M:%S%.f");
    match chrono::DateTime::parse_from_rfc3339(text) {
        Ok(time) => time.timestamp_millis(),
        // Times without a time zone are UTC.
        Err(_) => naive().unwrap().and_utc().timestamp_millis(),
    }
}
