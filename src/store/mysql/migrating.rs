//! Migrating the tables while other connections read and write them.
//!
//! A change of a table needs an exclusive lock for a moment, at its beginning and at its end, and everybody who asks
//! for the table meanwhile waits behind it. So each change is a statement of its own, waits at most a second for its
//! lock (the shortest time that every server supports), and is retried later.

use diesel::prelude::*;
use diesel_migrations::MigrationHarness;

use super::engine::MysqlEngine;
use super::server::MysqlServer;
use crate::failpoint;
use crate::store::report_lines::load_report;
use crate::store::sql::{
    Engine, IdRow, Index, IndexFault, LockWait, MigrationSteps, forget_lost_steps, index_faults,
    run_watched,
};
use crate::store::{MigrationProgress, MigrationReporter, StoreError, Tables};

/// The lock that migrations hold.
const LOCK: &str = "CONCAT('carrot-actors ', MD5(DATABASE()))";

/// Errors are in English because of the connection's `lc_messages`.
const SET_UP: &str = "SET lock_wait_timeout = 1; /*M!100300 SET alter_algorithm = DEFAULT */";

/// The algorithms for adding a column: each is tried if the server does not support the one before.
const ADD_COLUMN: [&str; 3] = [", ALGORITHM=INSTANT", ", ALGORITHM=INPLACE, LOCK=NONE", ""];

/// The steps' statements append the value of this variable.
const ALGORITHM_VARIABLE: &str = "@carrot_alter";

/// The algorithms for dropping an index.
const DROP_INDEX: [&str; 3] = [", ALGORITHM=INPLACE, LOCK=NONE", ", ALGORITHM=INPLACE", ""];

/// The algorithms for building an index.
const BUILD_INDEX: [&str; 3] = [" ALGORITHM=INPLACE LOCK=NONE", " ALGORITHM=INPLACE", ""];

/// How often a build is restarted because more was written meanwhile than the server could log.
const MOST_OVERFLOWS: usize = 5;

/// A running migration.
struct MysqlMigration<'a, 'b> {
    server: &'a MysqlServer,
    /// Its session holds the migrations' lock, which ends with the connection if this process dies. (Classifying an
    /// error opens another session.)
    engine: MysqlEngine,
    reporter: &'a mut MigrationReporter<'b>,
}

/// Why a change of a table failed.
enum AlterFailure {
    /// Other transactions have locked the table: retry.
    Locked,
    /// The server does not support the algorithm: try the next one.
    UnsupportedAlgorithm,
    /// More was written meanwhile than the server could log: start again.
    LogOverflow,
    /// Anything else: give up.
    Permanent,
}

fn classify_failure(error: &str) -> AlterFailure {
    let says = |words: &[&str]| words.iter().any(|word| error.contains(word));
    if says(&["Lock wait timeout", "Deadlock"]) {
        AlterFailure::Locked
    } else if says(&["innodb_online_alter_log_max_size"]) {
        AlterFailure::LogOverflow
    } else if says(&["is not supported", "Unknown ALGORITHM"]) {
        AlterFailure::UnsupportedAlgorithm
    } else {
        AlterFailure::Permanent
    }
}

pub(super) fn migrate(
    server: &MysqlServer,
    tables: Tables,
    reporter: &mut MigrationReporter<'_>,
) -> Result<(), StoreError> {
    let engine = MysqlEngine::open(server)?;
    let mut migration = MysqlMigration {
        server,
        engine,
        reporter,
    };
    migration.run_on_engine(|engine| engine.execute_unprepared(SET_UP))?;
    migration.take_lock()?;
    migration.run_on_engine(forget_lost_steps)?;
    migration.run_steps(tables)?;
    migration.build_indexes(tables)
}

impl MysqlMigration<'_, '_> {
    fn run_on_engine<T>(
        &mut self,
        work: impl FnOnce(&mut MysqlEngine) -> QueryResult<T>,
    ) -> Result<T, StoreError> {
        work(&mut self.engine).map_err(|error| self.engine.classify(&error))
    }

