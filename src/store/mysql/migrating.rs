//! Making the tables so while others read and write them.
//!
//! A change of a table needs it alone for a moment, at its beginning and at its end; whoever asks for the
//! table meanwhile waits behind that. So each is a statement of its own, gives up after a second, the
//! shortest time that every server knows, and is tried again later.

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

/// Errors are read in English; see the connection's `lc_messages`.
const SET_UP: &str = "SET lock_wait_timeout = 1; /*M!100300 SET alter_algorithm = DEFAULT */";

/// How a column is added: as the first says unless the server refuses, and so on. The steps' statements end
/// in what this variable holds.
const COLUMNS: [&str; 3] = [", ALGORITHM=INSTANT", ", ALGORITHM=INPLACE, LOCK=NONE", ""];
const VARIABLE: &str = "@carrot_alter";

/// The same for an index that is dropped, and for one that is built.
const DROPPED: [&str; 3] = [", ALGORITHM=INPLACE, LOCK=NONE", ", ALGORITHM=INPLACE", ""];
const INDEXES: [&str; 3] = [" ALGORITHM=INPLACE LOCK=NONE", " ALGORITHM=INPLACE", ""];

/// So often an index is begun again that did not keep up with what was written meanwhile.
const MOST_OVERFLOWS: usize = 5;

/// A migration under way.
struct MysqlMigration<'a, 'b> {
    server: &'a MysqlServer,
    /// Holds the lock, which is the session's: it goes with the connection should we die half-way. (To sort
    /// an error opens another.)
    engine: MysqlEngine,
    tell: &'a mut MigrationReporter<'b>,
}

/// What a refused change is to do.
enum Refusal {
    /// Others have the table.
    Held,
    /// The server can't do it in this way.
    OtherWay,
    /// More was written meanwhile than the server could note.
    Overflow,
    Final,
}

fn refusal(error: &str) -> Refusal {
    let says = |words: &[&str]| words.iter().any(|word| error.contains(word));
    if says(&["Lock wait timeout", "Deadlock"]) {
        Refusal::Held
    } else if says(&["innodb_online_alter_log_max_size"]) {
        Refusal::Overflow
    } else if says(&["is not supported", "Unknown ALGORITHM"]) {
        Refusal::OtherWay
    } else {
        Refusal::Final
    }
}

pub(super) fn migrate(
    server: &MysqlServer,
    tables: Tables,
    tell: &mut MigrationReporter<'_>,
) -> Result<(), StoreError> {
    let engine = MysqlEngine::open(server)?;
    let mut migration = MysqlMigration {
        server,
        engine,
        tell,
    };
    migration.ask(|engine| engine.execute_unprepared(SET_UP))?;
    migration.take_lock()?;
    migration.ask(forget_lost_steps)?;
    migration.run_steps(tables)?;
    migration.build_indexes(tables)
}

impl MysqlMigration<'_, '_> {
    fn ask<T>(
        &mut self,
        work: impl FnOnce(&mut MysqlEngine) -> QueryResult<T>,
    ) -> Result<T, StoreError> {
        work(&mut self.engine).map_err(|error| self.engine.classify(&error))
    }

    fn note(&mut self, note: &str) {
        (self.tell)(MigrationProgress::Note(note));
    }

