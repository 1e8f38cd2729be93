//! For whom a migration waits, and who waits for it.

use std::time::{Duration, Instant};

use super::Apart;
use crate::support::{Client, Database, cases};

cases! { on every_server:
    a_migration_that_waits_for_a_transaction_lets_others_pass,
    a_migration_that_waits_for_another_says_whose_it_is,
}

cases! { on every_database: a_service_that_was_started_before_works_while_the_tables_are_migrated }

/// Opens a transaction that has used the table and is idle.
fn idle(world: &Apart) -> Client {
    let mut idle = world.client();
    if world.database == Database::Postgresql {
        idle.execute("SET application_name = 'a forgotten shell'");
    }
    idle.execute("BEGIN");
    assert_eq!(
        idle.rows("SELECT id FROM carrot_messagelog WHERE id = 1")
            .len(),
        1
    );
    idle
}

/// Reads and writes until `over` returns true; how long the slowest statement took.
fn longest_wait(world: &Apart, mut over: impl FnMut() -> bool) -> Duration {
    let mut longest = Duration::ZERO;
    let mut client = world.client();
    while !over() {
        for statement in [
            "UPDATE carrot_messagelog SET output = 'x' WHERE id = 2",
            "DELETE FROM carrot_messagelog WHERE id = 0",
        ] {
            let began = Instant::now();
            client.execute(statement);
            client.rows("SELECT id FROM carrot_messagelog WHERE id = 2");
            longest = longest.max(began.elapsed());
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    longest
}

fn a_migration_that_waits_for_a_transaction_lets_others_pass(database: Database) {
    let world = Apart::with_queues(database, 100);
    let mut holder = idle(&world);
    let mut migration = world.begin();

    let began = Instant::now();
    let longest = longest_wait(&world, || {
        migration.said().contains("waits for the transactions")
            && began.elapsed() > Duration::from_secs(4)
    });

    // MariaDB's shortest timeout is one second.
    let most = if database == Database::Postgresql {
        1.0
    } else {
        2.0
    };
    assert!(longest.as_secs_f64() < most, "{longest:?}");
    let said = migration.said();
    let names = match database {
        Database::Postgresql => "a forgotten shell, user carrot",
        _ => "(user carrot, from",
    };
    assert!(
        said.contains(names) && said.contains("in a transaction for"),
        "{said}"
    );
    holder.execute("COMMIT");
    migration.ends_well();
    world.assert_up_to_date();
}

impl Apart {
    #[track_caller]
    fn assert_up_to_date(&self) {
        let (code, out, err) = self.run(&["migrate"]);
        assert_eq!(code, 0, "{err}");
        assert!(out.contains("is up to date"), "{out}");
    }
}

fn a_migration_that_waits_for_another_says_whose_it_is(database: Database) {
    let world = Apart::with_queues(database, 100);
    let mut holder = idle(&world);
    let mut first = world.begin();
    first.says("waits for the transactions");
    let mut second = world.begin();
    second.says("waits for the migration of ");
    let said = second.said();
    let who = match database {
        Database::Postgresql => "(carrot-actors, user carrot, ",
        _ => "(user carrot, from ",
    };
    assert!(said.contains(who), "{said}");
    holder.execute("COMMIT");
    first.ends_well();
    second.ends_well();
    world.assert_up_to_date();
}

/// Its connections have cached the old tables.
fn a_service_that_was_started_before_works_while_the_tables_are_migrated(database: Database) {
    let world = Apart::of_django(database, 100);
    world.migrates();
    let mut service = world.start(&[]);
    let done = |world: &Apart| {
        let uuid = world.send(&["noop"]);
        assert_eq!(world.ended(&uuid)["status"], "COMPLETED");
    };
    done(&world);
    // Drop an index and two columns, which a later version would add.
    world.execute(match database {
        Database::Postgresql | Database::Sqlite => "DROP INDEX carrot_messagelog_pending",
        #[cfg(feature = "mysql")]
        Database::Mariadb => "DROP INDEX carrot_messagelog_occurrence ON carrot_messagelog",
    });
    world.execute(
        "ALTER TABLE carrot_messagelog DROP COLUMN put_off_since; \
         ALTER TABLE carrot_messagelog DROP COLUMN put_off_reason",
    );
    world.migrates();
    done(&world);
    assert_eq!(service.terminate(), 0);
}
