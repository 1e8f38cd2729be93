//! The connection to MySQL, and its dialect.

use std::collections::HashSet;

use diesel::connection::SimpleConnection;
use diesel::mysql::{Mysql, MysqlConnection};
use diesel::prelude::*;
use diesel::result::{DatabaseErrorKind, Error};
use diesel_migrations::{EmbeddedMigrations, embed_migrations};

use super::properties::ServerProperties;
use super::server::MysqlServer;
use super::statement::{self, source, statement};
use super::{connecting, indexes, socket};
use crate::store::StoreError;
use crate::store::sql::{
    ALWAYS_TRUE, Engine, IdRow, Index, KeyedRow, LoadableRow, MessageUpdate, Statement, ValueTable,
    assignments, in_transaction,
};

/// The settings of every connection, whatever the server's defaults are.
///
/// `sql_mode`: the server refuses values that do not fit, and does not cut them.
/// `idle_transaction_timeout`: a transaction whose host has stopped or vanished must not keep its locks. Only
/// MariaDB has this setting.
const SET_UP: &str = "SET autocommit = 1, time_zone = '+00:00', \
    sql_mode = 'STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION', \
    innodb_lock_wait_timeout = 10, wait_timeout = 2147483, lc_messages = 'en_US'; \
    SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED; \
    /*M!100300 SET idle_transaction_timeout = 10 */";

/// The lock that a connection holds while it names a schedule, and how long it waits for the lock.
const NAMING_LOCK: &str = "CONCAT('carrot-actors names ', MD5(DATABASE()))";
const NAMING_WAIT_SECONDS: u32 = 10;

/// Parts of the errors of a transaction that conflicted with another.
const CONFLICTS: [&str; 4] = [
    "Deadlock",
    "Lock wait timeout",
    "Record has changed",
    "Failed to read auto-increment value",
];

/// A connection to MySQL.
pub(in crate::store) struct MysqlEngine {
    pub(super) connection: MysqlConnection,
    properties: ServerProperties,
    pub(super) server: MysqlServer,
}

impl MysqlEngine {
    pub(super) fn open(server: &MysqlServer) -> Result<Self, StoreError> {
        let away = |text: String| StoreError::Unavailable(server.scrub(&text));
        let mut connection = connecting::establish(server.expose(), server.port()).map_err(away)?;
        socket::give_up_when_silent(server.port());
        connection
            .batch_execute(SET_UP)
            .map_err(|e| away(e.to_string()))?;
        let properties = ServerProperties::of(&mut connection).map_err(|e| away(e.to_string()))?;
        Ok(Self {
            connection,
            properties,
            server: server.clone(),
        })
    }

    fn statement<'a>(
        &self,
        sql: &'a str,
        values: Option<&ValueTable<'_>>,
    ) -> QueryResult<Statement<'a, Mysql>> {
        statement(sql, values, |_| Ok(self.properties.most_bytes))
    }
}

