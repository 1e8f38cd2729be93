//! Migrating the tables while other connections read and write them.
//!
//! A migration blocks nobody for longer than [`LOCK_WAIT`]. Everybody who asks for a table while a step waits for it
//! waits behind that step, so a step that does not get its lock in that time gives up and retries later. Indexes are
//! built CONCURRENTLY, which blocks nobody, but waits for every transaction with an older snapshot. A migration that
//! waits for another must therefore have no snapshot itself, and so it polls for the migrations' lock.

use std::time::{Duration, Instant};

use diesel::prelude::*;
use diesel::result::{DatabaseErrorKind, Error};
use diesel_migrations::MigrationHarness;

use super::engine::PostgresEngine;
use super::rights;
use super::server::PostgresServer;
use crate::failpoint;
use crate::store::report_lines::{load_lines, load_report};
use crate::store::sql::{
    Engine, IdRow, Index, IndexFault, LockWait, MigrationSteps, forget_lost_steps, index_faults,
    run_watched,
};
use crate::store::{MigrationProgress, MigrationReporter, StoreError, Tables};

/// The advisory lock of the migrations of a schema: "carm" in ASCII, and the schema's oid, so that migrations of
/// other schemas in the database do not wait.
const LOCK_KIND: i64 = 0x6361_726d;
const SCHEMA: &str = "CAST(coalesce((SELECT oid FROM pg_namespace \
    WHERE nspname = current_schema()), 0) AS bigint)";

/// How long a step waits for its lock on a table.
const LOCK_WAIT: Duration = Duration::from_millis(200);

/// How often the build of an index is restarted after a deadlock.
const MOST_DEADLOCKS: usize = 10;

/// Has the server notice within a second that this process has died, end its statement and release its lock.
const NOTICE_DEATH: &str = "SELECT set_config(name, '1s', false) FROM pg_settings \
    WHERE name = 'client_connection_check_interval'";

/// Describes the connection `a` of `pg_stat_activity`.
const DESCRIBE_CONNECTION: &str = "concat('pid ', a.pid, ' (', concat_ws(', ', NULLIF(a.application_name, ''), \
        'user ' || a.usename, 'from ' || host(a.client_addr), NULLIF(a.state, ''), \
        'in a transaction for ' || round(extract(epoch FROM now() - a.xact_start)) || ' s'), ')')";

/// A running migration.
struct PostgresMigration<'a, 'b> {
    server: &'a PostgresServer,
    /// Its session holds the migrations' lock, which ends with the connection if this process dies.
    engine: PostgresEngine,
    reporter: &'a mut MigrationReporter<'b>,
}

pub(super) fn migrate(
    server: &PostgresServer,
    tables: Tables,
    reporter: &mut MigrationReporter<'_>,
) -> Result<(), StoreError> {
    let engine = PostgresEngine::open(server)?;
    let mut migration = PostgresMigration {
        server,
        engine,
        reporter,
    };
    // Older servers do not have the setting.
    if let Err(error) = migration.engine.execute_unprepared(NOTICE_DEATH) {
        log::debug!("a migration that dies is noticed late: {error}");
    }
    migration.take_lock()?;
    if let Some(obstacle) =
        migration.run_on_engine(|engine| rights::obstacle(&mut engine.connection))?
    {
        return Err(StoreError::Refused(obstacle));
    }
    migration.run_on_engine(forget_lost_steps)?;
    migration.run_steps(tables)?;
    migration.build_indexes(tables)
}

impl PostgresMigration<'_, '_> {
    fn run_on_engine<T>(
        &mut self,
        work: impl FnOnce(&mut PostgresEngine) -> QueryResult<T>,
    ) -> Result<T, StoreError> {
        work(&mut self.engine).map_err(|error| self.engine.classify(&error))
    }

    fn note(&mut self, note: &str) {
        (self.reporter)(MigrationProgress::Note(note));
    }

    fn take_lock(&mut self) -> Result<(), StoreError> {
        let mut lock_wait = LockWait::new();
        let try_lock = format!(
            "SELECT pg_try_advisory_lock({} + {SCHEMA})::int::bigint AS id",
            LOCK_KIND << 32
        );
        loop {
            let locked =
                self.run_on_engine(|engine| IdRow::only(&engine.load::<IdRow>(&try_lock, None)?))?;
            if locked == 1 {
                failpoint::hit("migrate.locked");
                return Ok(());
            }
            if lock_wait.must_explain() {
                let holders = self.run_on_engine(lock_holders)?;
                self.note(&format!("waits for the migration of {holders}"));
            }
            lock_wait.pause();
        }
    }

    /// Runs diesel's steps, each in a transaction of its own.
    fn run_steps(&mut self, tables: Tables) -> Result<(), StoreError> {
        let steps = (self.engine.connection)
            .pending_migrations(MigrationSteps(PostgresEngine::MIGRATIONS, tables))
            .map_err(|error| StoreError::Refused(self.server.scrub(&error.to_string())))?;
        for step in steps {
            let version = step.name().version().to_string();
            self.retry_while_locked(&format!("step {version}"), |engine| {
                let run = engine.connection.run_migration(&*step).map(drop);
                run.map_err(|error| engine.server.scrub(&error.to_string()))
            })?;
            (self.reporter)(MigrationProgress::Step(&version));
            failpoint::hit("migrate.step");
        }
        Ok(())
    }

