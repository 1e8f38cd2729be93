//! Making the tables so while others read and write them.
//!
//! Nobody waits for a migration longer than [`LOCK_WAIT`]: whoever asks for a table after somebody who waits
//! for it waits behind that one, so that a step which does not get its table within that time gives up, and
//! tries again later. Indexes are built CONCURRENTLY, which locks nobody out, but waits for every transaction
//! that has a snapshot of before; so that who waits here must have none, and asks for the migrations' lock
//! again and again.

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

/// The advisory lock that migrations of a schema hold: "carm" in ASCII, and the schema's identity. Those of
/// other schemas in the database wait for nothing of ours.
const LOCK_KIND: i64 = 0x6361_726d;
const SCHEMA: &str = "CAST(coalesce((SELECT oid FROM pg_namespace \
    WHERE nspname = current_schema()), 0) AS bigint)";

/// So long a step waits for a table, and with it those who want that after it.
const LOCK_WAIT: Duration = Duration::from_millis(200);

/// So often an index is begun again that was in another's way, or another in its.
const MOST_DEADLOCKS: usize = 10;

/// What a migration was at that has died ends soon, and its lock with it.
const NOTICE_DEATH: &str = "SELECT set_config(name, '1s', false) FROM pg_settings \
    WHERE name = 'client_connection_check_interval'";

/// Who somebody is, of `pg_stat_activity a`.
const WHO: &str = "concat('pid ', a.pid, ' (', concat_ws(', ', NULLIF(a.application_name, ''), \
        'user ' || a.usename, 'from ' || host(a.client_addr), NULLIF(a.state, ''), \
        'in a transaction for ' || round(extract(epoch FROM now() - a.xact_start)) || ' s'), ')')";

/// A migration under way.
struct PostgresMigration<'a, 'b> {
    server: &'a PostgresServer,
    /// Holds the lock, which is the session's: it goes with the connection should we die half-way.
    engine: PostgresEngine,
    tell: &'a mut MigrationReporter<'b>,
}

pub(super) fn migrate(
    server: &PostgresServer,
    tables: Tables,
    tell: &mut MigrationReporter<'_>,
) -> Result<(), StoreError> {
    let engine = PostgresEngine::open(server)?;
    let mut migration = PostgresMigration {
        server,
        engine,
        tell,
    };
    // Not every server knows it.
    if let Err(error) = migration.engine.execute_unprepared(NOTICE_DEATH) {
        log::debug!("a migration that dies is noticed late: {error}");
    }
    migration.take_lock()?;
    if let Some(obstacle) = migration.ask(|engine| rights::obstacle(&mut engine.connection))? {
        return Err(StoreError::Refused(obstacle));
    }
    migration.ask(forget_lost_steps)?;
    migration.run_steps(tables)?;
    migration.build_indexes(tables)
}

impl PostgresMigration<'_, '_> {
    fn ask<T>(
        &mut self,
        work: impl FnOnce(&mut PostgresEngine) -> QueryResult<T>,
    ) -> Result<T, StoreError> {
        work(&mut self.engine).map_err(|error| self.engine.classify(&error))
    }

    fn note(&mut self, note: &str) {
        (self.tell)(MigrationProgress::Note(note));
    }

    fn take_lock(&mut self) -> Result<(), StoreError> {
        let mut patience = LockWait::new();
        let try_lock = format!(
            "SELECT pg_try_advisory_lock({} + {SCHEMA})::int::bigint AS id",
            LOCK_KIND << 32
        );
        loop {
            let locked = self.ask(|engine| IdRow::only(&engine.load::<IdRow>(&try_lock, None)?))?;
            if locked == 1 {
                failpoint::hit("migrate.locked");
                return Ok(());
            }
            if patience.must_explain() {
                let holders = self.ask(lock_holders)?;
                self.note(&format!("waits for the migration of {holders}"));
            }
            patience.pause();
        }
    }

