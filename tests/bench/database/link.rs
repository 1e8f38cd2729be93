//! A connection of the benchmark's own.

use carrot_actors::client::Draft;
use carrot_actors::transaction::RecordError;
use diesel::connection::SimpleConnection;
#[cfg(feature = "mysql")]
use diesel::mysql::MysqlConnection;
use diesel::pg::PgConnection;
use diesel::prelude::*;
use diesel::sql_types::BigInt;
use diesel::sqlite::SqliteConnection;

use super::Kind;

/// A connection of the benchmark's own.
pub enum Link {
    Postgresql(PgConnection),
    Sqlite(SqliteConnection),
    #[cfg(feature = "mysql")]
    Mariadb(MysqlConnection),
}

#[derive(QueryableByName)]
struct Number {
    #[diesel(sql_type = BigInt)]
    number: i64,
}

/// Evaluates an expression of the connection to any of the databases, whose types differ.
macro_rules! with_connection {
    ($link:expr, $connection:ident => $work:expr) => {
        match $link {
            Link::Postgresql($connection) => $work,
            Link::Sqlite($connection) => $work,
            #[cfg(feature = "mysql")]
            Link::Mariadb($connection) => $work,
        }
    };
}

impl Link {
    /// Opens a connection, or says why it can't.
    pub(super) fn open(kind: Kind, url: &str) -> Result<Self, String> {
        let opened = match kind {
            Kind::Postgresql => PgConnection::establish(url).map(Self::Postgresql),
            Kind::Sqlite => {
                let file = url.strip_prefix("sqlite://").unwrap_or(url);
                SqliteConnection::establish(file).map(Self::Sqlite)
            }
            #[cfg(feature = "mysql")]
            Kind::Mariadb => MysqlConnection::establish(url).map(Self::Mariadb),
            #[cfg(not(feature = "mysql"))]
            Kind::Mariadb => return Err("built without the feature mysql".to_owned()),
        };
        let mut link = opened.map_err(|error| error.to_string())?;
        if kind == Kind::Sqlite {
            link.execute("PRAGMA busy_timeout = 10000");
        }
        Ok(link)
    }

    pub(super) fn execute(&mut self, statements: &str) {
        with_connection!(self, connection => connection.batch_execute(statements))
            .expect("the statements");
    }

    /// Records a message in its own transaction.
    pub fn record(&mut self, message: Draft) {
        with_connection!(self, connection => connection.transaction(|connection| {
            message.record(connection)?;
            Ok::<_, RecordError>(())
        }))
        .expect("a commit");
    }

    /// The `number` that `query` selects.
    pub(super) fn number(&mut self, query: &str) -> i64 {
        let query = diesel::sql_query(query);
        with_connection!(self, connection => query.get_result::<Number>(connection))
            .expect("a number")
            .number
    }
}
