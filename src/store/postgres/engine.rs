//! The connection to PostgreSQL, and its dialect.

use diesel::connection::SimpleConnection;
use diesel::pg::{Pg, PgConnection};
use diesel::prelude::*;
use diesel::result::{DatabaseErrorKind, Error};
use diesel::sql_types::Text;
use diesel_migrations::{EmbeddedMigrations, embed_migrations};

use super::server::PostgresServer;
use super::statement::{CHANNEL, source, statement};
use super::{indexes, rights};
use crate::store::StoreError;
use crate::store::sql::{
    Engine, IdRow, Index, KeyedRow, LoadableRow, MessageUpdate, ValueTable, assignments,
    in_transaction,
};

/// The advisory lock that a transaction holds while it names a schedule: "carr" in ASCII, and 32 bits for the
/// table's oid, which is added.
const NAMING_LOCK: i64 = 0x6361_7272 << 32;

/// The settings of every connection, whatever the server's defaults are.
///
/// `enable_seqscan = off`: statements find rows by key. While PostgreSQL has no statistics of a table, it would
/// prefer to scan the whole table for each batch.
/// `jit = off`: with `enable_seqscan = off`, a plan that scans all the same, such as one of the few workers, counts
/// as so costly that PostgreSQL would first compile it, for 50 to 100 ms.
/// `idle_in_transaction_session_timeout`: a transaction whose host has stopped or vanished must not keep its locks,
/// for which everybody may be waiting.
/// `synchronous_commit`: an acknowledged message must be on disk, whatever the role's or the database's default. A
/// server that also waits for replicas keeps its setting.
/// `client_encoding`: diesel asks for UTF-8. A database with the encoding SQL_ASCII then refuses all rows of a
/// statement if one byte is not UTF-8.
/// Only a superuser may set `lc_messages`, which would otherwise be here too.
const SET_UP: &str = "SET application_name = 'carrot-actors'; \
    SET TIME ZONE 'UTC'; \
    SET default_transaction_isolation = 'read committed'; \
    SET client_min_messages = warning; \
    SET statement_timeout = 0; SET lock_timeout = 0; \
    SET idle_in_transaction_session_timeout = '10s'; \
    SET enable_seqscan = off; SET jit = off; \
    SELECT set_config('synchronous_commit', 'on', false) \
        WHERE current_setting('synchronous_commit') = 'off'; \
    SELECT set_config('client_encoding', 'SQL_ASCII', false) \
        WHERE current_setting('server_encoding') = 'SQL_ASCII'; ";

/// Puts the schema of Django's tables first, so that new tables are created beside them, and not in the schema that
/// came first.
const PREFER_DJANGOS_SCHEMA: &str = "SELECT set_config('search_path', \
        quote_ident(n.nspname) || ', ' || current_setting('search_path'), false) \
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
    WHERE c.oid = to_regclass('carrot_messagelog') AND n.nspname <> current_schema()";

/// A connection to PostgreSQL.
pub(in crate::store) struct PostgresEngine {
    pub(super) connection: PgConnection,
    pub(super) server: PostgresServer,
    /// Whether it has executed LISTEN.
    listens: bool,
}

impl PostgresEngine {
    pub(super) fn open(server: &PostgresServer) -> Result<Self, StoreError> {
        let mut connection = PgConnection::establish(server.expose())
            .map_err(|error| StoreError::Unavailable(server.scrub(&error.to_string())))?;
        connection
            .batch_execute(&(SET_UP.to_owned() + PREFER_DJANGOS_SCHEMA))
            .map_err(|error| StoreError::Unavailable(server.scrub(&error.to_string())))?;
        Ok(Self {
            connection,
            server: server.clone(),
            listens: false,
        })
    }
}

#[derive(QueryableByName)]
struct ChannelName {
    #[diesel(sql_type = Text)]
    name: String,
}

