//! A connection of a test's own.

use diesel::connection::SimpleConnection;
#[cfg(feature = "mysql")]
use diesel::mysql::MysqlConnection;
use diesel::pg::PgConnection;
use diesel::prelude::*;
use diesel::sqlite::SqliteConnection;
use serde_json::Value;

use super::Database;
use super::rows::{Json, JsonText};

/// A connection to a world's database.
pub enum Client {
    Postgresql(PgConnection),
    Sqlite(SqliteConnection),
    #[cfg(feature = "mysql")]
    Mariadb(MysqlConnection),
}

impl Client {
    pub(super) fn connect(database: Database, url: &str) -> Self {
        match database {
            Database::Postgresql => Self::Postgresql(PgConnection::establish(url).unwrap()),
            Database::Sqlite => {
                let file = url.strip_prefix("sqlite://").unwrap();
                let mut connection = SqliteConnection::establish(file).unwrap();
                connection
                    .batch_execute("PRAGMA busy_timeout = 60000")
                    .unwrap();
                Self::Sqlite(connection)
            }
            #[cfg(feature = "mysql")]
            Database::Mariadb => {
                let mut connection = MysqlConnection::establish(url).unwrap();
                connection
                    .batch_execute("SET lock_wait_timeout = 60")
                    .unwrap();
                Self::Mariadb(connection)
            }
        }
    }

    /// Runs statements.
    pub fn execute(&mut self, statements: &str) {
        let executed = match self {
            Self::Postgresql(connection) => connection.batch_execute(statements),
            Self::Sqlite(connection) => connection.batch_execute(statements),
            #[cfg(feature = "mysql")]
            Self::Mariadb(connection) => connection.batch_execute(statements),
        };
        executed.unwrap_or_else(|error| panic!("{error}: {statements:.2000}"));
    }

    /// The rows that `query` selects, each as a JSON object.
    pub fn rows(&mut self, query: &str) -> Vec<Value> {
        let loaded = match self {
            Self::Postgresql(connection) => {
                let query = format!("SELECT row_to_json(t)::text AS row FROM ({query}) t");
                diesel::sql_query(query)
                    .load::<JsonText>(connection)
                    .map(|rows| rows.into_iter().map(JsonText::parse).collect())
            }
            Self::Sqlite(connection) => objects(diesel::sql_query(query).load(connection)),
            #[cfg(feature = "mysql")]
            Self::Mariadb(connection) => objects(diesel::sql_query(query).load(connection)),
        };
        loaded.unwrap_or_else(|error| panic!("{error}: {query}"))
    }
}

fn objects(loaded: QueryResult<Vec<Json>>) -> QueryResult<Vec<Value>> {
    loaded.map(|rows| rows.into_iter().map(|Json(row)| row).collect())
}
