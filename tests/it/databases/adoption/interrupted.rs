//! Migrations that were interrupted, or that run at the same time.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use super::django::{Django, MESSAGE_LOG};
use super::{TASKS, djangos_world, message_rows};
use crate::support::{Database, World, cases, eventually, exit_code};

cases! { on every_database:
    a_migration_goes_on_from_where_the_last_one_ended,
    migrations_at_the_same_time_succeed_while_django_writes,
    tables_that_django_has_created_again_are_adopted_again,
    one_table_that_django_has_created_again_is_adopted_beside_the_other,
}

cases! { on every_server: a_migration_that_was_killed_is_run_again }

/// The migrations' versions and their statements, in order.
fn migrations(database: Database) -> Vec<(String, String)> {
    let directory = match database {
        Database::Postgresql => "postgresql",
        Database::Sqlite => "sqlite",
        #[cfg(feature = "mysql")]
        Database::Mariadb => "mysql",
    };
    let directory = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("migrations")
        .join(directory);
    let migration = |entry: std::io::Result<fs::DirEntry>| {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        let version = name.split('_').next().unwrap().replace('-', "");
        (version, fs::read_to_string(path.join("up.sql")).unwrap())
    };
    let mut migrations: Vec<_> = fs::read_dir(directory).unwrap().map(migration).collect();
    migrations.sort();
    migrations
}

/// A world with Django's rows for which every step is run: one of its queues is embedded.
fn world_of_all_steps(database: Database) -> World {
    let world = djangos_world(database);
    let queue = "[[queues]]\nname = 'rows'\nhost = 'embedded'\n";
    world.configure(&format!("{TASKS}{queue}"));
    world
}

const TABLES: [&str; 3] = ["carrot_messagelog", "carrot_scheduledtask", "carrot_worker"];

/// The definitions of the tables after an undisturbed migration.
fn undisturbed_definitions(database: Database) -> Vec<String> {
    let world = world_of_all_steps(database);
    migrates(&world);
    world.catalogue(&TABLES)
}

/// Records, as diesel does, that these migrations were run.
fn note(world: &World, migrations: &[(String, String)]) {
    world.execute(
        "CREATE TABLE __diesel_schema_migrations (version varchar(50) PRIMARY KEY NOT NULL, \
         run_on timestamp NOT NULL DEFAULT CURRENT_TIMESTAMP)",
    );
    for (version, _) in migrations {
        let insert = "INSERT INTO __diesel_schema_migrations (version) VALUES";
        world.execute(&format!("{insert} ('{version}')"));
    }
}

#[track_caller]
fn migrates(world: &World) {
    let (code, _, err) = world.run(&["migrate"]);
    assert_eq!(code, 0, "{err}");
    let (_, out, _) = world.run(&["migrate"]);
    assert!(out.contains("is up to date"), "{out}");
    assert_eq!(world.run(&["check"]).0, 0);
    assert_eq!(
        Django::on(world).filter(MESSAGE_LOG, "1 = 1").len(),
        message_rows().len()
    );
}

fn a_migration_goes_on_from_where_the_last_one_ended(database: Database) {
    let definitions = undisturbed_definitions(database);
    let migrations = migrations(database);
    for done in 0..=migrations.len() {
        let world = world_of_all_steps(database);
        for (_, statements) in &migrations[..done] {
            world.execute(statements);
        }
        note(&world, &migrations[..done]);
        migrates(&world);
        assert_eq!(world.catalogue(&TABLES), definitions, "after {done}");
    }
}

/// MariaDB commits each such statement by itself.
#[cfg(feature = "mysql")]
#[test]
fn a_migration_of_mariadb_goes_on_after_any_statement() {
    let database = Database::Mariadb;
    let definitions = undisturbed_definitions(database);
    let all: String = migrations(database)
        .into_iter()
        .map(|(_, all)| all)
        .collect();
    let statements: Vec<_> = all.split_inclusive(";\n").collect();
    // Statements with these words change only the connection.
    let changes = |done: &usize| {
        let last = statements[done - 1];
        !["SET @", "PREPARE", "DEALLOCATE"]
            .iter()
            .any(|word| last.contains(word))
    };
    let world = world_of_all_steps(database);
    for done in (1..=statements.len()).filter(changes) {
        world.execute(&format!(
            "DROP TABLE IF EXISTS {}, __diesel_schema_migrations",
            TABLES.join(", ")
        ));
        world.execute(&database.django_schema());
        world.fill();
        world.execute(&statements[..done].concat());
        migrates(&world);
        assert_eq!(
            world.catalogue(&TABLES),
            definitions,
            "after {}",
            statements[done - 1]
        );
    }
}

fn a_migration_that_was_killed_is_run_again(database: Database) {
    let world = world_of_all_steps(database);
    // A transaction that has read the table keeps it from being altered.
    let mut reader = Django::on(&world);
    reader.client.execute("BEGIN");
    reader.filter(MESSAGE_LOG, "1 = 1");
    let mut migration = world.command(&["migrate"]).spawn().unwrap();
    eventually("the migration waits", || waits(&world));

    migration.kill().unwrap();
    assert_eq!(exit_code(migration.wait().unwrap()), -9);
    reader.client.execute("COMMIT");

    migrates(&world);
    assert_eq!(world.catalogue(&TABLES), undisturbed_definitions(database));
}

