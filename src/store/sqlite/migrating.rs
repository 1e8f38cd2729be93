//! Making the tables so. A file has one writer: the others wait as long as one of the migration's transactions
//! takes, the longest of which builds one index; who reads waits for nothing.

use std::sync::Arc;

use diesel::prelude::*;
use diesel::result::Error;
use diesel_migrations::MigrationHarness;

use super::engine::{SqliteEngine, is_locked};
use super::file::SqliteFile;
use crate::failpoint;
use crate::store::sql::{
    Engine, IdRow, Index, IndexFault, LockWait, MigrationSteps, forget_lost_steps, in_transaction,
    index_faults,
};
use crate::store::{MigrationProgress, MigrationReporter, StoreError, Tables};

/// Waits for a second for another process that writes.
const BEGIN: &str = "PRAGMA busy_timeout = 1000; BEGIN IMMEDIATE";

/// Up to so many messages, all indexes are built within some hundredths of a second, in one transaction.
const FEW: i64 = 10_000;

/// What a transaction has done.
#[derive(Default)]
struct MigrationWork {
    steps: Vec<String>,
    indexes: Vec<(&'static Index, IndexFault)>,
}

pub(super) fn migrate(
    file: &SqliteFile,
    tables: Tables,
    tell: &mut MigrationReporter<'_>,
) -> Result<(), StoreError> {
    let mut engine = SqliteEngine::open(file)?;
    let work = |engine: &mut SqliteEngine| {
        let mut done = MigrationWork {
            steps: run_steps(engine, tables)?,
            ..MigrationWork::default()
        };
        if has_few_messages(engine)? {
            for (index, fault) in index_faults(engine, tables)? {
                build(engine, index, &fault)?;
                done.indexes.push((index, fault));
            }
        }
        Ok(done)
    };
    let done = when_free(&mut engine, tell, work)?;
    told(&done, tell);
    let rest = index_faults(&mut engine, tables).map_err(|error| engine.classify(&error))?;
    for (index, _) in rest {
        failpoint::hit("migrate.index");
        let work = |engine: &mut SqliteEngine| {
            let mut done = MigrationWork::default();
            // Nobody else has built it by now?
            let index_faults = index_faults(engine, tables)?.into_iter();
            for (index, fault) in index_faults.filter(|(faulty, _)| faulty.name == index.name) {
                build(engine, index, &fault)?;
                done.indexes.push((index, fault));
            }
            Ok(done)
        };
        let done = when_free(&mut engine, tell, work)?;
        told(&done, tell);
    }
    Ok(())
}

fn told(done: &MigrationWork, tell: &mut MigrationReporter<'_>) {
    for step in &done.steps {
        tell(MigrationProgress::Step(step));
    }
    for (Index { name, .. }, fault) in &done.indexes {
        if let Some(reason) = fault.reason() {
            tell(MigrationProgress::Note(&format!(
                "the index {name} {reason}: it was dropped and built again"
            )));
        }
        tell(MigrationProgress::Index(name));
    }
}

/// RunStore diesel's steps and notes them as diesel does, which would begin a transaction of its own.
fn run_steps(engine: &mut SqliteEngine, tables: Tables) -> QueryResult<Vec<String>> {
    forget_lost_steps(engine)?;
    let steps = (engine.connection)
        .pending_migrations(MigrationSteps(SqliteEngine::MIGRATIONS, tables))
        .map_err(Error::QueryBuilderError)?;
    let run = |step: Box<dyn diesel::migration::Migration<_>>| {
        let version = step.name().version().to_string();
        step.run(&mut engine.connection)
            .map_err(Error::QueryBuilderError)?;
        let note = "INSERT INTO __diesel_schema_migrations (version) VALUES";
        engine.execute_unprepared(&format!("{note} ('{version}')"))?;
        failpoint::hit("migrate.step");
        Ok(version)
    };
    steps.into_iter().map(run).collect()
}

fn has_few_messages(engine: &mut SqliteEngine) -> QueryResult<bool> {
    let last = "SELECT COALESCE(max(id), 0) AS id FROM carrot_messagelog";
    Ok(IdRow::only(&engine.load_unprepared::<IdRow>(last)?)? <= FEW)
}

fn build(engine: &mut SqliteEngine, index: &Index, fault: &IndexFault) -> QueryResult<()> {
    if *fault != IndexFault::Missing {
        engine.execute_unprepared(&format!("DROP INDEX {}", index.name))?;
    }
    let built = engine.execute_unprepared(&index.create(""));
    built.map_err(|error| refusal(index, error))
}

/// Why an index can't be built, and what to do.
fn refusal(index: &Index, error: Error) -> Error {
    let text = error.to_string();
    let explained = if text.contains("UNIQUE constraint failed") {
        index.duplicates(&text)
    } else if text.contains("already exists") {
        format!(
            "the name of the index {} is taken by another table's: drop that, and migrate again: {text}",
            index.name
        )
    } else {
        return error;
    };
    match error {
        Error::DatabaseError(kind, _) => Error::DatabaseError(kind, Box::new(explained)),
        _ => Error::QueryBuilderError(explained.into()),
    }
}

/// RunStore a transaction when nobody else writes to the file.
fn when_free(
    engine: &mut SqliteEngine,
    tell: &mut MigrationReporter<'_>,
    work: impl Fn(&mut SqliteEngine) -> QueryResult<MigrationWork>,
) -> Result<MigrationWork, StoreError> {
    let turns = Arc::clone(&engine.turns);
    let mut patience = LockWait::new();
    loop {
        let turn = turns.take();
        let done = in_transaction(engine, |engine| engine.execute_unprepared(BEGIN), &work);
        drop(turn);
        match done {
            Err(error) if is_locked(&error) => {
                if patience.must_explain() {
                    tell(MigrationProgress::Note(
                        "waits for another process that writes to the file",
                    ));
                }
                patience.pause();
            }
            done => return done.map_err(|error| engine.classify(&error)),
        }
    }
}
