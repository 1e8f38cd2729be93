//! Recording messages in a transaction of the caller's own. Of all that this crate has to offer, only
//! this module names diesel.
//!
//! A message that is [recorded](crate::client::Draft::record) on the caller's connection is a row of
//! its transaction, as any other. It is published if that commits, by whatever service works on the
//! database, and so also if the caller dies right after; if the transaction is rolled back, there
//! never was a message.
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
//! The connection must be to the database that `database_url` names, with the tables where it finds them
//! by itself. On PostgreSQL services are told of the commit and publish at once, elsewhere when they next
//! look, within half a second.
//!
//! One of a pool's is dereferenced to diesel's own: `record(&mut *connection)` where it is held, and
//! `record(&mut **connection)` behind a `&mut`.
//!
//! # On SQLite
//!
//! A service writes to the file as well, and only one connection can at a time. The others find the database
//! locked at once, as diesel has it, unless they are told to wait; and a transaction that begins with reading,
//! and then writes, may find it locked however long it would wait. So have each connection wait, and begin
//! with `immediate_transaction`:
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
//! What tells services is a NOTIFY: a transaction that has one can't be prepared for a two-phase commit.

pub use diesel;

use diesel::prelude::QueryResult;
use diesel::result::Error;

use super::NewRow;
use super::sql::{self, Inserted, Target};

/// Why a message was not recorded in the caller's transaction.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RecordError {
    /// It can't be a message.
    #[error("task {task:?}: {reason}")]
    Unfit {
        /// The task's name.
        task: String,
        /// What is wrong.
        reason: String,
    },
    /// The database refused it, or something else in the transaction.
    #[error(transparent)]
    Database(#[from] Error),
}

/// For transactions whose error is diesel's own.
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

/// What a [`Connection`] does, for this crate alone.
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
                let target: &mut dyn Target<$engine> = self;
                sql::insert(target, &rows, Inserted::Due).map(drop)
            }

            fn now(&mut self) -> QueryResult<chrono::DateTime<chrono::Utc>> {
                sql::now_on::<$engine>(|sql| {
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
