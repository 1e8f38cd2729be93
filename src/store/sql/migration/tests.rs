//! Every migration step, present and future, is a change that blocks nobody.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use super::*;
use crate::store::sql::Index;

const ALLOWED: &str = "a step makes tables and adds columns that are NULL or have a constant default, which \
    PostgreSQL and MySQL do without a look at the rows; on MySQL each in a statement of its own that ends in \
    @carrot_alter; indexes are listed in src/store/*/indexes.rs, and built beside the steps";

/// The directories of a database's steps, in order.
fn steps(database: &str) -> Vec<PathBuf> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("migrations")
        .join(database);
    let entries = fs::read_dir(directory).unwrap();
    let mut steps: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    steps.sort();
    steps
}

/// A step's statements, each on one line, without comments except those that MariaDB executes.
fn statements(step: &Path) -> Vec<String> {
    let text = fs::read_to_string(step.join("up.sql")).unwrap();
    let lines = text.lines().map(|line| match line.trim_start() {
        comment if comment.starts_with("--") => "",
        line => line,
    });
    let text = lines.collect::<Vec<_>>().join(" ");
    let statements = text.split(';').map(|statement| {
        let words: Vec<_> = statement.split_whitespace().collect();
        words.join(" ")
    });
    statements.filter(|text| !text.is_empty()).collect()
}

/// The columns that a statement adds, if it is of a kind that blocks nobody.
fn columns(database: &str, statement: &str) -> Result<Vec<String>, String> {
    let refused = || Err(format!("{statement}\nis none of these: {ALLOWED}"));
    if statement == "SELECT 1" || is_new_table(statement) {
        return Ok(Vec::new());
    }
    if database != "mysql" {
        return altered(statement).map_or_else(refused, Ok);
    }
    let is_of_the_script = [
        "PREPARE step FROM @step",
        "EXECUTE step",
        "DEALLOCATE PREPARE step",
    ];
    if is_of_the_script.contains(&statement) || statement.starts_with("SET @step = NULL /*M!") {
        return Ok(Vec::new());
    }
    let added = statement
        .strip_prefix("SET @step = IF(EXISTS (SELECT 1 FROM information_schema.columns WHERE ")
        .and_then(|rest| rest.split_once(" 'DO 0', CONCAT('"))
        .and_then(|(_, rest)| rest.strip_suffix("', COALESCE(@carrot_alter, '')))"))
        .and_then(altered)
        .filter(|columns| columns.len() == 1);
    added.map_or_else(refused, Ok)
}

fn is_new_table(statement: &str) -> bool {
    statement.starts_with("CREATE TABLE IF NOT EXISTS carrot_")
        && ["REFERENCES", "UNIQUE", " INDEX ", " KEY ("]
            .iter()
            .all(|word| !statement.contains(word))
}

/// The columns that an ALTER TABLE adds, if it does nothing else.
fn altered(statement: &str) -> Option<Vec<String>> {
    let (table, changes) = statement.strip_prefix("ALTER TABLE ")?.split_once(' ')?;
    let changes = changes.strip_prefix("ADD COLUMN ")?.split(", ADD COLUMN ");
    let column = |change: &str| {
        let change = change.strip_prefix("IF NOT EXISTS ").unwrap_or(change);
        let (name, kind) = change.split_once(' ')?;
        is_instant(kind).then(|| format!("{table}.{name}"))
    };
    changes.map(column).collect()
}

/// Whether adding a column of this type reads no rows.
fn is_instant(kind: &str) -> bool {
    // Computed at each read.
    if kind.ends_with(" VIRTUAL") {
        return kind.contains("GENERATED ALWAYS AS");
    }
    let (kind, default) = match kind.split_once(" DEFAULT ") {
        Some((kind, default)) => (kind, Some(default)),
        None => (kind, None),
    };
    let is_constant = |default: &str| {
        let text = default.trim_matches('\'');
        !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
    };
    // Anything else would be a constraint or another change.
    let (kind, not_null) = match kind.strip_suffix(" NOT NULL") {
        Some(kind) => (kind, true),
        None => (kind, false),
    };
    let is_type = kind
        .chars()
        .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "() ".contains(c));
    is_type && default.is_some() == not_null && default.is_none_or(is_constant)
}

