//! The statements that a test runs on the database of its world.

use serde_json::{Value, json};

use super::{Client, Database, published_row, text};
use crate::support::world::World;
use crate::support::{PATIENCE, eventually, look_again};

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
            if started.elapsed() > PATIENCE {
                let others = "SELECT * FROM carrot_messagelog WHERE status <> 'COMPLETED'";
                let workers = "SELECT * FROM carrot_worker";
                panic!(
                    "timed out waiting for {count} COMPLETED messages; {:#?} with workers {:#?}",
                    self.rows(others),
                    self.rows(workers)
                );
            }
            look_again(started);
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