    fn take_lock(&mut self) -> Result<(), StoreError> {
        let mut patience = LockWait::new();
        let try_lock = format!("SELECT CAST(GET_LOCK({LOCK}, 1) AS SIGNED) AS id");
        loop {
            let locked = self.ask(|engine| IdRow::only(&engine.load::<IdRow>(&try_lock, None)?))?;
            if locked == 1 {
                failpoint::hit("migrate.locked");
                return Ok(());
            }
            if patience.must_explain() {
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
            self.change(&format!("step {version}"), COLUMNS, |migration, how| {
                let engine = &mut migration.engine;
                let set = format!("SET {VARIABLE} = '{how}'");
                engine
                    .execute_unprepared(&set)
                    .map_err(|error| engine.server.scrub(&error.to_string()))?;
                let run = engine.connection.run_migration(&*step);
                run.map(drop)
                    .map_err(|error| engine.server.scrub(&error.to_string()))
            })?;
            (self.tell)(MigrationProgress::Step(&version));
            failpoint::hit("migrate.step");
        }
        Ok(())
    }

    fn build_indexes(&mut self, tables: Tables) -> Result<(), StoreError> {
        for (index, fault) in self.ask(|engine| index_faults(engine, tables))? {
            failpoint::hit("migrate.index");
            self.build(index, &fault)?;
            (self.tell)(MigrationProgress::Index(index.name));
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
            self.change(&what, DROPPED, |migration, how| {
                migration.watch(
                    &format!("ALTER TABLE {table} DROP INDEX {name}{how}"),
                    &what,
                )
            })?;
        }
        let what = format!("building the index {name} of {table}");
        self.change(&what, INDEXES, |migration, how| {
            let built = migration.watch(&format!("{}{how}", index.create("")), &what);
            built.map_err(|error| match error.contains("Duplicate entry") {
                true => index.duplicates(&error),
                false => error,
            })
        })
    }

    /// Does what changes a table, in the first way that the server knows, and gives way to those who have it.
    fn change(
        &mut self,
        what: &str,
        ways: [&str; 3],
        mut work: impl FnMut(&mut Self, &str) -> Result<(), String>,
    ) -> Result<(), StoreError> {
        let mut ways = ways.into_iter().peekable();
        let mut patience = LockWait::new();
        let mut overflows = 0;
        while let Some(way) = ways.peek().copied() {
            let Err(error) = work(self, way) else {
                return Ok(());
            };
            if self.engine.execute_unprepared("DO 0").is_err() {
                return Err(StoreError::Unavailable(error));
            }
            match refusal(&error) {
                Refusal::Held => {
                    if patience.must_explain() {
                        let holders = holders(&mut self.engine);
                        self.note(&format!(
                            "{what} waits for the transactions that use the tables, and tries again: \
                             {holders}"
                        ));
                    }
                    patience.pause();
                }
                Refusal::Overflow if overflows < MOST_OVERFLOWS => {
                    overflows += 1;
                    self.note(&format!("{what} begins again: {error}"));
                }
                Refusal::OtherWay if !way.is_empty() => {
                    ways.next();
                    if ways.peek() == Some(&"") {
                        self.note(&format!(
                            "{what}: this table can't be changed beside others' writes, which wait \
                             meanwhile: {error}"
                        ));
                    }
                }
                _ => return Err(StoreError::Refused(error)),
            }
        }
        Ok(())
    }

    /// RunStore a statement that may take long, and says how far it is.
    fn watch(&mut self, statement: &str, what: &str) -> Result<(), String> {
        let ask_id = "SELECT CAST(CONNECTION_ID() AS SIGNED) AS id";
        let ids: QueryResult<Vec<IdRow>> = self.engine.load(ask_id, None);
        let id = ids
            .and_then(|ids| IdRow::only(&ids))
            .map_err(|error| self.server.scrub(&error.to_string()))?;
        let (server, tell) = (self.server, &mut self.tell);
        let mut watcher = None;
        let mut patience = LockWait::new();
        let done = run_watched(&mut self.engine, statement, &mut patience, || {
            if watcher.is_none() {
                watcher = MysqlEngine::open(server).ok();
            }
            let how_far = watcher.as_mut().map(|watcher| how_far(watcher, id));
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
        done.map_err(|error| self.server.scrub(&error.to_string()))
    }
}

/// Who holds the migrations' lock: at least the connection's number.
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

/// Who may have the tables, those first who have had them longest, as far as this user may know.
fn holders(engine: &mut MysqlEngine) -> String {
    let transactions = "SELECT CONCAT('connection ', p.id, ' (user ', p.user, ', from ', p.host, \
             ', in a transaction for ', TIMESTAMPDIFF(SECOND, t.trx_started, NOW()), ' s)') AS line \
         FROM information_schema.innodb_trx t \
         JOIN information_schema.processlist p ON p.id = t.trx_mysql_thread_id \
         WHERE p.db = DATABASE() AND p.id <> CONNECTION_ID() ORDER BY t.trx_started LIMIT 3";
    match load_report(engine, transactions) {
        Ok(found) if !found.is_empty() => found,
        Ok(_) => "one that is over by now, or of another database".to_owned(),
        Err(_) => "only who has the right PROCESS is told which".to_owned(),
    }
}

/// How far the statement of a connection is.
fn how_far(engine: &mut MysqlEngine, id: i64) -> QueryResult<String> {
    load_report(
        engine,
        &format!(
            "SELECT CONCAT(LOWER(COALESCE(state, '')), ' for ', time, ' s' \
                 /*M!100300 , IF(progress > 0, CONCAT(', ', ROUND(progress), ' %'), '') */) AS line \
             FROM information_schema.processlist WHERE id = {id}"
        ),
    )
}