#[test]
fn every_step_is_of_a_kind_that_blocks_nobody() {
    for database in ["postgresql", "mysql", "sqlite"] {
        let steps = steps(database);
        assert_eq!(steps.len(), STEP_COLUMNS.len(), "{database}");
        for (step, made) in steps.iter().zip(STEP_COLUMNS) {
            let step = step.as_path();
            assert!(
                !step.join("metadata.toml").exists(),
                "{step:?}: its transaction stays"
            );
            assert!(step.join("down.sql").exists(), "{step:?}");
            for statement in statements(step) {
                for column in
                    columns(database, &statement).unwrap_or_else(|e| panic!("{step:?}: {e}"))
                {
                    let is_known = made.contains(&column.as_str());
                    // Only MySQL has this column.
                    let is_generated = column == "carrot_scheduledtask.is_planned";
                    assert!(
                        is_known || is_generated,
                        "{step:?}: {column} is not in STEP_COLUMNS"
                    );
                }
            }
        }
    }
}

#[test]
fn a_step_that_blocks_others_is_noticed() {
    for statement in [
        "CREATE INDEX x ON carrot_messagelog (task)",
        "CREATE INDEX CONCURRENTLY x ON carrot_messagelog (task)",
        "CREATE UNIQUE INDEX IF NOT EXISTS x ON carrot_messagelog (task)",
        "CREATE TABLE IF NOT EXISTS carrot_stat (id integer, message bigint REFERENCES carrot_messagelog)",
        "ALTER TABLE carrot_messagelog ADD COLUMN x integer NOT NULL",
        "ALTER TABLE carrot_messagelog ADD COLUMN x integer UNIQUE",
        "ALTER TABLE carrot_messagelog ADD COLUMN x timestamptz NOT NULL DEFAULT clock_timestamp()",
        "ALTER TABLE carrot_messagelog ADD COLUMN x integer, ADD CONSTRAINT y CHECK (x > 0)",
        "ALTER TABLE carrot_messagelog ADD COLUMN x integer, DROP COLUMN y",
        "ALTER TABLE carrot_messagelog ADD COLUMN x integer GENERATED ALWAYS AS (id) STORED",
        "ALTER TABLE carrot_messagelog ALTER COLUMN id TYPE bigint",
        "ALTER TABLE carrot_messagelog ADD INDEX x (task)",
        "UPDATE carrot_messagelog SET attempts = 0",
        "LOCK TABLE carrot_messagelog",
    ] {
        for database in ["postgresql", "mysql", "sqlite"] {
            assert!(
                columns(database, statement).is_err(),
                "{database}: {statement}"
            );
        }
    }
    let bare = "ALTER TABLE carrot_messagelog ADD COLUMN x integer";
    assert!(columns("postgresql", bare).is_ok());
    assert!(columns("mysql", bare).is_err());
}

#[test]
fn every_index_has_a_name_of_its_own_after_its_table() {
    let lists: &[&[Index]] = &[
        crate::store::postgres::PostgresEngine::INDEXES,
        crate::store::sqlite::SqliteEngine::INDEXES,
        #[cfg(feature = "mysql")]
        crate::store::mysql::MysqlEngine::INDEXES,
    ];
    for list in lists {
        let names: BTreeSet<_> = list.iter().map(|index| index.name).collect();
        assert_eq!(names.len(), list.len());
        for index in *list {
            assert!(
                index.name.starts_with(&format!("{}_", index.table)),
                "{}",
                index.name
            );
            assert!(
                !index.create("").contains("IF NOT EXISTS"),
                "{}",
                index.name
            );
        }
    }
}
