//! Recording messages in a transaction of the caller's own. This is the only public module that names diesel.
//!
//! [Recording](crate::client::Draft::record) a message on the caller's connection inserts a row in the caller's
//! transaction. When the transaction commits, some service on the database publishes the message, even if the
//! caller dies right after the commit. When the transaction is rolled back, there is no message.
//!
//! ```
//! use carrot_actors::transaction::{RecordError, diesel};
//! use carrot_actors::Client;
//! use diesel::prelude::*;
//!
//! fn sign_up(
//!     connection: &mut PgConnection,
//!     client: &Client,
//!     name: &str,
//! ) -> Result<(), RecordError> {
//!     connection.transaction(|connection| {
//!         diesel::sql_query("INSERT INTO customer (name) VALUES ($1)")
//!             .bind::<diesel::sql_types::Text, _>(name)
//!             .execute(connection)?;
//!         client.task("customers.greet").args((name,)).record(connection)?;
//!         Ok(())
//!     })
//! }
//! ```
//!
//! The connection must be to the database that `database_url` names, and find the tables without a schema's name.
//! On PostgreSQL the commit notifies the services, which publish at once; on the other databases they publish when
//! they next poll, within half a second.
//!
//! A pool's connection is dereferenced to diesel's own: `record(&mut *connection)` for an owned one, and
//! `record(&mut **connection)` behind a `&mut`.
//!
//! # On SQLite
//!
//! Services write to the file too, and only one connection can write at a time. By diesel's default, the others
//! fail at once because the database is locked. A busy timeout makes them wait, but not a transaction that begins
//! with a read and then writes, which may fail at once all the same. So set a busy timeout, and begin with
//! `immediate_transaction`:
//!
//! ```
//! use carrot_actors::transaction::{RecordError, diesel};
//! use carrot_actors::{Client, Config};
//! use diesel::connection::SimpleConnection;
//! use diesel::prelude::*;
//!
//! fn connect(config: &Config) -> Result<SqliteConnection, Box<dyn std::error::Error>> {
//!     let file = config.database_url.sqlite_file().ok_or("no SQLite file")?;
//!     let mut db = SqliteConnection::establish(&file.to_string_lossy())?;
//!     db.batch_execute("PRAGMA busy_timeout = 5000")?;
//!     Ok(db)
//! }
//!
//! fn greet(db: &mut SqliteConnection, client: &Client, name: &str) -> Result<(), RecordError> {
//!     db.immediate_transaction(|db| {
//!         client.task("customers.greet").args((name,)).record(db)?;
//!         Ok(())
//!     })
//! }
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let app = carrot_actors::App::new().test()?;
//! # greet(&mut connect(app.config())?, app.client(), "Ada")?;
//! # Ok(())
//! # }
//! ```
//!
//! # On PostgreSQL
//!
//! Recording a message sends a NOTIFY, and a transaction with a NOTIFY can't be prepared for a two-phase commit.

pub use diesel;

use diesel::prelude::QueryResult;
use diesel::result::Error;

use super::NewRow;
use super::sql::{self, InsertPurpose, InsertTarget};

/// Why a message was not recorded in the caller's transaction.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RecordError {
    /// The draft can't be made into a message.
    #[error("task {task:?}: {reason}")]
    Unfit {
        /// The task's name.
        task: String,
        /// What is wrong.
        reason: String,
    },
    /// The database refused the message, or something else in the transaction.
    #[error(transparent)]
    Database(#[from] Error),
}

/// For transactions that return diesel's own error.
impl From<RecordError> for Error {
    fn from(error: RecordError) -> Self {
        match error {
            RecordError::Database(error) => error,
            unfit @ RecordError::Unfit { .. } => Self::QueryBuilderError(Box::new(unfit)),
        }
    }
}

/// A connection on which messages can be recorded: diesel's to PostgreSQL, to SQLite, and with the
/// feature `mysql` to MySQL.
#[diagnostic::on_unimplemented(
    message = "no message can be recorded on `{Self}`",
    label = "not one of diesel's own connections",
    note = "a pool's connection is dereferenced: `record(&mut *connection)`, or `record(&mut **connection)` \
            if it is a `&mut PooledConnection<_>`",
    note = "a `MysqlConnection` needs carrot-actors' feature `mysql`, and all need the diesel that is \
            `carrot_actors::transaction::diesel`"
)]
pub trait Connection: Records {}

/// The methods of a [`Connection`], for this crate alone.
#[doc(hidden)]
pub trait Records {
    fn record(&mut self, rows: &[NewRow]) -> QueryResult<()>;

    fn now(&mut self) -> QueryResult<chrono::DateTime<chrono::Utc>>;
}

macro_rules! connection {
    ($connection:ty, $engine:ty) => {
        impl Connection for $connection {}

        impl Records for $connection {
            fn record(&mut self, rows: &[NewRow]) -> QueryResult<()> {
                let rows: Vec<&NewRow> = rows.iter().collect();
                let target: &mut dyn InsertTarget<$engine> = self;
                sql::insert(target, &rows, InsertPurpose::Due).map(drop)
            }

            fn now(&mut self) -> QueryResult<chrono::DateTime<chrono::Utc>> {
                sql::load_now::<$engine>(|sql| {
                    diesel::RunQueryDsl::load(diesel::sql_query(sql), self)
                })
            }
        }
    };
}

connection!(diesel::pg::PgConnection, super::postgres::PostgresEngine);
connection!(
    diesel::sqlite::SqliteConnection,
    super::sqlite::SqliteEngine
);
#[cfg(feature = "mysql")]
connection!(diesel::mysql::MysqlConnection, super::mysql::MysqlEngine);
