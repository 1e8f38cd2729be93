//! Migrating the tables. A file has one writer: other writers wait for as long as one of the migration's transactions
//! takes, the longest of which builds one index. Readers do not wait.

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

/// Begins a writing transaction, and waits up to a second for another process that writes.
const BEGIN: &str = "PRAGMA busy_timeout = 1000; BEGIN IMMEDIATE";

/// With up to so many messages, all indexes are built in one transaction, which takes some hundredths of a second.
const FEW_MESSAGES: i64 = 10_000;

/// The work that a transaction has done.
#[derive(Default)]
struct MigrationWork {
    steps: Vec<String>,
    indexes: Vec<(&'static Index, IndexFault)>,
}

pub(super) fn migrate(
    file: &SqliteFile,
    tables: Tables,
    reporter: &mut MigrationReporter<'_>,
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
    let done = retry_while_locked(&mut engine, reporter, work)?;
    report(&done, reporter);
    let rest = index_faults(&mut engine, tables).map_err(|error| engine.classify(&error))?;
    for (index, _) in rest {
        failpoint::hit("migrate.index");
        let work = |engine: &mut SqliteEngine| {
            let mut done = MigrationWork::default();
            // Another process may have built it by now.
            let index_faults = index_faults(engine, tables)?.into_iter();
            for (index, fault) in index_faults.filter(|(faulty, _)| faulty.name == index.name) {
                build(engine, index, &fault)?;
                done.indexes.push((index, fault));
            }
            Ok(done)
        };
        let done = retry_while_locked(&mut engine, reporter, work)?;
        report(&done, reporter);
    }
    Ok(())
}

fn report(done: &MigrationWork, reporter: &mut MigrationReporter<'_>) {
    for step in &done.steps {
        reporter(MigrationProgress::Step(step));
    }
    for (Index { name, .. }, fault) in &done.indexes {
        if let Some(reason) = fault.reason() {
            reporter(MigrationProgress::Note(&format!(
                "the index {name} {reason}: it was dropped and built again"
            )));
        }
        reporter(MigrationProgress::Index(name));
    }
}

/// Runs diesel's steps and records them as diesel does. Diesel itself would begin a transaction for each.
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
    Ok(IdRow::only(&engine.load_unprepared::<IdRow>(last)?)? <= FEW_MESSAGES)
}

fn build(engine: &mut SqliteEngine, index: &Index, fault: &IndexFault) -> QueryResult<()> {
    if *fault != IndexFault::Missing {
        engine.execute_unprepared(&format!("DROP INDEX {}", index.name))?;
    }
    let built = engine.execute_unprepared(&index.create(""));
    built.map_err(|error| build_error(index, error))
}

/// Why an index can't be built, and what to do.
fn build_error(index: &Index, error: Error) -> Error {
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

/// Runs a transaction as soon as no other process writes to the file.
fn retry_while_locked(
    engine: &mut SqliteEngine,
    reporter: &mut MigrationReporter<'_>,
    work: impl Fn(&mut SqliteEngine) -> QueryResult<MigrationWork>,
) -> Result<MigrationWork, StoreError> {
    let turns = Arc::clone(&engine.turns);
    let mut lock_wait = LockWait::new();
    loop {
        let turn = turns.take();
        let done = in_transaction(engine, |engine| engine.execute_unprepared(BEGIN), &work);
        drop(turn);
        match done {
            Err(error) if is_locked(&error) => {
                if lock_wait.must_explain() {
                    reporter(MigrationProgress::Note(
                        "waits for another process that writes to the file",
                    ));
                }
                lock_wait.pause();
            }
            done => return done.map_err(|error| engine.classify(&error)),
        }
    }
}