/// `UPDATE … FROM`, without RETURNING.
///
/// The CASE hides the guard from the planner. If its statistics are from a moment when nothing was PENDING, the
/// planner would read the whole partial index of PENDING messages for each value.
fn update_text(update: &MessageUpdate<'_>) -> String {
    format!(
        "UPDATE carrot_messagelog AS m SET {} FROM {} \
         WHERE m.uuid = v.uuid AND CASE WHEN {} THEN true ELSE false END AND ({})",
        assignments("", update.set),
        source(&update.values),
        update.guard,
        update.lookup_guard
    )
}

impl Engine for PostgresEngine {
    type Backend = Pg;
    const MIGRATIONS: EmbeddedMigrations = embed_migrations!("migrations/postgresql");
    const SELECT_MIGRATIONS_TABLE: &'static str = "SELECT tablename::text AS name FROM pg_tables \
        WHERE tablename = '__diesel_schema_migrations' AND schemaname = current_schema()";
    const SELECT_COLUMNS: &'static str = "SELECT t.name || '.' || a.attname AS name \
        FROM (VALUES ('carrot_messagelog'), ('carrot_scheduledtask')) t (name) \
        JOIN pg_attribute a ON a.attrelid = to_regclass(t.name) \
        WHERE a.attnum > 0 AND NOT a.attisdropped";
    const INDEXES: &'static [Index] = indexes::INDEXES;
    const SELECT_INDEXES: &'static str = "SELECT c.relname::text AS name, \
            (SELECT string_agg(pg_get_indexdef(i.indexrelid, n, true) \
                    || CASE i.indoption[n - 1] & 1 WHEN 1 THEN ' DESC' ELSE '' END, ',' ORDER BY n) \
                FROM generate_series(1, array_upper(i.indoption, 1) + 1) n) AS key_columns, \
            i.indisunique::int::bigint AS is_unique, \
            COALESCE(pg_get_expr(i.indpred, i.indrelid), '') AS predicate, \
            (i.indisvalid AND i.indisready)::int::bigint AS is_valid \
        FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid \
        WHERE i.indrelid IN (to_regclass('carrot_messagelog'), to_regclass('carrot_scheduledtask'))";
    const SELECT_VERSION: &'static str =
        "SELECT 'PostgreSQL ' || current_setting('server_version') AS name";
    const NOW: &'static str = "now()";
    const BIGINT: &'static str = "bigint";
    const FOR_UPDATE: &'static str = "FOR UPDATE OF m";
    const FOR_UPDATE_SKIP_LOCKED: &'static str = "FOR UPDATE OF m SKIP LOCKED";
    const IS_UNPLANNED: &'static str = "m.active AND m.planned_for IS DISTINCT FROM (m.interval_type || ' ' \
        || CAST(m.interval_count AS text) || ' ' || COALESCE(m.time_zone, '') || ' ' || COALESCE(m.cron, ''))";
    const IS_PLANNED: &'static str = "m.active AND m.next_run IS NOT NULL AND m.planned_for IS NOT DISTINCT \
        FROM (m.interval_type || ' ' || CAST(m.interval_count AS text) || ' ' \
        || COALESCE(m.time_zone, '') || ' ' || COALESCE(m.cron, ''))";
    const NEXT_RUN_IS_MALFORMED: &'static str = "(m.next_run < CAST('0001-01-01 00:00:00+00' AS timestamptz) \
        OR m.next_run >= CAST('10000-01-01 00:00:00+00' AS timestamptz))";
    const SKIP_ADOPTED: &'static str =
        "ON CONFLICT (adopted_uuid) WHERE adopted_uuid IS NOT NULL DO NOTHING";

    fn now_plus(seconds: i64) -> String {
        format!("now() + interval '{seconds} seconds'")
    }

    fn now_plus_expression(seconds: &str) -> String {
        format!("now() + ({seconds}) * interval '1 second'")
    }

    fn seconds_since(time: &str) -> String {
        format!("CAST(EXTRACT(EPOCH FROM now() - {time}) AS double precision)")
    }

    fn time_to_text(time: &str) -> String {
        // to_char writes infinite times, and years without four digits, in another format.
        format!(
            "CASE WHEN {time} >= CAST('0001-01-01 00:00:00+00' AS timestamptz) \
                 AND {time} < CAST('10000-01-01 00:00:00+00' AS timestamptz) \
             THEN to_char({time} AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS.US') \
             ELSE CAST({time} AS text) END"
        )
    }

