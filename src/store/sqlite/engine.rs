//! The connection to SQLite, and its dialect.

use std::sync::Arc;
use std::time::{Duration, Instant};

use diesel::connection::SimpleConnection;
use diesel::prelude::*;
use diesel::result::{DatabaseErrorKind, Error};
use diesel::sqlite::{Sqlite, SqliteConnection};
use diesel_migrations::{EmbeddedMigrations, embed_migrations};

use super::file::SqliteFile;
use super::indexes;
use super::statement::{source, statement};
use crate::store::StoreError;
use crate::store::sql::{
    Engine, IdRow, Index, KeyedRow, LoadableRow, MessageUpdate, ValueTable, assignments,
    in_transaction,
};
use crate::store::turns::Turns;

/// The settings of every connection.
///
/// `wal_autocheckpoint`: in pages. SQLite's default of 1000 costs a sync for each batch or two.
const SET_UP: &str = "PRAGMA busy_timeout = 5000; \
    PRAGMA journal_mode = WAL; \
    PRAGMA synchronous = FULL; \
    PRAGMA wal_autocheckpoint = 4000; \
    PRAGMA journal_size_limit = 67108864";

/// How long to wait for another process that writes, the same as `busy_timeout`.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// Begins a writing transaction, or fails at once because another process writes.
const BEGIN: &str = "PRAGMA busy_timeout = 0; BEGIN IMMEDIATE";
const RESTORE_TIMEOUT: &str = "PRAGMA busy_timeout = 5000";

/// How often to poll while another process writes: about as long as a commit takes. SQLite's own waits grow to
/// 100 ms, by which a message would be late.
const POLL_INTERVAL: Duration = Duration::from_micros(500);

/// Commits wait for the disk.
const SYNC: &str = "PRAGMA synchronous = FULL";
/// A power failure may undo the last commits, never an earlier one without the later ones.
const NO_SYNC: &str = "PRAGMA synchronous = NORMAL";

/// Parts of the errors that SQLite reports when it can't use its file for now.
const TRANSIENT_ERRORS: [&str; 9] = [
    "is locked",
    "disk is full",
    "disk I/O error",
    "readonly database",
    "unable to open database file",
    "is malformed",
    "is not a database",
    "locking protocol",
    "out of memory",
];

/// Retries, because SQLite ignores the busy timeout for the change to WAL: it fails at once while another process
/// writes.
fn set_up(connection: &mut SqliteConnection) -> QueryResult<()> {
    let deadline = Instant::now() + BUSY_TIMEOUT;
    loop {
        match connection.batch_execute(SET_UP) {
            Err(error) if is_locked(&error) && Instant::now() < deadline => {
                std::thread::sleep(Duration::from_millis(20));
            }
            other => return other,
        }
    }
}

/// A connection to SQLite.
pub(in crate::store) struct SqliteEngine {
    pub(super) connection: SqliteConnection,
    pub(super) turns: Arc<Turns>,
    /// Whether a commit waits for the disk.
    syncs: bool,
    /// Whether the open transaction must be on disk when it has committed.
    require_durable: bool,
}

impl SqliteEngine {
    pub(super) fn open(file: &SqliteFile) -> Result<Self, StoreError> {
        file.check_access()?;
        let mut connection = SqliteConnection::establish(&file.path.to_string_lossy())
            .map_err(|error| file.open_error(error))?;
        set_up(&mut connection).map_err(|error| file.open_error(error))?;
        Ok(Self {
            connection,
            turns: Arc::clone(&file.turns),
            syncs: true,
            require_durable: false,
        })
    }

    /// Begins a writing transaction as soon as no other process writes.
    fn begin(&mut self) -> QueryResult<()> {
        let deadline = Instant::now() + BUSY_TIMEOUT;
        let begun = loop {
            match self.execute_unprepared(BEGIN) {
                Err(error) if is_locked(&error) && Instant::now() < deadline => {
                    std::thread::sleep(POLL_INTERVAL);
                }
                other => break other,
            }
        };
        self.execute_unprepared(RESTORE_TIMEOUT)?;
        begun
    }
}

pub(super) fn is_locked(error: &Error) -> bool {
    error.to_string().contains("is locked")
}

