//! A connection of the test to its database.

use diesel::connection::SimpleConnection;
#[cfg(feature = "mysql")]
use diesel::mysql::MysqlConnection;
use diesel::pg::PgConnection;
use diesel::prelude::*;
use diesel::result::Error;
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

/// Evaluates an expression of the connection to any of the databases, whose types differ.
macro_rules! with_connection {
    ($client:expr, $connection:ident => $body:expr) => {
        match $client {
            $crate::support::Client::Postgresql($connection) => $body,
            $crate::support::Client::Sqlite($connection) => $body,
            #[cfg(feature = "mysql")]
            $crate::support::Client::Mariadb($connection) => $body,
        }
    };
}
pub(crate) use with_connection;

impl Client {
    #[track_caller]
    pub(super) fn connect(database: Database, url: &str) -> Self {
        Self::try_connect(database, url).unwrap()
    }

    /// The same where the database may be away.
    pub fn try_connect(database: Database, url: &str) -> QueryResult<Self> {
        let away = |error: ConnectionError| Error::QueryBuilderError(error.into());
        Ok(match database {
            Database::Postgresql => Self::Postgresql(PgConnection::establish(url).map_err(away)?),
            Database::Sqlite => {
                let file = url.strip_prefix("sqlite://").unwrap();
                let mut connection = SqliteConnection::establish(file).map_err(away)?;
                connection.batch_execute("PRAGMA busy_timeout = 60000")?;
                Self::Sqlite(connection)
            }
            #[cfg(feature = "mysql")]
            Database::Mariadb => {
                let mut connection = MysqlConnection::establish(url).map_err(away)?;
                connection.batch_execute("SET lock_wait_timeout = 60")?;
                Self::Mariadb(connection)
            }
        })
    }

    /// Runs statements, separated by semicolons.
    pub fn execute(&mut self, statements: &str) {
        self.try_execute(statements)
            .unwrap_or_else(|error| panic!("{error}: {statements:.2000}"));
    }

    /// The same where the database may be away.
    pub fn try_execute(&mut self, statements: &str) -> QueryResult<()> {
        with_connection!(self, connection => connection.batch_execute(statements))
    }

    /// The rows that `query` selects or returns, each as a JSON object.
    pub fn rows(&mut self, query: &str) -> Vec<Value> {
        self.try_rows(query)
            .unwrap_or_else(|error| panic!("{error}: {query}"))
    }

    /// The same where the database may be away.
    pub fn try_rows(&mut self, query: &str) -> QueryResult<Vec<Value>> {
        match self {
            Self::Postgresql(connection) => {
                let query =
                    format!("WITH t AS ({query}) SELECT row_to_json(t)::text AS row FROM t");
                diesel::sql_query(query)
                    .load::<JsonText>(connection)
                    .map(|rows| rows.into_iter().map(JsonText::parse).collect())
            }
            Self::Sqlite(connection) => objects(diesel::sql_query(query).load(connection)),
            #[cfg(feature = "mysql")]
            Self::Mariadb(connection) => objects(diesel::sql_query(query).load(connection)),
        }
    }
}

fn objects(loaded: QueryResult<Vec<Json>>) -> QueryResult<Vec<Value>> {
    loaded.map(|rows| rows.into_iter().map(|Json(row)| row).collect())
}
