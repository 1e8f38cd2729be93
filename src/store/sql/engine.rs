//! What the databases differ in.

use std::fmt;

use diesel::backend::Backend;
use diesel::deserialize::QueryableByName;
use diesel::pg::Pg;
use diesel::prelude::*;
use diesel::result::Error;
use diesel::sql_types::BigInt;
use diesel::sqlite::Sqlite;
use diesel_migrations::EmbeddedMigrations;

use super::guards::joined;
use super::indexes::Index;
use super::values::Values;
use crate::store::{BATCH_BYTES, MigrationReporter, StoreError, Tables};

/// A row that every database can be asked for, by the names of its columns.
#[cfg(feature = "mysql")]
pub(in crate::store) trait Row:
    QueryableByName<Pg> + QueryableByName<Sqlite> + QueryableByName<diesel::mysql::Mysql> + 'static
{
}

#[cfg(feature = "mysql")]
impl<R> Row for R where
    R: QueryableByName<Pg>
        + QueryableByName<Sqlite>
        + QueryableByName<diesel::mysql::Mysql>
        + 'static
{
}

/// A row that every database can be asked for, by the names of its columns.
#[cfg(not(feature = "mysql"))]
pub(in crate::store) trait Row:
    QueryableByName<Pg> + QueryableByName<Sqlite> + 'static
{
}

#[cfg(not(feature = "mysql"))]
impl<R> Row for R where R: QueryableByName<Pg> + QueryableByName<Sqlite> + 'static {}

/// A message's row.
pub(in crate::store) trait MessageRow: Row {
    /// Its `uuid`.
    #[cfg_attr(
        not(feature = "mysql"),
        expect(dead_code, reason = "the others return what they change")
    )]
    fn key(&self) -> &str;
}

/// A guarded change of messages, one for each of `values`, whose first column is the `uuid`. In the
/// texts, `m` is the message's row as it was, and `v` the value.
pub(in crate::store) struct Update<'a> {
    pub(in crate::store) values: Values<'a>,
    /// Columns and what they are set to. What is read from the old row comes before it is set: MySQL
    /// works from left to right.
    pub(in crate::store) set: &'a [(&'static str, String)],
    /// The guard, of the message's row alone.
    pub(in crate::store) given: &'a str,
    /// What is asked beside that, once, of the row and of other tables.
    pub(in crate::store) and: &'a str,
}

/// Nothing is asked beside the guard.
pub(in crate::store) const ALWAYS: &str = "1 = 1";