/// `UPDATE … FROM`, without RETURNING. The CASE hides the guard from the planner. If its statistics are from a moment
/// when a partial index was empty, the planner would scan that whole index, and all keys for each of its rows.
pub(super) fn update_text(update: &MessageUpdate<'_>) -> String {
    format!(
        "UPDATE carrot_messagelog AS m SET {} FROM {} \
         WHERE m.uuid = v.uuid AND CASE WHEN {} THEN 1 ELSE 0 END = 1 AND ({})",
        assignments("", update.set),
        source(&update.values),
        update.guard,
        update.lookup_guard
    )
}

impl Engine for SqliteEngine {
    type Backend = Sqlite;
    const MIGRATIONS: EmbeddedMigrations = embed_migrations!("migrations/sqlite");
    const SELECT_MIGRATIONS_TABLE: &'static str =
        "SELECT name FROM sqlite_master WHERE name = '__diesel_schema_migrations'";
    const SELECT_COLUMNS: &'static str = "SELECT 'carrot_messagelog.' || name AS name FROM pragma_table_info('carrot_messagelog') \
        UNION ALL SELECT 'carrot_scheduledtask.' || name FROM pragma_table_info('carrot_scheduledtask')";
    const INDEXES: &'static [Index] = indexes::INDEXES;
    const SELECT_INDEXES: &'static str = "SELECT m.name AS name, \
            COALESCE((SELECT group_concat(k.name || CASE k.\"desc\" WHEN 1 THEN ' DESC' ELSE '' END, ',' \
                    ORDER BY k.seqno) \
                FROM pragma_index_xinfo(m.name) k WHERE k.key = 1), '') AS key_columns, \
            l.\"unique\" AS is_unique, CASE l.partial WHEN 1 THEN COALESCE(m.sql, '') ELSE '' END AS predicate, \
            1 AS is_valid \
        FROM sqlite_master m JOIN pragma_index_list(m.tbl_name) l ON l.name = m.name \
        WHERE m.type = 'index' AND m.tbl_name IN ('carrot_messagelog', 'carrot_scheduledtask')";
    const SELECT_VERSION: &'static str = "SELECT 'SQLite ' || sqlite_version() AS name";
    // In Django's format.
    const NOW: &'static str = "strftime('%Y-%m-%d %H:%M:%f000', 'now')";
    const BIGINT: &'static str = "bigint";
    // A writer has locked the whole database.
    const FOR_UPDATE: &'static str = "";
    const FOR_UPDATE_SKIP_LOCKED: &'static str = "";
    const IS_UNPLANNED: &'static str = "m.active AND m.planned_for IS NOT (m.interval_type || ' ' \
        || CAST(m.interval_count AS text) || ' ' || COALESCE(m.time_zone, '') || ' ' || COALESCE(m.cron, ''))";
    const IS_PLANNED: &'static str = "m.active AND m.next_run IS NOT NULL AND m.planned_for IS \
        (m.interval_type || ' ' || CAST(m.interval_count AS text) || ' ' \
        || COALESCE(m.time_zone, '') || ' ' || COALESCE(m.cron, ''))";
    const NEXT_RUN_IS_MALFORMED: &'static str = "(typeof(m.next_run) <> 'text' OR m.next_run NOT GLOB \
        '[0-9][0-9][0-9][0-9]-[0-1][0-9]-[0-3][0-9] [0-2][0-9]:[0-5][0-9]:[0-5][0-9].[0-9][0-9][0-9][0-9][0-9][0-9]' \
        OR datetime(substr(m.next_run, 1, 19)) IS NOT substr(m.next_run, 1, 19))";
    const SKIP_ADOPTED: &'static str =
        "ON CONFLICT (adopted_uuid) WHERE adopted_uuid IS NOT NULL DO NOTHING";

    const LEAST: &'static str = "min";

    fn byte_length(text: &str) -> String {
        format!("LENGTH(CAST({text} AS blob))")
    }

    /// Without a cast, which would turn a text that is no integer into 0.
    fn integer(column: &str) -> String {
        column.to_owned()
    }

    fn now_plus(seconds: i64) -> String {
        format!("strftime('%Y-%m-%d %H:%M:%f000', 'now', '{seconds:+} seconds')")
    }

    fn now_plus_expression(seconds: &str) -> String {
        format!("strftime('%Y-%m-%d %H:%M:%f000', 'now', printf('%+.3f seconds', {seconds}))")
    }

    fn seconds_since(time: &str) -> String {
        format!("(julianday('now') - julianday({time})) * 86400.0")
    }

