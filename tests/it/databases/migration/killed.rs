//! A migration that dies is run again.

use super::{Apart, TABLES};
use crate::support::{Client, Database, cases, eventually, exit_code};

cases! { on every_database: a_migration_that_dies_at_any_step_is_run_again }

fn whole(database: Database) -> Vec<String> {
    let world = Apart::with_queues(database, 5);
    world.migrates();
    world.whole()
}

fn a_migration_that_dies_at_any_step_is_run_again(database: Database) {
    let world = Apart::with_queues(database, 5);
    world.migrates();
    let whole = world.whole();
    let mut deaths = 0;
    for place in ["migrate.locked", "migrate.step", "migrate.index"] {
        for nth in 1.. {
            world.begin_anew();
            if database == Database::Sqlite {
                // So many that each index is a transaction of its own.
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
            world.is_refused_unless_done();
            world.migrates();
            assert_eq!(world.whole(), whole, "{place} {nth}");
        }
    }
    assert!(deaths >= 7 + 7, "{deaths}");
}

impl Apart {
    /// With Django's tables alone.
    fn begin_anew(&self) {
        for table in TABLES.iter().chain(&["__diesel_schema_migrations"]) {
            self.execute(&format!("DROP TABLE IF EXISTS {table}"));
        }
        self.execute(&self.database.django_schema());
        self.fill_with(5);
    }

    /// The last failpoints are passed when all is done.
    #[track_caller]
    fn is_refused_unless_done(&self) {
        let (code, out, err) = self.run(&["check"]);
        assert!(matches!(code, 0 | 78), "{out}{err}");
    }

    /// An index that is there, but not valid.
    fn invalid(&self) -> Option<String> {
        let rows = self.rows(
            "SELECT indexrelid::regclass::text AS name FROM pg_index \
             WHERE indrelid = to_regclass('carrot_messagelog') AND NOT indisvalid",
        );
        rows.first()
            .map(|row| row["name"].as_str().unwrap().to_owned())
    }

    /// Somebody who has a snapshot, for which a CONCURRENTLY waits.
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
    let invalid = eventually("an index that is not valid yet", || world.invalid());
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

    // The server sees within some seconds that nobody wants it any more.
    eventually("the end of the migration", || {
        let left = world.rows(
            "SELECT pid FROM pg_stat_activity WHERE application_name = 'carrot-actors' \
             AND datname = current_database()",
        );
        left.is_empty()
    });
    assert_eq!(world.invalid(), Some(invalid.clone()));
    world.is_refused();
    drop(reader);

    let (_, err) = world.migrates();

    assert!(
        err.contains(&format!("the index {invalid} is not valid")),
        "{err}"
    );
    assert_eq!(world.invalid(), None);
    assert_eq!(world.whole(), whole(Database::Postgresql));
}

#[test]
fn a_server_that_ends_the_connection_is_said_and_the_migration_run_again() {
    let world = Apart::with_queues(Database::Postgresql, 1000);
    let reader = world.with_a_snapshot();
    let mut migration = world.begin();
    eventually("an index that is not valid yet", || world.invalid());
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
    assert_eq!(world.whole(), whole(Database::Postgresql));
}