/// On PostgreSQL, a project has its own schema; MySQL's schemas are databases.
#[test]
fn a_migration_does_not_wait_for_one_in_another_schema() {
    let world = world_of_all_steps(Database::Postgresql);
    let mut reader = Django::on(&world);
    reader.client.execute("BEGIN");
    reader.filter(MESSAGE_LOG, "1 = 1");
    let mut migration = world.command(&["migrate"]).spawn().unwrap();
    eventually("the migration waits", || waits(&world));

    let other = World::without_tables_on(Database::Postgresql, TASKS);
    let mut others = other.command(&["migrate"]).spawn().unwrap();
    let code = eventually("the other migration ends", || others.try_wait().unwrap());
    assert_eq!(exit_code(code), 0);

    reader.client.execute("COMMIT");
    assert_eq!(exit_code(migration.wait().unwrap()), 0);
}

/// Whether a connection waits for Django's table.
fn waits(world: &World) -> bool {
    let waiting = world.rows(&match world.database {
        Database::Postgresql => "SELECT pid FROM pg_locks WHERE NOT granted \
             AND relation = 'carrot_messagelog'::regclass"
            .to_owned(),
        Database::Sqlite => panic!("SQLite's file has no such lock"),
        #[cfg(feature = "mysql")]
        Database::Mariadb => format!(
            "SELECT id FROM information_schema.processlist WHERE db = '{}' \
             AND state = 'Waiting for table metadata lock'",
            world.name
        ),
    });
    !waiting.is_empty()
}

fn migrations_at_the_same_time_succeed_while_django_writes(database: Database) {
    let world = world_of_all_steps(database);
    let over = AtomicBool::new(false);
    let (outcomes, written) = std::thread::scope(|scope| {
        let django = scope.spawn(|| {
            let mut django = Django::on(&world);
            let mut written = 0;
            while !over.load(Ordering::Relaxed) {
                written += django.create(MESSAGE_LOG, &message_rows()).len();
                std::thread::yield_now();
            }
            written
        });
        let migrate = || world.run(&["migrate"]);
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(migrate)).collect();
        let outcomes: Vec<_> = threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .collect();
        over.store(true, Ordering::Relaxed);
        (outcomes, django.join().unwrap())
    });

    let mut steps = Vec::new();
    for (code, out, err) in &outcomes {
        assert_eq!(*code, 0, "{err}");
        steps.extend(
            out.lines()
                .filter_map(|line| line.strip_prefix("migrated "))
                // One that comes between another's steps and its indexes builds, and names, these.
                .filter(|step| step.bytes().all(|byte| byte.is_ascii_digit())),
        );
    }
    assert_eq!(steps.len(), migrations(database).len(), "{outcomes:?}");
    let rows = Django::on(&world).filter(MESSAGE_LOG, "1 = 1").len();
    assert_eq!(rows, message_rows().len() + written);
}

fn tables_that_django_has_created_again_are_adopted_again(database: Database) {
    let world = world_of_all_steps(database);
    migrates(&world);
    let definitions = world.catalogue(&TABLES);
    world.execute("DROP TABLE carrot_messagelog; DROP TABLE carrot_scheduledtask");
    world.execute(&database.django_schema());
    world.fill();

    let (code, _, err) = world.run(&["send", "app.tasks.hello"]);

    // An SQLite file is migrated automatically. On servers, the message says to run `migrate`.
    if database == Database::Sqlite {
        assert_eq!(code, 0, "{err}");
        Django::on(&world).delete(MESSAGE_LOG, "id = (SELECT max(id) FROM carrot_messagelog)");
    } else {
        assert_eq!(code, 78, "{err}");
        assert!(err.contains("carrot-actors migrate"), "{err}");
    }
    migrates(&world);
    assert_eq!(world.catalogue(&TABLES), definitions);
}

/// Django alters a table in SQLite by creating a new one with only its own columns.
fn one_table_that_django_has_created_again_is_adopted_beside_the_other(database: Database) {
    for (table, others) in [
        ("carrot_scheduledtask", "carrot_messagelog"),
        ("carrot_messagelog", "carrot_scheduledtask"),
    ] {
        let world = world_of_all_steps(database);
        migrates(&world);
        let definitions = world.catalogue(&TABLES);
        let before = world.rows(&format!("SELECT * FROM {others} ORDER BY id"));
        world.execute(&format!("DROP TABLE {table}"));
        let schema = database.django_schema();
        let of_table = schema
            .split_inclusive(";\n")
            .filter(|statement| statement.contains(table));
        world.execute(&of_table.collect::<String>());
        if table == "carrot_messagelog" {
            Django::on(&world).create(MESSAGE_LOG, &message_rows());
        }
        migrates(&world);
        assert_eq!(world.catalogue(&TABLES), definitions);
        assert_eq!(
            world.rows(&format!("SELECT * FROM {others} ORDER BY id")),
            before
        );
    }
}