    fn note(&mut self, note: &str) {
        (self.reporter)(MigrationProgress::Note(note));
    }

    fn take_lock(&mut self) -> Result<(), StoreError> {
        let mut lock_wait = LockWait::new();
        let try_lock = format!("SELECT CAST(GET_LOCK({LOCK}, 1) AS SIGNED) AS id");
        loop {
            let locked =
                self.run_on_engine(|engine| IdRow::only(&engine.load::<IdRow>(&try_lock, None)?))?;
            if locked == 1 {
                failpoint::hit("migrate.locked");
                return Ok(());
            }
            if lock_wait.must_explain() {
                let holder = lock_holder(&mut self.engine).unwrap_or_default();
                self.note(&format!("waits for the migration of {holder}"));
            }
        }
    }

    fn run_steps(&mut self, tables: Tables) -> Result<(), StoreError> {
        let steps = (self.engine.connection)
            .pending_migrations(MigrationSteps(MysqlEngine::MIGRATIONS, tables))
            .map_err(|error| StoreError::Refused(self.server.scrub(&error.to_string())))?;
        for step in steps {
            let version = step.name().version().to_string();
            self.change(
                &format!("step {version}"),
                ADD_COLUMN,
                |migration, algorithm| {
                    let engine = &mut migration.engine;
                    let set = format!("SET {ALGORITHM_VARIABLE} = '{algorithm}'");
                    engine
                        .execute_unprepared(&set)
                        .map_err(|error| engine.server.scrub(&error.to_string()))?;
                    let run = engine.connection.run_migration(&*step);
                    run.map(drop)
                        .map_err(|error| engine.server.scrub(&error.to_string()))
                },
            )?;
            (self.reporter)(MigrationProgress::Step(&version));
            failpoint::hit("migrate.step");
        }
        Ok(())
    }

    fn build_indexes(&mut self, tables: Tables) -> Result<(), StoreError> {
        for (index, fault) in self.run_on_engine(|engine| index_faults(engine, tables))? {
            failpoint::hit("migrate.index");
            self.build(index, &fault)?;
            (self.reporter)(MigrationProgress::Index(index.name));
        }
        Ok(())
    }

    fn build(&mut self, index: &Index, fault: &IndexFault) -> Result<(), StoreError> {
        let (name, table) = (index.name, index.table);
        if let Some(reason) = fault.reason() {
            self.note(&format!(
                "the index {name} {reason}: it is dropped and built again"
            ));
            let what = format!("dropping the index {name} of {table}");
            self.change(&what, DROP_INDEX, |migration, algorithm| {
                migration.run_reporting(
                    &format!("ALTER TABLE {table} DROP INDEX {name}{algorithm}"),
                    &what,
                )
            })?;
        }
        let what = format!("building the index {name} of {table}");
        self.change(&what, BUILD_INDEX, |migration, algorithm| {
            let built = migration.run_reporting(&format!("{}{algorithm}", index.create("")), &what);
            built.map_err(|error| match error.contains("Duplicate entry") {
                true => index.duplicates(&error),
                false => error,
            })
        })
    }

