//! A migration builds every index that is missing or wrong.

use super::{Apart, TABLES};
use crate::support::{Database, cases, text};

cases! { on every_database:
    each_missing_index_is_built_again_and_no_service_starts_before,
    a_wrong_index_of_the_right_name_is_built_again,
    rows_in_the_way_of_a_unique_index_are_named,
    the_tables_of_an_earlier_version_are_up_to_date,
}

impl Apart {
    /// The names of the indexes and constraints of the service's tables.
    fn indexes(&self) -> Vec<(&'static str, String)> {
        let of = |table: &&'static str| {
            let table = *table;
            let mut names: Vec<_> = self
                .properties(table)
                .iter()
                .map(|property| text(property, "name").to_owned())
                .collect();
            names.dedup();
            names.into_iter().map(move |name| (table, name))
        };
        TABLES[..2].iter().flat_map(of).collect()
    }

    #[cfg_attr(
        not(feature = "mysql"),
        expect(unused_variables, reason = "MySQL's indexes belong to their tables")
    )]
    fn drop_index(&self, table: &str, name: &str) {
        self.execute(&match self.database {
            Database::Postgresql | Database::Sqlite => format!("DROP INDEX {name}"),
            #[cfg(feature = "mysql")]
            Database::Mariadb => format!("DROP INDEX {name} ON {table}"),
        });
    }
}

fn each_missing_index_is_built_again_and_no_service_starts_before(database: Database) {
    let world = Apart::with_queues(database, 5);
    let djangos = world.indexes();
    world.migrates();
    let whole = world.definitions();
    let ours: Vec<_> = world
        .indexes()
        .into_iter()
        .filter(|index| !djangos.contains(index))
        .collect();
    let expected = match database {
        Database::Postgresql | Database::Sqlite => 8,
        #[cfg(feature = "mysql")]
        Database::Mariadb => 7,
    };
    assert_eq!(ours.len(), expected, "{ours:?}");
    for (table, name) in ours {
        world.drop_index(table, &name);
        world.assert_refused();
        let (out, _) = world.migrates();
        assert!(out.contains(&format!("migrated {name}")), "{name}: {out}");
        assert_eq!(world.definitions(), whole, "{name}");
    }
}

fn a_wrong_index_of_the_right_name_is_built_again(database: Database) {
    let world = Apart::with_queues(database, 5);
    world.migrates();
    let whole = world.definitions();
    for (name, other) in [
        (
            "carrot_messagelog_uuid",
            "INDEX carrot_messagelog_uuid ON carrot_messagelog (task)",
        ),
        (
            "carrot_messagelog_uuid",
            "UNIQUE INDEX carrot_messagelog_uuid ON carrot_messagelog (uuid)",
        ),
        (
            "carrot_messagelog_adopted_uuid",
            "INDEX carrot_messagelog_adopted_uuid ON carrot_messagelog (adopted_uuid)",
        ),
        (
            "carrot_messagelog_occurrence",
            "INDEX carrot_messagelog_occurrence ON carrot_messagelog (planned_time, schedule_id)",
        ),
        (
            "carrot_messagelog_pending",
            "INDEX carrot_messagelog_pending ON carrot_messagelog (id)",
        ),
    ] {
        world.drop_index("carrot_messagelog", name);
        world.execute(&format!("CREATE {other}"));
        world.assert_refused();
        let (out, err) = world.migrates();
        assert!(out.contains(&format!("migrated {name}")), "{other}: {out}");
        assert!(
            err.contains(&format!("the index {name} is another one")),
            "{other}: {err}"
        );
        assert_eq!(world.definitions(), whole, "{other}");
    }
    if database == Database::Postgresql || database == Database::Sqlite {
        world.execute(
            "DROP INDEX carrot_messagelog_in_progress; \
             CREATE INDEX carrot_messagelog_in_progress ON carrot_messagelog (owner) WHERE status = 'PENDING'",
        );
        world.assert_refused();
        world.migrates();
        assert_eq!(world.definitions(), whole);
    }
}