impl Engine for MysqlEngine {
    type Backend = Mysql;
    const MIGRATIONS: EmbeddedMigrations = embed_migrations!("migrations/mysql");
    const SELECT_MIGRATIONS_TABLE: &'static str = "SELECT table_name AS name FROM information_schema.tables \
        WHERE table_schema = DATABASE() AND table_name = '__diesel_schema_migrations'";
    const SELECT_COLUMNS: &'static str = "SELECT CONCAT(table_name, '.', column_name) AS name \
        FROM information_schema.columns WHERE table_schema = DATABASE() \
        AND table_name IN ('carrot_messagelog', 'carrot_scheduledtask')";
    const INDEXES: &'static [Index] = indexes::INDEXES;
    // The optimizer does not use an IGNORED index, and FORCE INDEX refuses it.
    const SELECT_INDEXES: &'static str = "SELECT index_name AS name, \
            COALESCE(GROUP_CONCAT(column_name ORDER BY seq_in_index SEPARATOR ','), '') AS key_columns, \
            CAST(MAX(non_unique) = 0 AS SIGNED) AS is_unique, '' AS predicate, \
            CAST(1 /*M!100600 AND MAX(ignored) = 'NO' */ AS SIGNED) AS is_valid \
        FROM information_schema.statistics WHERE table_schema = DATABASE() \
            AND table_name IN ('carrot_messagelog', 'carrot_scheduledtask') \
        GROUP BY table_name, index_name";
    // An update of joined rows collects the new values in a temporary table, which is on disk if one is a text.
    const TEXT_UPDATES_ARE_SLOW: bool = true;
    // MariaDB before 10.8 ignores DESC.
    const SHOWS_DESCENDING: bool = false;
    const SELECT_VERSION: &'static str = "SELECT CONCAT(IF(version() LIKE '%MariaDB%', '', 'MySQL '), \
        version()) AS name";
    const NOW: &'static str = "utc_timestamp(6)";
    const BIGINT: &'static str = "signed";
    const FOR_UPDATE: &'static str = "FOR UPDATE";
    const FOR_UPDATE_SKIP_LOCKED: &'static str = "FOR UPDATE SKIP LOCKED";
    const TIMETABLE: &'static str = "CONCAT(m.interval_type, ' ', m.interval_count, ' ', \
        COALESCE(m.time_zone, ''), ' ', COALESCE(m.cron, ''))";
    const IS_UNPLANNED: &'static str = "m.active = true AND m.is_planned = false";
    const IS_PLANNED: &'static str =
        "m.active = true AND m.is_planned = true AND m.next_run IS NOT NULL";
    // With another index, the server would sort, and lock, all waiting messages.
    const FROM_WAITING: &'static str =
        "carrot_messagelog m FORCE INDEX (carrot_messagelog_waiting)";
    // Without the index, the server would scan a short table, and lock each of its rows.
    const FROM_PENDING: &'static str =
        "carrot_messagelog m FORCE INDEX (carrot_messagelog_pending)";
    const FROM_IN_PROGRESS: &'static str =
        "carrot_messagelog m FORCE INDEX (carrot_messagelog_in_progress)";
    // With another index, the server would sort, and lock, all unplanned schedules.
    const FROM_SCHEDULES: &'static str =
        "carrot_scheduledtask m FORCE INDEX (carrot_scheduledtask_next_run)";
    // Some servers accept dates without a year, month or day, and days that the month does not have.
    const NEXT_RUN_IS_MALFORMED: &'static str = "(YEAR(m.next_run) = 0 OR LAST_DAY(m.next_run) IS NULL \
        OR DAY(m.next_run) = 0)";
    // Not the index of states, which most messages share.
    const FROM_OCCURRENCES: &'static str =
        "carrot_messagelog l FORCE INDEX (carrot_messagelog_occurrence)";
    const SKIP_ADOPTED: &'static str =
        "ON DUPLICATE KEY UPDATE carrot_messagelog.id = carrot_messagelog.id";

    fn now_plus(seconds: i64) -> String {
        format!("utc_timestamp(6) + INTERVAL {seconds} SECOND")
    }

    fn now_plus_expression(seconds: &str) -> String {
        format!("utc_timestamp(6) + INTERVAL ROUND(({seconds}) * 1000000) MICROSECOND")
    }

    fn seconds_since(time: &str) -> String {
        format!("TIMESTAMPDIFF(MICROSECOND, {time}, utc_timestamp(6)) / 1000000.0")
    }

    fn time_to_text(time: &str) -> String {
        format!("DATE_FORMAT({time}, '%Y-%m-%d %H:%i:%s.%f')")
    }

    fn text_to_time(text: &str) -> String {
        format!("CAST({text} AS datetime(6))")
    }

    fn most_bytes(&self) -> usize {
        statement::most_bytes(&self.properties)
    }

    fn highest_character(&self) -> char {
        self.properties.highest_character
    }

    fn is_exactly(column: &str, text: &str) -> String {
        let bytes: String = text.bytes().map(|byte| format!("{byte:02x}")).collect();
        format!("CAST(CONVERT({column} USING utf8mb4) AS BINARY) = X'{bytes}'")
    }