    /// Changes a table with the first algorithm that the server supports, and retries while other transactions have
    /// locked it.
    fn change(
        &mut self,
        what: &str,
        algorithms: [&str; 3],
        mut work: impl FnMut(&mut Self, &str) -> Result<(), String>,
    ) -> Result<(), StoreError> {
        let mut algorithms = algorithms.into_iter().peekable();
        let mut lock_wait = LockWait::new();
        let mut overflows = 0;
        while let Some(algorithm) = algorithms.peek().copied() {
            let Err(error) = work(self, algorithm) else {
                return Ok(());
            };
            if self.engine.execute_unprepared("DO 0").is_err() {
                return Err(StoreError::Unavailable(error));
            }
            match classify_failure(&error) {
                AlterFailure::Locked => {
                    if lock_wait.must_explain() {
                        let holders = holders(&mut self.engine);
                        self.note(&format!(
                            "{what} waits for the transactions that use the tables, and tries again: \
                             {holders}"
                        ));
                    }
                    lock_wait.pause();
                }
                AlterFailure::LogOverflow if overflows < MOST_OVERFLOWS => {
                    overflows += 1;
                    self.note(&format!("{what} begins again: {error}"));
                }
                AlterFailure::UnsupportedAlgorithm if !algorithm.is_empty() => {
                    algorithms.next();
                    if algorithms.peek() == Some(&"") {
                        self.note(&format!(
                            "{what}: this table can't be changed while others write to it, so they \
                             wait meanwhile: {error}"
                        ));
                    }
                }
                _ => return Err(StoreError::Refused(error)),
            }
        }
        Ok(())
    }

    /// Runs a statement that may take long, and reports its progress.
    fn run_reporting(&mut self, statement: &str, what: &str) -> Result<(), String> {
        let ask_id = "SELECT CAST(CONNECTION_ID() AS SIGNED) AS id";
        let ids: QueryResult<Vec<IdRow>> = self.engine.load(ask_id, None);
        let id = ids
            .and_then(|ids| IdRow::only(&ids))
            .map_err(|error| self.server.scrub(&error.to_string()))?;
        let (server, reporter) = (self.server, &mut self.reporter);
        let mut watcher = None;
        let mut lock_wait = LockWait::new();
        let done = run_watched(&mut self.engine, statement, &mut lock_wait, || {
            if watcher.is_none() {
                watcher = MysqlEngine::open(server).ok();
            }
            let progress = watcher.as_mut().map(|watcher| load_progress(watcher, id));
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
        done.map_err(|error| self.server.scrub(&error.to_string()))
    }
}

/// The connection that holds the migrations' lock.
fn lock_holder(engine: &mut MysqlEngine) -> QueryResult<String> {
    load_report(
        engine,
        &format!(
            "SELECT CONCAT('connection ', used.id, COALESCE(CONCAT(' (user ', p.user, ', from ', p.host, \
                 ', ', LOWER(p.command), ' for ', p.time, ' s)'), '')) AS line \
             FROM (SELECT IS_USED_LOCK({LOCK}) AS id) used \
             LEFT JOIN information_schema.processlist p ON p.id = used.id WHERE used.id IS NOT NULL"
        ),
    )
}

/// The transactions that may have locked the tables, the oldest first, as far as this user may see them.
fn holders(engine: &mut MysqlEngine) -> String {
    let transactions = "SELECT CONCAT('connection ', p.id, ' (user ', p.user, ', from ', p.host, \
             ', in a transaction for ', TIMESTAMPDIFF(SECOND, t.trx_started, NOW()), ' s)') AS line \
         FROM information_schema.innodb_trx t \
         JOIN information_schema.processlist p ON p.id = t.trx_mysql_thread_id \
         WHERE p.db = DATABASE() AND p.id <> CONNECTION_ID() ORDER BY t.trx_started LIMIT 3";
    match load_report(engine, transactions) {
        Ok(found) if !found.is_empty() => found,
        Ok(_) => "one that has ended by now, or is in another database".to_owned(),
        Err(_) => "only a user with the right PROCESS can see which".to_owned(),
    }
}

/// The progress of the statement of a connection.
fn load_progress(engine: &mut MysqlEngine, id: i64) -> QueryResult<String> {
    load_report(
        engine,
        &format!(
            "SELECT CONCAT(LOWER(COALESCE(state, '')), ' for ', time, ' s' \
                 /*M!100300 , IF(progress > 0, CONCAT(', ', ROUND(progress), ' %'), '') */) AS line \
             FROM information_schema.processlist WHERE id = {id}"
        ),
    )
}