    /// Does `work`, which locks a table, and retries while other transactions have locked it.
    fn retry_while_locked(
        &mut self,
        what: &str,
        mut work: impl FnMut(&mut PostgresEngine) -> Result<(), String>,
    ) -> Result<(), StoreError> {
        let short = format!("SET lock_timeout = {}", LOCK_WAIT.as_millis());
        self.run_on_engine(|engine| engine.execute_unprepared(&short))?;
        let mut lock_wait = LockWait::new();
        loop {
            let began = Instant::now();
            let Err(error) = work(&mut self.engine) else {
                break;
            };
            if self.engine.execute_unprepared("SELECT 1").is_err() {
                return Err(StoreError::Unavailable(error));
            }
            let holders = self.run_on_engine(table_holders)?;
            let is_held = match self.run_on_engine(speaks_english)? {
                true => error.contains("lock timeout") || error.contains("deadlock"),
                false => began.elapsed() >= LOCK_WAIT && !holders.is_empty(),
            };
            if !is_held {
                return Err(StoreError::Refused(error));
            }
            if lock_wait.must_explain() {
                self.note(&format!(
                    "{what} waits for the transactions that use the tables, and tries again: {}",
                    if holders.is_empty() { error } else { holders }
                ));
            }
            lock_wait.pause();
        }
        self.run_on_engine(|engine| engine.execute_unprepared("SET lock_timeout = 0"))
    }

    fn build_indexes(&mut self, tables: Tables) -> Result<(), StoreError> {
        for (index, fault) in self.run_on_engine(|engine| index_faults(engine, tables))? {
            failpoint::hit("migrate.index");
            self.build(index, &fault)?;
            (self.reporter)(MigrationProgress::Index(index.name));
        }
        // If an index can't be built, whatever is in its way is still there.
        match self
            .run_on_engine(|engine| index_faults(engine, tables))?
            .first()
        {
            None => Ok(()),
            Some((index, fault)) => Err(StoreError::Refused(format!(
                "the index {} {}",
                index.name,
                fault.reason().unwrap_or("is gone again".to_owned())
            ))),
        }
    }

    fn build(&mut self, index: &Index, fault: &IndexFault) -> Result<(), StoreError> {
        if let Some(reason) = fault.reason() {
            self.note(&format!(
                "the index {} {reason}: it is dropped and built again",
                index.name
            ));
            self.drop_index(index)?;
        }
        if self.is_empty(index.table)? {
            // Building the index blocks writers for an instant only, and CONCURRENTLY would wait for snapshots.
            return self.retry_while_locked(&format!("the index {}", index.name), |engine| {
                let built = engine.execute_unprepared(&index.create(""));
                built.map_err(|error| build_error(&engine.server, index, &error))
            });
        }
        let what = format!("building the index {} of {}", index.name, index.table);
        for _ in 0..MOST_DEADLOCKS {
            let Err(error) = self.run_reporting(&index.create("CONCURRENTLY "), &what) else {
                return Ok(());
            };
            if self.engine.execute_unprepared("SELECT 1").is_err() {
                return Err(StoreError::Unavailable(
                    self.server.scrub(&error.to_string()),
                ));
            }
            // The failed build leaves an invalid index, and a unique one still refuses rows.
            if self.exists(index)? {
                self.drop_index(index)?;
            }
            if !error.to_string().contains("deadlock") {
                return Err(StoreError::Refused(build_error(self.server, index, &error)));
            }
            self.note(&format!("{what} met a deadlock, and starts again"));
        }
        Err(StoreError::Conflict(format!(
            "{what} has met a deadlock {MOST_DEADLOCKS} times"
        )))
    }

    fn drop_index(&mut self, index: &Index) -> Result<(), StoreError> {
        let named = "SELECT i.indexrelid::regclass::text AS line FROM pg_index i \
            JOIN pg_class c ON c.oid = i.indexrelid WHERE i.indrelid = to_regclass('";
        let sql = format!("{named}{}') AND c.relname = '{}'", index.table, index.name);
        for name in self.run_on_engine(|engine| load_lines(engine, &sql))? {
            let what = format!("dropping the index {name}");
            self.run_reporting(&format!("DROP INDEX CONCURRENTLY IF EXISTS {name}"), &what)
                .map_err(|error| self.engine.classify(&error))?;
        }
        Ok(())
    }

    /// Whether an index of that name is on its table, valid or not.
    fn exists(&mut self, index: &Index) -> Result<bool, StoreError> {
        let sql = format!(
            "SELECT count(*) AS id FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid \
             WHERE i.indrelid = to_regclass('{}') AND c.relname = '{}'",
            index.table, index.name
        );
        self.run_on_engine(|engine| IdRow::only(&engine.load_unprepared::<IdRow>(&sql)?))
            .map(|count| count > 0)
    }

