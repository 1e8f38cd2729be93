//! The differences between the databases.

use std::fmt;

use diesel::backend::Backend;
use diesel::prelude::*;
use diesel::result::Error;
use diesel_migrations::EmbeddedMigrations;

use super::guards::joined;
use super::indexes::Index;
use super::rows::{KeyedRow, LoadableRow};
use super::values::ValueTable;
use crate::store::{BATCH_BYTES, MigrationReporter, StoreError, Tables};

/// A guarded update of messages, one for each of `values`, whose first column is the `uuid`. In the
/// texts, `m` is the message's row before the update, and `v` the value.
pub(in crate::store) struct MessageUpdate<'a> {
    pub(in crate::store) values: ValueTable<'a>,
    /// Columns and their new values. A column is set after the columns whose values are computed from it: MySQL
    /// assigns from left to right.
    pub(in crate::store) set: &'a [(&'static str, String)],
    /// The condition on the message's row alone.
    pub(in crate::store) guard: &'a str,
    /// A condition that also reads other tables, checked once.
    pub(in crate::store) lookup_guard: &'a str,
}

/// The condition that always holds.
pub(in crate::store) const ALWAYS_TRUE: &str = "1 = 1";

/// A connection to a database, and its dialect.
pub(in crate::store) trait Engine: Send + Sized + 'static {
    /// Diesel's name for it.
    type Backend: Backend;
    /// The migration steps that make its tables.
    const MIGRATIONS: EmbeddedMigrations;
    /// Selects, as `name`, the table in which diesel records these steps.
    const SELECT_MIGRATIONS_TABLE: &'static str;
    /// Selects, as `name`, the columns of Django's tables, as `table.column`.
    const SELECT_COLUMNS: &'static str;
    /// The indexes that our statements need.
    const INDEXES: &'static [Index];
    /// Selects the indexes of Django's tables as [`ExistingIndex`](super::indexes::ExistingIndex).
    const SELECT_INDEXES: &'static str;
    /// Whether that shows which columns descend.
    const SHOWS_DESCENDING: bool = true;
    /// Selects the server's name and version, as `name`.
    const SELECT_VERSION: &'static str;
    /// The database's time.
    const NOW: &'static str;
    /// The type to cast to for 64-bit integers.
    const BIGINT: &'static str;
    /// Locks the selected rows `m` until the transaction ends.
    const FOR_UPDATE: &'static str;
    /// Locks the selected rows `m` that nobody else has locked, and skips the others.
    const FOR_UPDATE_SKIP_LOCKED: &'static str;
    /// The timetable of the schedule `m`, as a text.
    const TIMETABLE: &'static str = "m.interval_type || ' ' || CAST(m.interval_count AS text) || ' ' \
        || COALESCE(m.time_zone, '') || ' ' || COALESCE(m.cron, '')";
    /// The condition that the schedule `m` is active and its next occurrence must be computed.
    const IS_UNPLANNED: &'static str;
    /// The condition that the schedule `m` is active and its next occurrence is known and up to date.
    const IS_PLANNED: &'static str;
    /// The FROM item that reads the waiting messages `m` in their order.
    const FROM_WAITING: &'static str = "carrot_messagelog m";
    /// The FROM item that locks only PENDING messages `m`: other statements would skip messages of other states that
    /// it locked.
    const FROM_PENDING: &'static str = "carrot_messagelog m";
    /// The FROM item that locks only IN_PROGRESS messages `m`.
    const FROM_IN_PROGRESS: &'static str = "carrot_messagelog m";
    /// The FROM item that reads the schedules `m` that are due or unplanned.
    const FROM_SCHEDULES: &'static str = "carrot_scheduledtask m";
    /// The condition that the next occurrence of the planned schedule `m` is no time, or not in our format.
    const NEXT_RUN_IS_MALFORMED: &'static str;
    /// The FROM item that reads messages `l` of a schedule by their planned times.
    const FROM_OCCURRENCES: &'static str = "carrot_messagelog l";
    /// Ends an INSERT that skips rows which were adopted before.
    const SKIP_ADOPTED: &'static str;

    /// Whether an update that may set a text is much slower than one that sets none, even if few rows get a text.
    const TEXT_UPDATES_ARE_SLOW: bool = false;

    /// The function that returns its least argument.
    const LEAST: &'static str = "LEAST";

    /// Reads a column of integers, which may hold other values in SQLite.
    fn integer(column: &str) -> String {
        format!("CAST({column} AS {})", Self::BIGINT)
    }

    /// The time `seconds` from now.
    fn now_plus(seconds: i64) -> String;

    /// The time a number of seconds from now that the expression `seconds` computes.
    fn now_plus_expression(seconds: &str) -> String;

    /// How many seconds ago a time is, with fractions.
    fn seconds_since(time: &str) -> String;

    /// A time as a text.
    fn time_to_text(time: &str) -> String;

    /// The time that such a text stands for.
    fn text_to_time(text: &str) -> String;

    /// The length of a text in bytes.
    fn byte_length(text: &str) -> String {
        format!("OCTET_LENGTH({text})")
    }

    /// The most bytes of values in one statement.
    fn most_bytes(&self) -> usize {
        BATCH_BYTES
    }

    /// The table of messages can store all characters up to this one.
    fn highest_character(&self) -> char {
        char::MAX
    }

    /// The condition that makes `column = text` compare byte for byte.
    fn is_exactly(_column: &str, _text: &str) -> String {
        ALWAYS_TRUE.to_owned()
    }

    /// The FROM item that reads `values` as `v`.
    fn values_sql(&self, values: &ValueTable<'_>) -> String;

    /// The FROM item that reads `values` as `v`, each with its messages as `m`.
    fn messages_sql(&self, values: &ValueTable<'_>) -> String;

    /// The FROM item that locks the messages of keys, without waiting for rows of theirs that are not committed yet.
    fn messages_to_lock_sql(&self, values: &ValueTable<'_>) -> String {
        self.messages_sql(values)
    }

    /// Runs a statement that is prepared once a connection. If there are `values`, `sql` contains one
    /// [`values_sql`](Self::values_sql) or [`messages_sql`](Self::messages_sql).
    fn execute(&mut self, sql: &str, values: Option<&ValueTable<'_>>) -> QueryResult<usize>;

    /// Runs a prepared statement that returns rows.
    fn load<R: LoadableRow>(
        &mut self,
        sql: &str,
        values: Option<&ValueTable<'_>>,
    ) -> QueryResult<Vec<R>>;

    /// Runs a statement that returns rows, unprepared: its text differs each time.
    fn load_unprepared<R: LoadableRow>(&mut self, sql: &str) -> QueryResult<Vec<R>>;

    /// Runs statements unprepared: their texts differ each time.
    fn execute_unprepared(&mut self, sql: &str) -> QueryResult<()>;

    /// Whether rows were inserted as [`Due`](super::InsertPurpose::Due) since the last call; `None` if the database
    /// does not notify. Never blocks.
    fn was_notified(&mut self) -> QueryResult<Option<bool>> {
        Ok(None)
    }

    /// Deletes messages that this transaction has locked, without waiting for other locks.
    fn delete(&mut self, ids: &[i64]) -> QueryResult<()> {
        self.execute_unprepared(&format!(
            "DELETE FROM carrot_messagelog WHERE id IN ({})",
            joined(ids)
        ))
    }

    /// Updates messages and returns how many.
    fn update(&mut self, update: &MessageUpdate<'_>) -> QueryResult<usize>;

    /// Updates messages, in a transaction, and returns these columns of the updated rows, the `uuid` among them.
    fn update_returning<R: KeyedRow>(
        &mut self,
        update: &MessageUpdate<'_>,
        columns: &[&str],
    ) -> QueryResult<Vec<R>>;

    /// Updates the schedules `m` whose `id`s are in `values`.
    fn update_schedules(
        &mut self,
        values: &ValueTable<'_>,
        set: &[(&str, String)],
    ) -> QueryResult<()> {
        self.update_by_id("carrot_scheduledtask", values, set, ALWAYS_TRUE)
    }

    /// Updates the rows `m` of a table whose `id`s are in `values` and that meet the `guard`.
    fn update_by_id(
        &mut self,
        table: &str,
        values: &ValueTable<'_>,
        set: &[(&str, String)],
        guard: &str,
    ) -> QueryResult<()> {
        let sql = format!(
            "UPDATE {table} AS m SET {} FROM {} WHERE m.id = v.id AND {guard}",
            assignments("", set),
            self.values_sql(values)
        );
        self.execute(&sql, Some(values)).map(drop)
    }

    /// Inserts a row into a table with an `id`, and returns that id.
    fn insert_one(&mut self, sql: &str, values: &ValueTable<'_>) -> QueryResult<i64>;

    /// Runs `work`, which is one statement that writes. Unless `durable`, a crash of the database may undo it.
    fn single_statement<T>(
        &mut self,
        durable: bool,
        work: impl FnOnce(&mut Self) -> QueryResult<T>,
    ) -> QueryResult<T>;

    /// Runs `work` in a transaction. Unless `durable`, a crash of the database may undo it.
    fn transaction<T>(
        &mut self,
        durable: bool,
        work: impl FnOnce(&mut Self) -> QueryResult<T>,
    ) -> QueryResult<T>;

    /// Runs `work` in a transaction, while no other transaction names a schedule: Django's table may hold a name any
    /// number of times, so that no unique index prevents two schedules of one name.
    fn with_naming_lock<T>(
        &mut self,
        work: impl FnOnce(&mut Self) -> QueryResult<T>,
    ) -> QueryResult<T>;

    /// Makes the current transaction durable after all.
    fn require_durable(&mut self) -> QueryResult<()>;

    /// Classifies an error by what the caller can do about it.
    fn classify(&mut self, error: &Error) -> StoreError;
}

/// Runs `work` between `begin` and COMMIT.
pub(in crate::store) fn in_transaction<E: Engine, T>(
    engine: &mut E,
    begin: impl FnOnce(&mut E) -> QueryResult<()>,
    work: impl FnOnce(&mut E) -> QueryResult<T>,
) -> QueryResult<T> {
    begin(engine)?;
    let done = work(engine).and_then(|done| engine.execute_unprepared("COMMIT").map(|()| done));
    if done.is_err()
        && let Err(error) = engine.execute_unprepared("ROLLBACK")
    {
        // The database has rolled back already, or the connection is lost.
        log::debug!("no rollback: {error}");
    }
    done
}

/// The assignments after SET, with `prefix` before each column.
pub(in crate::store) fn assignments<T: fmt::Display>(prefix: &str, set: &[(&str, T)]) -> String {
    let set: Vec<_> = set
        .iter()
        .map(|(column, to)| format!("{prefix}{column} = {to}"))
        .collect();
    set.join(", ")
}

/// A database's address and how to connect to it.
pub(in crate::store) trait Connector: Clone + Send + Sync + 'static {
    type Engine: Engine;
    /// Whether a service may make its tables without being told to.
    const MIGRATES_ITSELF: bool;

    fn open(&self) -> Result<Self::Engine, StoreError>;

    /// Runs the missing migration steps and builds the missing indexes, under a lock.
    fn migrate(
        &self,
        tables: Tables,
        reporter: &mut MigrationReporter<'_>,
    ) -> Result<(), StoreError>;

    fn describe(&self) -> String;
}