    /// RunStore diesel's steps, each in a transaction of its own.
    fn run_steps(&mut self, tables: Tables) -> Result<(), StoreError> {
        let steps = (self.engine.connection)
            .pending_migrations(MigrationSteps(PostgresEngine::MIGRATIONS, tables))
            .map_err(|error| StoreError::Refused(self.server.scrub(&error.to_string())))?;
        for step in steps {
            let version = step.name().version().to_string();
            self.with_short_waits(&format!("step {version}"), |engine| {
                let run = engine.connection.run_migration(&*step).map(drop);
                run.map_err(|error| engine.server.scrub(&error.to_string()))
            })?;
            (self.tell)(MigrationProgress::Step(&version));
            failpoint::hit("migrate.step");
        }
        Ok(())
    }

    /// Does what locks a table, and gives way to those who have it.
    fn with_short_waits(
        &mut self,
        what: &str,
        mut work: impl FnMut(&mut PostgresEngine) -> Result<(), String>,
    ) -> Result<(), StoreError> {
        let short = format!("SET lock_timeout = {}", LOCK_WAIT.as_millis());
        self.ask(|engine| engine.execute_unprepared(&short))?;
        let mut patience = LockWait::new();
        loop {
            let began = Instant::now();
            let Err(error) = work(&mut self.engine) else {
                break;
            };
            if self.engine.execute_unprepared("SELECT 1").is_err() {
                return Err(StoreError::Unavailable(error));
            }
            let holders = self.ask(table_holders)?;
            let is_held = match self.ask(speaks_english)? {
                true => error.contains("lock timeout") || error.contains("deadlock"),
                false => began.elapsed() >= LOCK_WAIT && !holders.is_empty(),
            };
            if !is_held {
                return Err(StoreError::Refused(error));
            }
            if patience.must_explain() {
                self.note(&format!(
                    "{what} waits for the transactions that use the tables, and tries again: {}",
                    if holders.is_empty() { error } else { holders }
                ));
            }
            patience.pause();
        }
        self.ask(|engine| engine.execute_unprepared("SET lock_timeout = 0"))
    }

    fn build_indexes(&mut self, tables: Tables) -> Result<(), StoreError> {
        for (index, fault) in self.ask(|engine| index_faults(engine, tables))? {
            failpoint::hit("migrate.index");
            self.build(index, &fault)?;
            (self.tell)(MigrationProgress::Index(index.name));
        }
        // What else is in the way of it is there still.
        match self.ask(|engine| index_faults(engine, tables))?.first() {
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
            // Nobody has any rows of it to wait for, nor need it wait for anybody's snapshot.
            return self.with_short_waits(&format!("the index {}", index.name), |engine| {
                let built = engine.execute_unprepared(&index.create(""));
                built.map_err(|error| refusal(&engine.server, index, &error))
            });
        }
        let what = format!("building the index {} of {}", index.name, index.table);
        for _ in 0..MOST_DEADLOCKS {
            let Err(error) = self.watch(&index.create("CONCURRENTLY "), &what) else {
                return Ok(());
            };
            if self.engine.execute_unprepared("SELECT 1").is_err() {
                return Err(StoreError::Unavailable(
                    self.server.scrub(&error.to_string()),
                ));
            }
            // It is there all the same, and a unique one refuses rows.
            if self.is_there(index)? {
                self.drop_index(index)?;
            }
            if !error.to_string().contains("deadlock") {
                return Err(StoreError::Refused(refusal(self.server, index, &error)));
            }
            self.note(&format!("{what} met another's lock, and begins again"));
        }
        Err(StoreError::Conflict(format!(
            "{what} has met another's lock {MOST_DEADLOCKS} times"
        )))
    }

    fn drop_index(&mut self, index: &Index) -> Result<(), StoreError> {
        let named = "SELECT i.indexrelid::regclass::text AS line FROM pg_index i \
            JOIN pg_class c ON c.oid = i.indexrelid WHERE i.indrelid = to_regclass('";
        let sql = format!("{named}{}') AND c.relname = '{}'", index.table, index.name);
        for name in self.ask(|engine| load_lines(engine, &sql))? {
            let what = format!("dropping the index {name}");
            self.watch(&format!("DROP INDEX CONCURRENTLY IF EXISTS {name}"), &what)
                .map_err(|error| self.engine.classify(&error))?;
        }
        Ok(())
    }