    /// Whether a table occupies no page: it never had a row, or was vacuumed when it had none.
    fn is_empty(&mut self, table: &str) -> Result<bool, StoreError> {
        let sql = format!("SELECT pg_relation_size(to_regclass('{table}')) AS id");
        self.run_on_engine(|engine| IdRow::only(&engine.load_unprepared::<IdRow>(&sql)?))
            .map(|size| size == 0)
    }

    /// Runs a statement that blocks nobody, but may take long, and reports its progress.
    fn run_reporting(&mut self, statement: &str, what: &str) -> QueryResult<()> {
        let pids: Vec<IdRow> = self
            .engine
            .load("SELECT pg_backend_pid()::bigint AS id", None)?;
        let pid = IdRow::only(&pids)?;
        let (server, reporter) = (self.server, &mut self.reporter);
        let mut watcher = None;
        let mut lock_wait = LockWait::new();
        let done = run_watched(&mut self.engine, statement, &mut lock_wait, || {
            if watcher.is_none() {
                watcher = PostgresEngine::open(server).ok();
            }
            let progress = watcher.as_mut().map(|watcher| load_progress(watcher, pid));
            let note = match progress {
                Some(Ok(progress)) if !progress.is_empty() => format!("{what}: {progress}"),
                Some(Err(_)) => {
                    watcher = None;
                    what.to_owned()
                }
                _ => what.to_owned(),
            };
            reporter(MigrationProgress::Note(&note));
        });
        if let Some(time) = lock_wait.explained_for().filter(|_| done.is_ok()) {
            self.note(&format!("{what}: done after {} s", time.as_secs()));
        }
        done
    }
}

/// Why an index can't be built, and what to do.
fn build_error(server: &PostgresServer, index: &Index, error: &Error) -> String {
    let text = server.scrub(&error.to_string());
    match error {
        Error::DatabaseError(DatabaseErrorKind::UniqueViolation, about) => {
            index.duplicates(&about.details().map_or(text, |detail| server.scrub(detail)))
        }
        _ if text.contains("already exists") => format!(
            "the name of the index {name} is taken by something else in the schema of {}: rename that \
             (as ALTER INDEX {name} RENAME TO …), and migrate again: {text}",
            index.table,
            name = index.name
        ),
        _ => format!("the index {} can't be built: {text}", index.name),
    }
}

/// Whether the server's errors are in English; only a superuser may choose the language.
fn speaks_english(engine: &mut PostgresEngine) -> QueryResult<bool> {
    let language = load_report(engine, "SELECT current_setting('lc_messages') AS line")?;
    Ok(language.is_empty()
        || ["en", "C", "POSIX"]
            .iter()
            .any(|own| language.starts_with(own)))
}

/// The connections that hold the migrations' lock.
fn lock_holders(engine: &mut PostgresEngine) -> QueryResult<String> {
    load_report(
        engine,
        &format!(
            "SELECT {DESCRIBE_CONNECTION} AS line FROM pg_locks l JOIN pg_stat_activity a ON a.pid = l.pid \
             WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1 \
                 AND l.classid = {LOCK_KIND} AND l.objid = {SCHEMA} \
                 AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())"
        ),
    )
}

/// The connections that have locked the tables, the oldest transaction first.
fn table_holders(engine: &mut PostgresEngine) -> QueryResult<String> {
    load_report(
        engine,
        &format!(
            "SELECT {DESCRIBE_CONNECTION} AS line FROM pg_stat_activity a WHERE a.pid IN ( \
                 SELECT l.pid FROM pg_locks l WHERE l.locktype = 'relation' AND l.granted \
                     AND l.pid <> pg_backend_pid() AND l.relation IN ( \
                         to_regclass('carrot_messagelog'), to_regclass('carrot_scheduledtask'), \
                         to_regclass('carrot_worker'), to_regclass('__diesel_schema_migrations'))) \
             ORDER BY a.xact_start LIMIT 3"
        ),
    )
}

/// The progress of the statement of a connection, and whom it waits for.
fn load_progress(engine: &mut PostgresEngine, pid: i64) -> QueryResult<String> {
    // PostgreSQL 11 does not have this view.
    let progress = format!(
        "SELECT concat(p.phase, ' ' || CASE WHEN p.tuples_total > 0 \
                 THEN 100 * p.tuples_done / p.tuples_total \
                 WHEN p.blocks_total > 0 THEN 100 * p.blocks_done / p.blocks_total END || ' %') AS line \
         FROM pg_stat_progress_create_index p WHERE p.pid = {pid}"
    );
    let progress = load_report(engine, &progress).unwrap_or_default();
    let blockers = load_report(
        engine,
        &format!(
            "SELECT {DESCRIBE_CONNECTION} AS line FROM pg_stat_activity a WHERE a.pid = ANY(pg_blocking_pids({pid}))"
        ),
    )?;
    Ok(match (progress.as_str(), blockers.as_str()) {
        (_, "") => progress,
        ("", _) => format!("waits for {blockers}"),
        _ => format!("{progress}: waits for {blockers}"),
    })
}