fn rows_in_the_way_of_a_unique_index_are_named(database: Database) {
    let world = Apart::with_queues(database, 5);
    world.migrates();
    let whole = world.definitions();
    world.drop_index("carrot_messagelog", "carrot_messagelog_adopted_uuid");
    world.execute("UPDATE carrot_messagelog SET adopted_uuid = 'twin' WHERE id < 3");

    for _ in 0..2 {
        let (code, out, err) = world.run(&["migrate"]);

        assert_eq!(code, 69, "{out}{err}");
        for part in [
            "carrot_messagelog_adopted_uuid",
            "rows of carrot_messagelog are alike in (adopted_uuid)",
        ] {
            assert!(err.contains(part), "{err}");
        }
        // No index is left that refuses rows.
        let names = world.indexes();
        assert!(
            !names
                .iter()
                .any(|(_, name)| name == "carrot_messagelog_adopted_uuid"),
            "{names:?}"
        );
    }
    world.execute("UPDATE carrot_messagelog SET adopted_uuid = NULL");
    world.migrates();
    assert_eq!(world.definitions(), whole);
}

/// An earlier version has migrated by the steps of diesel alone.
fn the_tables_of_an_earlier_version_are_up_to_date(database: Database) {
    let world = Apart::with_queues(database, 5);
    world.migrates();
    // Its statements had `IF NOT EXISTS` and line breaks, which SQLite stores.
    let (name, statement) = (
        "carrot_messagelog_occurrence",
        "CREATE UNIQUE INDEX IF NOT EXISTS carrot_messagelog_occurrence\n    \
         ON carrot_messagelog (schedule_id, planned_time) WHERE schedule_id IS NOT NULL",
    );
    if database == Database::Postgresql || database == Database::Sqlite {
        world.drop_index("carrot_messagelog", name);
        world.execute(statement);
    }
    let (code, out, err) = world.run(&["migrate"]);
    assert_eq!(code, 0, "{err}");
    assert!(out.contains("is up to date"), "{out}");
}

/// The name of an index is unique in a schema, or in a file.
fn an_index_name_that_another_table_has_is_reported(database: Database) {
    let world = Apart::of_django(database, 5);
    world.execute(
        "CREATE TABLE elsewhere (uuid text); CREATE INDEX carrot_messagelog_uuid ON elsewhere (uuid)",
    );
    let (code, _, err) = world.run(&["migrate"]);
    assert_eq!(code, 69, "{err}");
    assert!(
        err.contains("the name of the index carrot_messagelog_uuid is taken"),
        "{err}"
    );
    world.execute("DROP TABLE elsewhere");
    world.migrates();
}

cases! { on postgresql, sqlite: an_index_name_that_another_table_has_is_reported }

/// The optimizer ignores such an index.
#[cfg(feature = "mysql")]
#[test]
fn an_index_that_is_switched_off_is_built_again() {
    let world = Apart::with_queues(Database::Mariadb, 5);
    world.migrates();
    let whole = world.definitions();
    world.execute("ALTER TABLE carrot_messagelog ALTER INDEX carrot_messagelog_uuid IGNORED");
    world.assert_refused();
    world.migrates();
    assert_eq!(world.definitions(), whole);
    assert_eq!(world.run(&["send", "noop"]).0, 0);
}

/// A project that uses only RabbitMQ does not have the index of the embedded broker.
#[test]
fn the_index_of_the_embedded_broker_is_built_only_for_it() {
    let world = Apart::of_django(Database::Postgresql, 5);
    world.migrates();
    let is_there = || {
        world
            .indexes()
            .iter()
            .any(|(_, name)| name == "carrot_messagelog_waiting")
    };
    assert!(!is_there());
    world.configure(&format!(
        "{}[[queues]]\nname = 'rows'\nhost = 'embedded'\n",
        super::TASKS
    ));
    world.assert_refused();
    world.migrates();
    assert!(is_there());
}