    fn values_sql(&self, values: &ValueTable<'_>) -> String {
        source(values, |name| self.properties.text_type(name))
    }

    fn messages_sql(&self, values: &ValueTable<'_>) -> String {
        // STRAIGHT_JOIN: reading the messages first could mean millions of rows.
        format!(
            "{} STRAIGHT_JOIN carrot_messagelog m FORCE INDEX (carrot_messagelog_uuid) \
             ON m.uuid = v.uuid AND CAST(m.uuid AS BINARY) = CAST(v.uuid AS BINARY)",
            Engine::values_sql(self, values)
        )
    }

    fn messages_to_lock_sql(&self, values: &ValueTable<'_>) -> String {
        // A locking read by the index of keys also finds uncommitted rows and waits for them: for as long as the
        // transaction in which Django inserts the message takes. The subquery does not lock, and sees only
        // committed rows.
        format!(
            "(SELECT v.uuid, m.id FROM {} LIMIT 18446744073709551615) AS v \
             STRAIGHT_JOIN carrot_messagelog m FORCE INDEX (PRIMARY) ON m.id = v.id",
            self.messages_sql(values)
        )
    }

    fn execute(&mut self, sql: &str, values: Option<&ValueTable<'_>>) -> QueryResult<usize> {
        self.statement(sql, values)?.execute(&mut self.connection)
    }

    fn load<R: LoadableRow>(
        &mut self,
        sql: &str,
        values: Option<&ValueTable<'_>>,
    ) -> QueryResult<Vec<R>> {
        self.statement(sql, values)?.load(&mut self.connection)
    }

    fn load_unprepared<R: LoadableRow>(&mut self, sql: &str) -> QueryResult<Vec<R>> {
        diesel::sql_query(sql).load(&mut self.connection)
    }

    fn execute_unprepared(&mut self, sql: &str) -> QueryResult<()> {
        self.connection.batch_execute(sql)
    }

    fn delete(&mut self, ids: &[i64]) -> QueryResult<()> {
        // With a list of ids, the server scans a table that is not much longer than the list, and waits for every
        // locked row on the way.
        let values = ValueTable::default().integers("id", ids.iter().copied());
        let sql = format!(
            "DELETE m FROM {} STRAIGHT_JOIN carrot_messagelog m ON m.id = v.id",
            Engine::values_sql(self, &values)
        );
        self.execute(&sql, Some(&values)).map(drop)
    }

    fn update(&mut self, update: &MessageUpdate<'_>) -> QueryResult<usize> {
        let sql = format!(
            "UPDATE {} SET {} WHERE {} AND ({})",
            self.messages_sql(&update.values),
            assignments("m.", update.set),
            update.guard,
            update.lookup_guard
        );
        self.execute(&sql, Some(&update.values))
    }

    fn update_returning<R: KeyedRow>(
        &mut self,
        update: &MessageUpdate<'_>,
        columns: &[&str],
    ) -> QueryResult<Vec<R>> {
        // The columns as they will be after the update.
        let columns: Vec<_> = columns
            .iter()
            .map(
                |column| match update.set.iter().find(|(set, _)| set == column) {
                    Some((_, to)) => format!("({to}) AS {column}"),
                    None => format!("m.{column}"),
                },
            )
            .collect();
        let messages = match update.values.columns().len() {
            1 => self.messages_to_lock_sql(&update.values),
            _ => self.messages_sql(&update.values),
        };
        let sql = format!(
            "SELECT {} FROM {messages} WHERE {} AND ({}) {}",
            columns.join(", "),
            update.guard,
            update.lookup_guard,
            Self::FOR_UPDATE
        );
        let rows: Vec<R> = self.load(&sql, Some(&update.values))?;
        if !rows.is_empty() {
            // Only the locked rows: others may satisfy the guard by now. And all of the locked rows: `lookup_guard`
            // has been checked, and must not be checked again after other tables have changed.
            let locked: HashSet<&str> = rows.iter().map(KeyedRow::key).collect();
            self.update(&MessageUpdate {
                values: update.values.only(&locked),
                lookup_guard: ALWAYS_TRUE,
                ..*update
            })?;
        }
        Ok(rows)
    }