    fn time_to_text(time: &str) -> String {
        time.to_owned()
    }

    fn text_to_time(text: &str) -> String {
        text.to_owned()
    }

    fn values_sql(&self, values: &ValueTable<'_>) -> String {
        source(values)
    }

    fn messages_sql(&self, values: &ValueTable<'_>) -> String {
        // CROSS JOIN: reading the messages first could mean millions of rows.
        let source = source(values);
        format!("{source} CROSS JOIN carrot_messagelog m ON m.uuid = v.uuid")
    }

    fn execute(&mut self, sql: &str, values: Option<&ValueTable<'_>>) -> QueryResult<usize> {
        statement(sql, values).execute(&mut self.connection)
    }

    fn load<R: LoadableRow>(
        &mut self,
        sql: &str,
        values: Option<&ValueTable<'_>>,
    ) -> QueryResult<Vec<R>> {
        statement(sql, values).load(&mut self.connection)
    }

    fn load_unprepared<R: LoadableRow>(&mut self, sql: &str) -> QueryResult<Vec<R>> {
        diesel::sql_query(sql).load(&mut self.connection)
    }

    fn execute_unprepared(&mut self, sql: &str) -> QueryResult<()> {
        self.connection.batch_execute(sql)
    }

    fn update(&mut self, update: &MessageUpdate<'_>) -> QueryResult<usize> {
        let sql = update_text(update);
        self.execute(&sql, Some(&update.values))
    }

    fn update_returning<R: KeyedRow>(
        &mut self,
        update: &MessageUpdate<'_>,
        columns: &[&str],
    ) -> QueryResult<Vec<R>> {
        let update_text = update_text(update);
        let sql = format!("{update_text} RETURNING {}", columns.join(", "));
        self.load(&sql, Some(&update.values))
    }

    fn insert_one(&mut self, sql: &str, values: &ValueTable<'_>) -> QueryResult<i64> {
        let sql = format!("{sql} RETURNING id");
        let rows: Vec<IdRow> = self.load(&sql, Some(values))?;
        IdRow::only(&rows)
    }

    fn single_statement<T>(
        &mut self,
        durable: bool,
        work: impl FnOnce(&mut Self) -> QueryResult<T>,
    ) -> QueryResult<T> {
        self.transaction(durable, work)
    }

    fn transaction<T>(
        &mut self,
        durable: bool,
        work: impl FnOnce(&mut Self) -> QueryResult<T>,
    ) -> QueryResult<T> {
        let turns = Arc::clone(&self.turns);
        let _turn = turns.take();
        if self.syncs != durable {
            self.execute_unprepared(if durable { SYNC } else { NO_SYNC })?;
            self.syncs = durable;
        }
        self.require_durable = false;
        let done = in_transaction(self, Self::begin, work)?;
        if self.require_durable && !durable {
            // A commit that waits for the disk, even if it changes nothing, also syncs the commits before it.
            self.execute_unprepared(SYNC)?;
            self.syncs = true;
            in_transaction(self, Self::begin, |engine| {
                engine.execute_unprepared("UPDATE carrot_worker SET heartbeat = heartbeat")
            })?;
        }
        Ok(done)
    }

    fn with_naming_lock<T>(
        &mut self,
        work: impl FnOnce(&mut Self) -> QueryResult<T>,
    ) -> QueryResult<T> {
        // SQLite has one writer anyway.
        self.transaction(true, work)
    }

    fn require_durable(&mut self) -> QueryResult<()> {
        self.require_durable = true;
        Ok(())
    }

    /// Errors about the file are transient and errors about a value are not. A trigger may raise any text, which is
    /// therefore unclear.
    fn classify(&mut self, error: &Error) -> StoreError {
        let text = error.to_string();
        match error {
            Error::DatabaseError(
                DatabaseErrorKind::UniqueViolation
                | DatabaseErrorKind::ForeignKeyViolation
                | DatabaseErrorKind::NotNullViolation
                | DatabaseErrorKind::CheckViolation,
                _,
            ) => StoreError::Refused(text),
            _ if text.contains("too big") => StoreError::Refused(text),
            Error::DeserializationError(_) => StoreError::Unreadable(text),
            Error::DatabaseError(_, _)
                if !TRANSIENT_ERRORS.iter().any(|words| text.contains(words)) =>
            {
                StoreError::Unclear(text)
            }
            _ => StoreError::Unavailable(text),
        }
    }
}