/// A connection to a database, and its dialect.
pub(in crate::store) trait Engine: Send + Sized + 'static {
    /// Diesel's name for it.
    type Backend: Backend;
    /// The steps that make its tables.
    const MIGRATIONS: EmbeddedMigrations;
    /// Selects, as `name`, the table in which diesel notes these steps.
    const NOTEBOOK: &'static str;
    /// Selects, as `name`, the columns of Django's tables, as `table.column`.
    const COLUMNS: &'static str;
    /// The indexes that our statements need.
    const INDEXES: &'static [Index];
    /// Selects the indexes of Django's tables as [`Found`](super::indexes::Found).
    const FOUND: &'static str;
    /// Whether that tells which columns descend.
    const TELLS_DESCENDING: bool = true;
    /// Selects what it calls itself, as `name`.
    const VERSION: &'static str;
    /// Its time.
    const NOW: &'static str;
    /// The type of 64 bits in a cast.
    const BIGINT: &'static str;
    /// What locks the selected messages `m` until the transaction ends.
    const LOCK: &'static str;
    /// The same for those that nobody else has locked.
    const LOCK_FREE: &'static str;
    /// The timetable of the schedule `m`, as a text.
    const TIMETABLE: &'static str = "m.interval_type || ' ' || CAST(m.interval_count AS text) || ' ' \
        || COALESCE(m.time_zone, '') || ' ' || COALESCE(m.cron, '')";
    /// The condition that the schedule `m` is active and its next occurrence is to be reckoned.
    const UNPLANNED: &'static str;
    /// The condition that it is active, and has a next occurrence that is not.
    const PLANNED: &'static str;
    /// What follows FROM to read the messages `m` that wait, in their order.
    const WAITING: &'static str = "carrot_messagelog m";
    /// What follows FROM to lock messages `m` that are PENDING, and no others: who wants those would pass
    /// them over meanwhile.
    const PENDING: &'static str = "carrot_messagelog m";
    /// The same for those IN_PROGRESS.
    const IN_PROGRESS: &'static str = "carrot_messagelog m";
    /// What follows FROM to read the schedules `m` that are to be reckoned, or due.
    const SCHEDULES: &'static str = "carrot_scheduledtask m";
    /// The condition that the next occurrence of the schedule `m`, which has one, is no time, or is not
    /// written as we write it.
    const ODD_NEXT_RUN: &'static str;
    /// What follows FROM to read messages `l` of a schedule by their planned times.
    const OCCURRENCES: &'static str = "carrot_messagelog l";
    /// What makes an insert leave rows that were adopted before.
    const UNLESS_ADOPTED: &'static str;

    /// Whether an update that may set a text costs more than one that sets none, if few of its rows need it.
    const SETS_TEXTS_SLOWLY: bool = false;

    /// The least of several values.
    const LEAST: &'static str = "LEAST";

    /// A column of integers as such, where it can be.
    fn integer(column: &str) -> String {
        format!("CAST({column} AS {})", Self::BIGINT)
    }

    /// So many seconds from now.
    fn now_and(seconds: i64) -> String;

    /// So many seconds from now, as a statement reckons them.
    fn now_and_some(seconds: &str) -> String;

    /// How many seconds ago a time is, with their fractions.
    fn seconds_since(time: &str) -> String;

    /// A time as a text.
    fn time_text(time: &str) -> String;

    /// The time that such a text stands for.
    fn time_of(text: &str) -> String;

    /// How many bytes a text has.
    fn bytes_of(text: &str) -> String {
        format!("OCTET_LENGTH({text})")
    }

    /// How many bytes of values a statement has at most.
    fn most_bytes(&self) -> usize {
        BATCH_BYTES
    }

    /// The last character up to which the messages' table surely has them all.
    fn last_character(&self) -> char {
        char::MAX
    }

    /// What is asked beside `column = text` to have them alike byte for byte.
    fn is_exactly(_column: &str, _text: &str) -> String {
        ALWAYS.to_owned()
    }

    /// What follows FROM to read `values` as `v`.
    fn source(&self, values: &Values<'_>) -> String;

    /// What follows FROM to read `values` as `v`, each with its messages as `m`.
    fn messages(&self, values: &Values<'_>) -> String;

    /// The same of keys whose messages are to be locked, without waiting for rows of theirs that are not
    /// committed yet.
    fn messages_to_lock(&self, values: &Values<'_>) -> String {
        self.messages(values)
    }

    /// RunStore a statement that is prepared once a connection. `sql` has one `source` or `messages` if there are
    /// `values`.
    fn execute(&mut self, sql: &str, values: Option<&Values<'_>>) -> QueryResult<usize>;

    /// The same for a statement that returns rows.
    fn load<R: Row>(&mut self, sql: &str, values: Option<&Values<'_>>) -> QueryResult<Vec<R>>;

    /// The same for a text that differs each time.
    fn load_once<R: Row>(&mut self, sql: &str) -> QueryResult<Vec<R>>;

    /// RunStore statements whose texts differ each time.
    fn batch(&mut self, sql: &str) -> QueryResult<()>;

    /// Whether rows were [`Due`](super::Inserted::Due) when they were inserted, since this was last asked,
    /// if the database tells. It waits for nothing.
    fn is_told(&mut self) -> QueryResult<Option<bool>> {
        Ok(None)
    }

    /// Deletes messages that are locked, and waits for no others.
    fn delete(&mut self, ids: &[i64]) -> QueryResult<()> {
        self.batch(&format!(
            "DELETE FROM carrot_messagelog WHERE id IN ({})",
            joined(ids)
        ))
    }

    /// Changes messages. Returns how many.
    fn update(&mut self, update: &Update<'_>) -> QueryResult<usize>;

    /// Changes messages, in a transaction, and returns these columns of theirs as they are now, the
    /// `uuid` among them.
    fn update_returning<R: MessageRow>(
        &mut self,
        update: &Update<'_>,
        columns: &[&str],
    ) -> QueryResult<Vec<R>>;

    /// Changes the schedules `m` that `values` have the `id` of.
    fn update_schedules(&mut self, values: &Values<'_>, set: &[(&str, String)]) -> QueryResult<()> {
        self.update_by_id("carrot_scheduledtask", values, set, ALWAYS)
    }

    /// Changes the rows `m` of a table that `values` have the `id` of, and that are as `given` says.
    fn update_by_id(
        &mut self,
        table: &str,
        values: &Values<'_>,
        set: &[(&str, String)],
        given: &str,
    ) -> QueryResult<()> {
        let sql = format!(
            "UPDATE {table} AS m SET {} FROM {} WHERE m.id = v.id AND {given}",
            assignments("", set),
            self.source(values)
        );
        self.execute(&sql, Some(values)).map(drop)
    }

    /// Inserts a row into a table with an `id`, and returns that.
    fn insert_one(&mut self, sql: &str, values: &Values<'_>) -> QueryResult<i64>;

    /// RunStore one statement that writes. Unless it `lasts`, a crash of the database may undo it.
    fn alone<T>(
        &mut self,
        lasts: bool,
        work: impl FnOnce(&mut Self) -> QueryResult<T>,
    ) -> QueryResult<T>;

    /// RunStore `work` in a transaction. Unless it `lasts`, a crash of the database may undo it.
    fn transaction<T>(
        &mut self,
        lasts: bool,
        work: impl FnOnce(&mut Self) -> QueryResult<T>,
    ) -> QueryResult<T>;

    /// RunStore `work` in a transaction, one at a time of those that name schedules: Django's table may have
    /// any number of one name, so that no index keeps two from being added at once.
    fn naming<T>(&mut self, work: impl FnOnce(&mut Self) -> QueryResult<T>) -> QueryResult<T>;

    /// The transaction under way must last after all.
    fn require_durable(&mut self) -> QueryResult<()>;

    /// What the caller can do about an error.
    fn sort(&mut self, error: &Error) -> StoreError;
}

/// RunStore `work` between `begin` and COMMIT.
pub(in crate::store) fn in_transaction<E: Engine, T>(
    engine: &mut E,
    begin: impl FnOnce(&mut E) -> QueryResult<()>,
    work: impl FnOnce(&mut E) -> QueryResult<T>,
) -> QueryResult<T> {
    begin(engine)?;
    let done = work(engine).and_then(|done| engine.batch("COMMIT").map(|()| done));
    if done.is_err()
        && let Err(error) = engine.batch("ROLLBACK")
    {
        // The database has done it already, or is away.
        log::debug!("no rollback: {error}");
    }
    done
}

/// What follows SET, with `prefix` before the columns.
pub(in crate::store) fn assignments<T: fmt::Display>(prefix: &str, set: &[(&str, T)]) -> String {
    let set: Vec<_> = set
        .iter()
        .map(|(column, to)| format!("{prefix}{column} = {to}"))
        .collect();
    set.join(", ")
}

/// The id of a row.
#[derive(QueryableByName)]
pub(in crate::store) struct Id {
    #[diesel(sql_type = BigInt)]
    pub(in crate::store) id: i64,
}

impl Id {
    /// That of the only row.
    pub(in crate::store) fn only(rows: &[Self]) -> QueryResult<i64> {
        rows.first().map(|row| row.id).ok_or(Error::NotFound)
    }
}

/// Where a database is, and how to get there.
pub(in crate::store) trait Link: Clone + Send + Sync + 'static {
    type Engine: Engine;
    /// Whether nobody need be asked before its tables are made.
    const MIGRATES_ITSELF: bool;

    fn open(&self) -> Result<Self::Engine, StoreError>;

    /// RunStore the steps and builds the indexes that are missing, under a lock.
    fn migrate(&self, tables: Tables, tell: &mut MigrationReporter<'_>) -> Result<(), StoreError>;

    fn describe(&self) -> String;
}