    fn update_by_id(
        &mut self,
        table: &str,
        values: &ValueTable<'_>,
        set: &[(&str, String)],
        guard: &str,
    ) -> QueryResult<()> {
        let sql = format!(
            "UPDATE {} STRAIGHT_JOIN {table} m ON m.id = v.id SET {} WHERE {guard}",
            Engine::values_sql(self, values),
            assignments("m.", set)
        );
        self.execute(&sql, Some(values)).map(drop)
    }

    fn insert_one(&mut self, sql: &str, values: &ValueTable<'_>) -> QueryResult<i64> {
        self.execute(sql, Some(values))?;
        let rows: Vec<IdRow> = self.load("SELECT CAST(last_insert_id() AS SIGNED) AS id", None)?;
        IdRow::only(&rows)
    }

    fn single_statement<T>(
        &mut self,
        _durable: bool,
        work: impl FnOnce(&mut Self) -> QueryResult<T>,
    ) -> QueryResult<T> {
        work(self)
    }

    fn transaction<T>(
        &mut self,
        _durable: bool,
        work: impl FnOnce(&mut Self) -> QueryResult<T>,
    ) -> QueryResult<T> {
        in_transaction(self, |engine| engine.execute_unprepared("BEGIN"), work)
    }

    fn with_naming_lock<T>(
        &mut self,
        work: impl FnOnce(&mut Self) -> QueryResult<T>,
    ) -> QueryResult<T> {
        let asked =
            format!("SELECT CAST(GET_LOCK({NAMING_LOCK}, {NAMING_WAIT_SECONDS}) AS SIGNED) AS id");
        let locked: Vec<IdRow> = self.load(&asked, None)?;
        if IdRow::only(&locked) != Ok(1) {
            let problem =
                "another connection has held the lock on schedules' names for ten seconds";
            return Err(Error::QueryBuilderError(problem.into()));
        }
        let done = self.transaction(true, work);
        // The lock belongs to the session: if this fails, the connection is broken, and its end releases the lock.
        if let Err(error) = self.execute_unprepared(&format!("DO RELEASE_LOCK({NAMING_LOCK})")) {
            log::debug!("the lock on schedules' names could not be released: {error}");
        }
        done
    }

    fn require_durable(&mut self) -> QueryResult<()> {
        Ok(())
    }

    /// Diesel hides the errors' numbers, so a new connection shows whether the server is still reachable. The old
    /// one can't be used for that: if an error, such as a deadlock, ended the rows of a statement, libmariadb would
    /// wait for ever when the same statement is run again.
    fn classify(&mut self, error: &Error) -> StoreError {
        let text = self.server.scrub(&error.to_string());
        let says = |words: &[&str]| words.iter().any(|word| text.contains(word));
        // Diesel or this crate made that error; the statement was never sent.
        let is_ours = matches!(error, Error::QueryBuilderError(_));
        let is_away = !is_ours
            && match Self::open(&self.server) {
                Ok(another) => {
                    *self = another;
                    false
                }
                Err(_) => true,
            };
        match error {
            _ if is_away => StoreError::Unavailable(text),
            Error::DeserializationError(_) => StoreError::Unreadable(text),
            Error::DatabaseError(DatabaseErrorKind::SerializationFailure, _) => {
                StoreError::Conflict(text)
            }
            Error::DatabaseError(DatabaseErrorKind::ReadOnlyTransaction, _) => {
                StoreError::Unavailable(text)
            }
            _ if says(&[
                "read-only",
                "read only",
                "is full",
                "Disk full",
                "No space left",
                "Errcode: 28",
                "Lost connection",
                "gone away",
            ]) =>
            {
                StoreError::Unavailable(text)
            }
            _ if says(&CONFLICTS) => StoreError::Conflict(text),
            _ if says(&["Data too long", "Incorrect", "Out of range"]) => StoreError::Refused(text),
            Error::DatabaseError(DatabaseErrorKind::Unknown, _) => StoreError::Unclear(text),
            _ => StoreError::Refused(text),
        }
    }
}