    /// Whether an index of that name is on its table, such as it is.
    fn is_there(&mut self, index: &Index) -> Result<bool, StoreError> {
        let sql = format!(
            "SELECT count(*) AS id FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid \
             WHERE i.indrelid = to_regclass('{}') AND c.relname = '{}'",
            index.table, index.name
        );
        self.ask(|engine| IdRow::only(&engine.load_unprepared::<IdRow>(&sql)?))
            .map(|count| count > 0)
    }

    /// Whether a table never had a row, or was vacuumed when it had none.
    fn is_empty(&mut self, table: &str) -> Result<bool, StoreError> {
        let sql = format!("SELECT pg_relation_size(to_regclass('{table}')) AS id");
        self.ask(|engine| IdRow::only(&engine.load_unprepared::<IdRow>(&sql)?))
            .map(|size| size == 0)
    }

    /// RunStore a statement that locks nobody out, but may take long, and says how far it is.
    fn watch(&mut self, statement: &str, what: &str) -> QueryResult<()> {
        let pids: Vec<IdRow> = self
            .engine
            .load("SELECT pg_backend_pid()::bigint AS id", None)?;
        let pid = IdRow::only(&pids)?;
        let (server, tell) = (self.server, &mut self.tell);
        let mut watcher = None;
        let mut patience = LockWait::new();
        let done = run_watched(&mut self.engine, statement, &mut patience, || {
            if watcher.is_none() {
                watcher = PostgresEngine::open(server).ok();
            }
            let how_far = watcher.as_mut().map(|watcher| how_far(watcher, pid));
            let note = match how_far {
                Some(Ok(how_far)) if !how_far.is_empty() => format!("{what}: {how_far}"),
                Some(Err(_)) => {
                    watcher = None;
                    what.to_owned()
                }
                _ => what.to_owned(),
            };
            tell(MigrationProgress::Note(&note));
        });
        if let Some(time) = patience.explained_for().filter(|_| done.is_ok()) {
            self.note(&format!("{what}: done after {} s", time.as_secs()));
        }
        done
    }
}

/// Why an index can't be built, and what to do.
fn refusal(server: &PostgresServer, index: &Index, error: &Error) -> String {
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

/// Whether what an error says can be read here; only a superuser may choose the language.
fn speaks_english(engine: &mut PostgresEngine) -> QueryResult<bool> {
    let language = load_report(engine, "SELECT current_setting('lc_messages') AS line")?;
    Ok(language.is_empty()
        || ["en", "C", "POSIX"]
            .iter()
            .any(|own| language.starts_with(own)))
}

/// Who holds the migrations' lock.
fn lock_holders(engine: &mut PostgresEngine) -> QueryResult<String> {
    load_report(
        engine,
        &format!(
            "SELECT {WHO} AS line FROM pg_locks l JOIN pg_stat_activity a ON a.pid = l.pid \
             WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1 \
                 AND l.classid = {LOCK_KIND} AND l.objid = {SCHEMA} \
                 AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())"
        ),
    )
}

/// Who has locked our tables, those first who have had them longest.
fn table_holders(engine: &mut PostgresEngine) -> QueryResult<String> {
    load_report(
        engine,
        &format!(
            "SELECT {WHO} AS line FROM pg_stat_activity a WHERE a.pid IN ( \
                 SELECT l.pid FROM pg_locks l WHERE l.locktype = 'relation' AND l.granted \
                     AND l.pid <> pg_backend_pid() AND l.relation IN ( \
                         to_regclass('carrot_messagelog'), to_regclass('carrot_scheduledtask'), \
                         to_regclass('carrot_worker'), to_regclass('__diesel_schema_migrations'))) \
             ORDER BY a.xact_start LIMIT 3"
        ),
    )
}

/// How far the statement of a connection is, and whom it waits for.
fn how_far(engine: &mut PostgresEngine, pid: i64) -> QueryResult<String> {
    // PostgreSQL 11 does not tell.
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
            "SELECT {WHO} AS line FROM pg_stat_activity a WHERE a.pid = ANY(pg_blocking_pids({pid}))"
        ),
    )?;
    Ok(match (progress.as_str(), blockers.as_str()) {
        (_, "") => progress,
        ("", _) => format!("waits for {blockers}"),
        _ => format!("{progress}: waits for {blockers}"),
    })
}
