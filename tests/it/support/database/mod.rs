//! The databases of the service, used by the test as another client.

mod client;
mod rows;
mod slowness;

use serde_json::{Value, json};

pub use client::Client;
pub(crate) use client::with_connection;

use super::world::World;
use super::{eventually, server};

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

impl World {
    /// A connection of the test's own to its database.
    pub fn client(&self) -> Client {
        Client::connect(self.database, &self.database_url)
    }

    /// The rows that `query` selects, each as a JSON object. A time is text.
    pub fn rows(&self, query: &str) -> Vec<Value> {
        self.client().rows(query)
    }

    /// Runs statements.
    pub fn execute(&self, statements: &str) {
        self.client().execute(statements);
    }

    /// How many messages are in this state.
    pub fn count(&self, status: &str) -> usize {
        let query =
            format!("SELECT count(*) AS number FROM carrot_messagelog WHERE status = '{status}'");
        let number = self.rows(&query)[0]["number"].as_u64();
        usize::try_from(number.unwrap()).unwrap()
    }

    /// The row of a message, or nothing.
    pub fn find(&self, uuid: &str) -> Option<Value> {
        let mut rows = self.rows(&format!(
            "SELECT * FROM carrot_messagelog WHERE uuid = {}",
            self.database.literal(&json!(uuid))
        ));
        assert!(rows.len() <= 1, "{uuid} has {} rows", rows.len());
        rows.pop()
    }

    /// The row of a message once it is final.
    #[track_caller]
    pub fn ended(&self, uuid: &str) -> Value {
        eventually(&format!("the end of {uuid}"), || {
            self.find(uuid).filter(|row| {
                !matches!(text(row, "status"), "PENDING" | "PUBLISHED" | "IN_PROGRESS")
            })
        })
    }

    /// Waits until `count` messages are in this state.
    #[track_caller]
    pub fn await_count(&self, status: &str, count: usize) {
        eventually(&format!("{count} messages are {status}"), || {
            self.count(status) == count
        });
    }

    /// Waits until at least `count` messages are COMPLETED; on failure, prints the other rows.
    #[track_caller]
    pub fn await_completed(&self, count: usize) {
        let started = std::time::Instant::now();
        while self.count("COMPLETED") < count {
            if started.elapsed() > super::PATIENCE {
                let others = "SELECT * FROM carrot_messagelog WHERE status <> 'COMPLETED'";
                let workers = "SELECT * FROM carrot_worker";
                panic!(
                    "timed out waiting for {count} COMPLETED messages; {:#?} with workers {:#?}",
                    self.rows(others),
                    self.rows(workers)
                );
            }
            super::look_again(started);
        }
    }

    /// Inserts rows as django-carrot writes them, naming its own columns.
    pub fn insert_django_rows(&self, rows: &[Value]) {
        self.execute(&self.database.django_insert(rows));
    }

    /// Inserts the rows of messages without arguments as django-carrot does when it publishes them.
    pub fn insert_published(&self, queue: &str, task: &str, uuids: &[String]) {
        let row = |uuid: &String| published_row(queue, task, uuid);
        self.insert_django_rows(&uuids.iter().map(row).collect::<Vec<_>>());
    }

    /// Inserts the rows of messages without arguments that were recorded an hour ago and not published, so
    /// that a sweep publishes them.
    pub fn insert_overdue(&self, queue: &str, task: &str, uuids: &[String]) {
        self.insert_published(queue, task, uuids);
        self.execute(&format!(
            "UPDATE carrot_messagelog SET status = 'PENDING', due_time = {} \
             WHERE status = 'PUBLISHED' AND queue = '{queue}'",
            self.database.ago(3600)
        ));
    }

    /// Inserts a row into any table, with the columns that it names.
    pub fn insert_into(&self, table: &str, row: &Value) {
        let row = row.as_object().unwrap();
        let columns: Vec<&str> = row.keys().map(String::as_str).collect();
        let values = row.values().map(|value| self.database.literal(value));
        self.execute(&format!(
            "INSERT INTO {table} ({}) VALUES ({})",
            columns.join(", "),
            values.collect::<Vec<_>>().join(", ")
        ));
    }

    /// Makes the database refuse every row with this word in this column; its reason names `decent`.
    pub fn refuse(&self, column: &str, word: &str) {
        self.execute(&match self.database {
            Database::Sqlite => ["INSERT", "UPDATE"]
                .map(|event| {
                    format!(
                        "CREATE TRIGGER decent_{event} BEFORE {event} ON carrot_messagelog \
                         WHEN NEW.{column} LIKE '%{word}%' \
                         BEGIN SELECT RAISE(ABORT, 'decent'); END;"
                    )
                })
                .concat(),
            _ => format!(
                "ALTER TABLE carrot_messagelog ADD CONSTRAINT decent \
                 CHECK ({column} IS NULL OR {column} NOT LIKE '%{word}%')"
            ),
        });
    }

    /// The tables and their columns, as the database describes them.
    pub fn tables(&self) -> Vec<Value> {
        self.rows(match self.database {
            Database::Postgresql => {
                "SELECT table_name, column_name, data_type, column_default, is_nullable \
                 FROM information_schema.columns WHERE table_schema = current_schema() \
                 ORDER BY table_name, column_name"
            }
            Database::Sqlite => "SELECT type, name, sql FROM sqlite_master ORDER BY type, name",
            #[cfg(feature = "mysql")]
            Database::Mariadb => {
                "SELECT table_name, column_name, column_type, column_default, is_nullable \
                 FROM information_schema.columns WHERE table_schema = database() \
                 ORDER BY table_name, column_name"
            }
        })
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