    fn text_to_time(text: &str) -> String {
        format!("CAST({text} || '+00' AS timestamptz)")
    }

    fn values_sql(&self, values: &ValueTable<'_>) -> String {
        source(values)
    }

    fn messages_sql(&self, values: &ValueTable<'_>) -> String {
        let source = source(values);
        format!("{source} JOIN carrot_messagelog m ON m.uuid = v.uuid")
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

    fn was_notified(&mut self) -> QueryResult<Option<bool>> {
        if !self.listens {
            let channel: ChannelName = diesel::sql_query(format!("SELECT {CHANNEL} AS name"))
                .get_result(&mut self.connection)?;
            self.execute_unprepared(&format!("LISTEN {}", channel.name))?;
            self.listens = true;
            return Ok(Some(true));
        }
        let mut was_notified = false;
        for notification in self.connection.notifications_iter() {
            notification?;
            was_notified = true;
        }
        Ok(Some(was_notified))
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
        let sql = format!("{update_text} RETURNING m.{}", columns.join(", m."));
        self.load(&sql, Some(&update.values))
    }

    fn insert_one(&mut self, sql: &str, values: &ValueTable<'_>) -> QueryResult<i64> {
        let sql = format!("{sql} RETURNING CAST(id AS bigint) AS id");
        let rows: Vec<IdRow> = self.load(&sql, Some(values))?;
        IdRow::only(&rows)
    }

    fn single_statement<T>(
        &mut self,
        durable: bool,
        work: impl FnOnce(&mut Self) -> QueryResult<T>,
    ) -> QueryResult<T> {
        if durable {
            work(self)
        } else {
            self.transaction(false, work)
        }
    }

    fn transaction<T>(
        &mut self,
        durable: bool,
        work: impl FnOnce(&mut Self) -> QueryResult<T>,
    ) -> QueryResult<T> {
        let begin = if durable {
            "BEGIN"
        } else {
            "BEGIN; SET LOCAL synchronous_commit = off"
        };
        in_transaction(self, |engine| engine.execute_unprepared(begin), work)
    }

    fn with_naming_lock<T>(
        &mut self,
        work: impl FnOnce(&mut Self) -> QueryResult<T>,
    ) -> QueryResult<T> {
        self.transaction(true, |engine| {
            engine.execute_unprepared(&format!(
                "SELECT pg_advisory_xact_lock({NAMING_LOCK} + CAST(CAST(\
                 to_regclass('carrot_scheduledtask') AS oid) AS bigint))"
            ))?;
            work(engine)
        })
    }

    fn require_durable(&mut self) -> QueryResult<()> {
        self.execute_unprepared("SET LOCAL synchronous_commit = on")
    }

    /// Diesel hides libpq's SQLSTATE, so a statement shows whether the connection still works.
    fn classify(&mut self, error: &Error) -> StoreError {
        let text = rights::explain(self.server.scrub(&error.to_string()));
        let says = |words: &[&str]| words.iter().any(|word| text.contains(word));
        match error {
            Error::DatabaseError(
                DatabaseErrorKind::ClosedConnection
                | DatabaseErrorKind::UnableToSendCommand
                | DatabaseErrorKind::ReadOnlyTransaction,
                _,
            )
            | Error::BrokenTransactionManager => StoreError::Unavailable(text),
            Error::DatabaseError(DatabaseErrorKind::SerializationFailure, _) => {
                StoreError::Conflict(text)
            }
            Error::DeserializationError(_) => StoreError::Unreadable(text),
            _ if self.execute_unprepared("SELECT 1").is_err() => StoreError::Unavailable(text),
            _ if says(&["deadlock", "canceling statement"]) => StoreError::Conflict(text),
            _ if says(&["No space left", "could not extend", "could not write"]) => {
                StoreError::Unavailable(text)
            }
            Error::DatabaseError(DatabaseErrorKind::Unknown, _) => StoreError::Unclear(text),
            _ => StoreError::Refused(text),
        }
    }
}
