//! A migration that is killed can be run again.

use super::{Apart, TABLES};
use crate::support::{Client, Database, cases, eventually, exit_code};

cases! { on every_database: a_migration_that_dies_at_any_step_is_run_again }

fn undisturbed_definitions(database: Database) -> Vec<String> {
    let world = Apart::with_queues(database, 5);
    world.migrates();
    world.definitions()
}

fn a_migration_that_dies_at_any_step_is_run_again(database: Database) {
    let world = Apart::with_queues(database, 5);
    world.migrates();
    let whole = world.definitions();
    let mut deaths = 0;
    for place in ["migrate.locked", "migrate.step", "migrate.index"] {
        for nth in 1.. {
            world.create_again();
            if database == Database::Sqlite {
                // A table so large that each index is built in its own transaction.
                world.execute("UPDATE carrot_messagelog SET id = 20000 WHERE id = 5");
            }
            let mut command = world.command(&["migrate"]);
            command.env("CARROT_FAILPOINTS", format!("{place}=kill@{nth}"));
            let status = command.output().unwrap().status;
            if exit_code(status) == 0 {
                break;
            }
            assert_eq!(exit_code(status), -9, "{place} {nth}");
            deaths += 1;
            world.assert_done_or_refused();
            world.migrates();
            assert_eq!(world.definitions(), whole, "{place} {nth}");
        }
    }
    assert!(deaths >= 7 + 7, "{deaths}");
}

impl Apart {
    /// Drops all tables, and creates Django's.
    fn create_again(&self) {
        for table in TABLES.iter().chain(&["__diesel_schema_migrations"]) {
            self.execute(&format!("DROP TABLE IF EXISTS {table}"));
        }
        self.execute(&self.database.django_schema());
        self.fill_with(5);
    }

    /// The last failpoints come when all is done, so both results are right.
    #[track_caller]
    fn assert_done_or_refused(&self) {
        let (code, out, err) = self.run(&["check"]);
        assert!(matches!(code, 0 | 78), "{out}{err}");
    }

    /// An index that exists and is invalid.
    fn invalid(&self) -> Option<String> {
        let rows = self.rows(
            "SELECT indexrelid::regclass::text AS name FROM pg_index \
             WHERE indrelid = to_regclass('carrot_messagelog') AND NOT indisvalid",
        );
        rows.first()
            .map(|row| row["name"].as_str().unwrap().to_owned())
    }

    /// A connection with a snapshot, for which `CREATE INDEX CONCURRENTLY` waits.
    fn with_a_snapshot(&self) -> Client {
        let mut reader = self.client();
        reader
            .execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SET application_name = 'old reader'");
        assert_eq!(reader.rows("SELECT 1 AS one").len(), 1);
        reader
    }
}

#[test]
fn an_index_that_was_not_built_to_its_end_is_built_again() {
    let world = Apart::with_queues(Database::Postgresql, 1000);
    let reader = world.with_a_snapshot();
    let mut migration = world.begin();
    let invalid = eventually("an index is being built", || world.invalid());
    migration.says("waits for pid");
    assert!(
        migration.said().contains("old reader"),
        "{}",
        migration.said()
    );
    assert!(
        migration
            .said()
            .contains(&format!("building the index {invalid}")),
        "{}",
        migration.said()
    );

    migration.kill();

    // The server notices within seconds that its client is gone.
    eventually("the server has ended the migration", || {
        let left = world.rows(
            "SELECT pid FROM pg_stat_activity WHERE application_name = 'carrot-actors' \
             AND datname = current_database()",
        );
        left.is_empty()
    });
    assert_eq!(world.invalid(), Some(invalid.clone()));
    world.assert_refused();
    drop(reader);

    let (_, err) = world.migrates();

    assert!(
        err.contains(&format!("the index {invalid} is not valid")),
        "{err}"
    );
    assert_eq!(world.invalid(), None);
    assert_eq!(
        world.definitions(),
        undisturbed_definitions(Database::Postgresql)
    );
}

#[test]
fn a_server_that_ends_the_connection_is_reported_and_the_migration_can_be_run_again() {
    let world = Apart::with_queues(Database::Postgresql, 1000);
    let reader = world.with_a_snapshot();
    let mut migration = world.begin();
    eventually("an index is being built", || world.invalid());
    world.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
         WHERE application_name = 'carrot-actors' AND datname = current_database()",
    );
    assert_eq!(
        exit_code(migration.child.wait().unwrap()),
        69,
        "{}",
        migration.said()
    );
    drop(reader);
    world.migrates();
    assert_eq!(
        world.definitions(),
        undisturbed_definitions(Database::Postgresql)
    );
}
