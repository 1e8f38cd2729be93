//! PostgreSQL as another client sees it.

use diesel::connection::SimpleConnection;
use diesel::pg::PgConnection;
use diesel::prelude::*;
use diesel::sql_types::Text;
use serde_json::Value;

use super::world::World;
use super::{eventually, server};

#[derive(QueryableByName)]
struct Json {
    #[diesel(sql_type = Text)]
    row: String,
}

impl World {
    /// A connection of the test's own to its schema.
    pub fn postgres(&self) -> PgConnection {
        PgConnection::establish(&self.database_url).unwrap()
    }

    /// The rows that `query` selects, each as a JSON object.
    pub fn rows(&self, query: &str) -> Vec<Value> {
        let query = format!("SELECT row_to_json(t)::text AS row FROM ({query}) t");
        let rows: Vec<Json> = diesel::sql_query(query).load(&mut self.postgres()).unwrap();
        rows.iter()
            .map(|json| serde_json::from_str(&json.row).unwrap())
            .collect()
    }

    /// Runs statements.
    pub fn execute(&self, statements: &str) {
        self.postgres().batch_execute(statements).unwrap();
    }

    /// How many messages are in this state.
    pub fn count(&self, status: &str) -> usize {
        let query = format!("SELECT uuid FROM carrot_messagelog WHERE status = '{status}'");
        self.rows(&query).len()
    }

    /// The row of a message, or nothing.
    pub fn find(&self, uuid: &str) -> Option<Value> {
        let quoted = uuid.replace('\'', "''");
        let mut rows = self.rows(&format!(
            "SELECT * FROM carrot_messagelog WHERE uuid = '{quoted}'"
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

    /// Waits until so many messages are COMPLETED.
    #[track_caller]
    pub fn await_completed(&self, count: usize) {
        eventually(&format!("{count} COMPLETED messages"), || {
            (self.count("COMPLETED") >= count).then_some(())
        });
    }

    /// Inserts a row as django-carrot writes it, naming its own columns.
    pub fn insert_django_row(&self, row: &Value) {
        let quoted = row.to_string().replace('\'', "''");
        let columns = "status, exchange, queue, routing_key, uuid, priority, task, task_args, content, \
                       exception, traceback, output, publish_time, failure_time, completion_time, log";
        self.execute(&format!(
            "INSERT INTO carrot_messagelog ({columns}) SELECT {columns} \
             FROM json_populate_record(NULL::carrot_messagelog, '{quoted}')"
        ));
    }
}

/// A text column.
pub fn text<'a>(row: &'a Value, column: &str) -> &'a str {
    row[column].as_str().unwrap_or_default()
}

/// Runs statements outside any test's schema.
pub fn administer(statements: &str) {
    let mut connection = PgConnection::establish(&server("CARROT_TEST_POSTGRES")).unwrap();
    connection.batch_execute(statements).unwrap();
}
