//! The state of the tables' migration, by diesel's record of it and by the tables themselves.

use diesel::backend::Backend;
use diesel::migration::{Migration, MigrationSource};
use diesel::prelude::*;
use diesel::result::Error;
use diesel::sql_types::Text;
use diesel_migrations::EmbeddedMigrations;

use super::engine::Engine;
use super::guards::joined;
use super::index_check;
use crate::store::Tables;

/// The columns of Django's tables that each migration step makes, in order. Each step after the first changes only one
/// table.
const STEP_COLUMNS: [&[&str]; 7] = [
    &["carrot_messagelog.uuid", "carrot_scheduledtask.task"],
    &[
        "carrot_messagelog.attempts",
        "carrot_messagelog.owner",
        "carrot_messagelog.suspect",
        "carrot_messagelog.due_time",
        "carrot_messagelog.adopted_uuid",
    ],
    // This step made an index, which exists as long as the table and so as long as this column.
    &["carrot_messagelog.attempts"],
    &[
        "carrot_scheduledtask.priority",
        "carrot_scheduledtask.cron",
        "carrot_scheduledtask.time_zone",
        "carrot_scheduledtask.missed",
        "carrot_scheduledtask.overlap",
        "carrot_scheduledtask.anchor",
        "carrot_scheduledtask.next_run",
        "carrot_scheduledtask.last_run",
        "carrot_scheduledtask.planned_for",
        "carrot_scheduledtask.refusal",
    ],
    &[
        "carrot_messagelog.schedule_id",
        "carrot_messagelog.planned_time",
    ],
    &["carrot_scheduledtask.unfinished_from"],
    &[
        "carrot_messagelog.put_off_since",
        "carrot_messagelog.put_off_reason",
    ],
];

/// The step that stands for the embedded broker's index.
const QUEUE_INDEX_STEP: &str = "20261123000003";

/// Our migration steps, as far as these tables need them.
pub(in crate::store) struct MigrationSteps(
    pub(in crate::store) EmbeddedMigrations,
    pub(in crate::store) Tables,
);

impl<DB: Backend> MigrationSource<DB> for MigrationSteps
where
    EmbeddedMigrations: MigrationSource<DB>,
{
    fn migrations(&self) -> diesel::migration::Result<Vec<Box<dyn Migration<DB>>>> {
        let mut steps = MigrationSource::<DB>::migrations(&self.0)?;
        steps.retain(|step| self.1.wants_step(&step.name().version().to_string()));
        Ok(steps)
    }
}

impl Tables {
    fn wants_step(self, version: &str) -> bool {
        match self {
            Self::Plain => version != QUEUE_INDEX_STEP,
            Self::WithQueues => true,
        }
    }
}

#[derive(QueryableByName)]
struct NameRow {
    #[diesel(sql_type = Text)]
    name: String,
}

/// Whether all wanted steps have run, and their columns and all wanted indexes exist. Only reads, since a service may
/// lack the right to create tables.
pub(super) fn is_up_to_date<E: Engine>(engine: &mut E, tables: Tables) -> QueryResult<bool>
where
    EmbeddedMigrations: MigrationSource<E::Backend>,
{
    if !has_migrations_table(engine)? {
        return Ok(false);
    }
    let run = "SELECT version AS name FROM __diesel_schema_migrations";
    let run: Vec<NameRow> = engine.load(run, None)?;
    let is_run = |version: &String| run.iter().any(|row| row.name == *version);
    let versions = versions::<E>()?;
    let mut wanted = versions.iter().filter(|version| tables.wants_step(version));
    Ok(wanted.all(is_run)
        && lost_steps(engine)?.is_empty()
        && index_check::index_faults(engine, tables)?.is_empty())
}

/// Deletes the records of steps whose columns are gone, so that these steps run again: Django has created a table
/// again, or it was restored from an older dump.
pub(in crate::store) fn forget_lost_steps<E: Engine>(engine: &mut E) -> QueryResult<()>
where
    EmbeddedMigrations: MigrationSource<E::Backend>,
{
    if !has_migrations_table(engine)? {
        return Ok(());
    }
    let lost = lost_steps(engine)?;
    if lost.is_empty() {
        return Ok(());
    }
    engine.execute_unprepared(&format!(
        "DELETE FROM __diesel_schema_migrations WHERE version IN ({})",
        joined(lost.iter().map(|version| format!("'{version}'")))
    ))
}

fn has_migrations_table<E: Engine>(engine: &mut E) -> QueryResult<bool> {
    let tables: Vec<NameRow> = engine.load(E::SELECT_MIGRATIONS_TABLE, None)?;
    Ok(!tables.is_empty())
}

/// The versions of the steps of whose columns at least one is missing.
fn lost_steps<E: Engine>(engine: &mut E) -> QueryResult<Vec<String>>
where
    EmbeddedMigrations: MigrationSource<E::Backend>,
{
    let columns: Vec<NameRow> = engine.load(E::SELECT_COLUMNS, None)?;
    let exists = |made: &&str| columns.iter().any(|column| column.name == **made);
    let steps = versions::<E>()?.into_iter().zip(STEP_COLUMNS);
    let lost = steps.filter(|(_, made)| !made.iter().all(exists));
    Ok(lost.map(|(version, _)| version).collect())
}

/// The versions of our steps, in order.
fn versions<E: Engine>() -> QueryResult<Vec<String>>
where
    EmbeddedMigrations: MigrationSource<E::Backend>,
{
    let steps = MigrationSource::<E::Backend>::migrations(&E::MIGRATIONS)
        .map_err(Error::QueryBuilderError)?;
    let versions = steps.iter().map(|step| step.name().version().to_string());
    let mut versions: Vec<_> = versions.collect();
    versions.sort();
    Ok(versions)
}

#[cfg(test)]
mod tests;
