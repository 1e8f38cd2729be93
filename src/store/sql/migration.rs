//! What is known of the tables' migration: diesel's notes of it, and the tables themselves.

use diesel::migration::MigrationSource;
use diesel::prelude::*;
use diesel::result::Error;
use diesel::sql_types::Text;
use diesel_migrations::EmbeddedMigrations;

use super::engine::Engine;
use super::guards::joined;

/// What we add to Django's messages.
const OURS: [&str; 5] = ["attempts", "owner", "suspect", "due_time", "adopted_uuid"];

#[derive(QueryableByName)]
struct Name {
    #[diesel(sql_type = Text)]
    name: String,
}

/// Whether all steps were run, and what they made is there. By reading alone: a service need not have
/// the right to create tables.
pub(super) fn is_done<E: Engine>(engine: &mut E) -> QueryResult<bool>
where
    EmbeddedMigrations: MigrationSource<E::Backend>,
{
    if !has_notes(engine)? {
        return Ok(false);
    }
    let run = "SELECT version AS name FROM __diesel_schema_migrations";
    let run: Vec<Name> = engine.load(run, None)?;
    let is_run = |version: &String| run.iter().any(|row| row.name == *version);
    Ok(versions::<E>()?.iter().all(is_run) && has_columns(engine)?)
}

/// Forgets that our steps were run if nothing is left of them, so that they are run again: Django has
/// made its tables anew, or they come from a dump of before.
pub(in crate::store) fn forget_lost_steps<E: Engine>(engine: &mut E) -> QueryResult<()>
where
    EmbeddedMigrations: MigrationSource<E::Backend>,
{
    if !has_notes(engine)? || has_columns(engine)? {
        return Ok(());
    }
    let versions = versions::<E>()?.into_iter();
    engine.batch(&format!(
        "DELETE FROM __diesel_schema_migrations WHERE version IN ({})",
        joined(versions.map(|version| format!("'{version}'")))
    ))
}

fn has_notes<E: Engine>(engine: &mut E) -> QueryResult<bool> {
    let notebook: Vec<Name> = engine.load(E::NOTEBOOK, None)?;
    Ok(!notebook.is_empty())
}

fn has_columns<E: Engine>(engine: &mut E) -> QueryResult<bool> {
    let columns: Vec<Name> = engine.load(E::COLUMNS, None)?;
    Ok(OURS
        .iter()
        .all(|ours| columns.iter().any(|column| column.name == *ours)))
}

fn versions<E: Engine>() -> QueryResult<Vec<String>>
where
    EmbeddedMigrations: MigrationSource<E::Backend>,
{
    let steps = MigrationSource::<E::Backend>::migrations(&E::MIGRATIONS)
        .map_err(Error::QueryBuilderError)?;
    let versions = steps.iter().map(|step| step.name().version().to_string());
    Ok(versions.collect())
}
