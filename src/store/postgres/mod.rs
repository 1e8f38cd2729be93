//! PostgreSQL.

mod indexes;
mod migrating;
mod rights;
mod statement;

use diesel::connection::SimpleConnection;
use diesel::pg::{Pg, PgConnection};
use diesel::prelude::*;
use diesel::result::{DatabaseErrorKind, Error};
use diesel::sql_types::Text;
use diesel_migrations::{EmbeddedMigrations, embed_migrations};

use self::statement::{TOLD, source, statement};
use super::sql::{
    Connector, Engine, IdRow, Index, KeyedRow, LoadableRow, MessageUpdate, ValueTable, assignments,
    in_transaction,
};
use super::{MigrationReporter, StoreError, Tables};
use crate::config::DatabaseUrl;

/// The advisory lock of those who name schedules, without the table's oid: "carr" in ASCII, and 32 bits
/// for that.
const NAMING_LOCK: i64 = 0x6361_7272 << 32;

/// What every connection is set to, whatever the server's defaults are.
///
/// `enable_seqscan = off`: our statements find rows by key; before PostgreSQL has statistics of a
/// table it would rather scan it whole, once a batch.
/// `jit = off`: a plan that scans all the same, as of the few workers, then counts as so costly that it
/// is compiled first, for 50 to 100 ms.
/// `idle_in_transaction_session_timeout`: one whose host stands still, or is gone without a word, must not
/// keep its locks; those who wait for them may be everybody.
/// `synchronous_commit`: what is acknowledged must last, whatever the role's or the database's default;
/// a server that wants more than its own disk to have it keeps its setting.
/// `client_encoding`: diesel asks for UTF-8, which a database of bytes refuses to give where one of them is
/// none, and with it all rows of a statement.
/// `lc_messages` would be ours to set too, but only a superuser may.
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

/// Django's tables may be in another schema than the one that comes first, where new ones would be
/// made: what is ours belongs beside them.
const BESIDE_DJANGOS: &str = "SELECT set_config('search_path', \
        quote_ident(n.nspname) || ', ' || current_setting('search_path'), false) \
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
    WHERE c.oid = to_regclass('carrot_messagelog') AND n.nspname <> current_schema()";

/// What libpq is told unless the URL says it: give up on a connection that does not come about in
/// 10 s, and notice within about 20 s that the other host is gone.
const DEFAULTS: [(&str, &str); 5] = [
    ("connect_timeout", "10"),
    ("keepalives_idle", "10"),
    ("keepalives_interval", "5"),
    ("keepalives_count", "2"),
    ("tcp_user_timeout", "20000"),
];

/// Where the database is and how to get there.
#[derive(Clone)]
pub(super) struct PostgresServer {
    url: DatabaseUrl,
    full: String,
}

impl PostgresServer {
    pub(super) fn new(url: &DatabaseUrl) -> Result<Self, StoreError> {
        let text = url.expose();
        refuse_tls_if_not_built_in(text)?;
        let mut full = text.to_owned();
        for (key, value) in DEFAULTS {
            if !text.contains(&format!("{key}=")) {
                full.push(if full.contains('?') { '&' } else { '?' });
                full.push_str(key);
                full.push('=');
                full.push_str(value);
            }
        }
        Ok(Self {
            url: url.clone(),
            full,
        })
    }

    /// `text` on one line and without the password, which libpq quotes in some errors.
    fn scrub(&self, text: &str) -> String {
        let text = text
            .replace(&self.full, &self.describe())
            .replace(self.url.expose(), &self.describe());
        let one_line = text.split_whitespace().collect::<Vec<_>>().join(" ");
        self.url.redact(&one_line)
    }
}

impl Connector for PostgresServer {
    type Engine = PostgresEngine;
    const MIGRATES_ITSELF: bool = false;

    fn open(&self) -> Result<PostgresEngine, StoreError> {
        let mut connection = PgConnection::establish(&self.full)
            .map_err(|error| StoreError::Unavailable(self.scrub(&error.to_string())))?;
        connection
            .batch_execute(&(SET_UP.to_owned() + BESIDE_DJANGOS))
            .map_err(|error| StoreError::Unavailable(self.scrub(&error.to_string())))?;
        Ok(PostgresEngine {
            connection,
            server: self.clone(),
            listens: false,
        })
    }

    fn migrate(&self, tables: Tables, tell: &mut MigrationReporter<'_>) -> Result<(), StoreError> {
        migrating::migrate(self, tables, tell)
    }

    fn describe(&self) -> String {
        self.url.to_string()
    }
}

/// A connection to PostgreSQL.
pub(in crate::store) struct PostgresEngine {
    connection: PgConnection,
    server: PostgresServer,
    /// Whether it has asked to be told.
    listens: bool,
}

#[derive(QueryableByName)]
struct Told {
    #[diesel(sql_type = Text)]
    name: String,
}

/// `UPDATE … FROM`, as far as it goes without RETURNING.
///
/// The guard stands in a CASE, which the planner does not look into: by statistics from a moment when
/// nothing was PENDING it would read the index of what is, whole, for each of the values.
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
        // Of what is before or after all years of four digits, or infinite, to_char says something else.
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
            let told: Told = diesel::sql_query(format!("SELECT {TOLD} AS name"))
                .get_result(&mut self.connection)?;
            self.execute_unprepared(&format!("LISTEN {}", told.name))?;
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

    /// What the caller can do about `error`. libpq's SQLSTATE does not reach us, so the connection
    /// itself is asked whether it still lives.
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

/// Says what to build when the URL insists on TLS.
fn refuse_tls_if_not_built_in(url: &str) -> Result<(), StoreError> {
    let insists = ["require", "verify-ca", "verify-full"]
        .iter()
        .any(|mode| url.contains(&format!("sslmode={mode}")));
    if insists && !cfg!(feature = "tls") {
        return Err(StoreError::Unsupported(
            "database_url asks for TLS (sslmode), which this build is without: build with \
             `--features tls`, or set sslmode=prefer"
                .to_owned(),
        ));
    }
    Ok(())
}

#[cfg(all(test, not(feature = "tls")))]
mod tests {
    use super::PostgresServer;
    use crate::store::StoreError;

    #[test]
    fn an_sslmode_that_insists_says_what_to_build() {
        for mode in ["require", "verify-ca", "verify-full"] {
            let url = format!("postgres://u:hunter2@h/d?sslmode={mode}");
            let refused = PostgresServer::new(&url.parse().unwrap()).err();
            let Some(StoreError::Unsupported(reason)) = refused else {
                panic!("{mode} is not Unsupported: {refused:?}");
            };
            assert!(reason.contains("--features tls"), "{reason}");
            assert!(!reason.contains("hunter2"), "{reason}");
        }
        for url in ["postgres://h/d", "postgres://h/d?sslmode=prefer"] {
            assert!(PostgresServer::new(&url.parse().unwrap()).is_ok(), "{url}");
        }
    }
}
