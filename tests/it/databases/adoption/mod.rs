//! A database in which Django has created the tables. `migrate` adds the service's columns and tables and
//! changes nothing of Django's, which goes on using its own.

mod catalogue;
mod django;
mod interrupted;
mod requeued_arguments;
mod rights;
mod service;
mod unusual_tables;

use serde_json::{Value, json};

use self::django::{Django, MESSAGE_LOG, Model, SCHEDULED_TASK};
use crate::support::captured::{message_rows, messages, schedule_rows};
use crate::support::{Database, World, cases};

cases! { on every_database:
    migrate_only_adds_columns_and_tables,
    ids_continue_after_the_migration,
    django_reads_what_it_writes,
    a_transaction_that_django_rolls_back_leaves_nothing,
    a_second_migrate_changes_nothing,
}

const TASKS: &str = r#"
[[queues]]
name = "default"
concurrency = 3
[tasks."app.tasks.noop"]
command = ["cat"]
[tasks."app.tasks.hello"]
command = ["echo", "hello"]
[tasks."app.tasks.fails"]
command = ["sh", "-c", "echo some; exit 3"]
[tasks."app.tasks.slow"]
command = ["true"]
"#;

/// The message that django-carrot sent with this row.
fn message_of(row: &Value) -> Value {
    let mut messages = messages().into_iter();
    let is_it = |message: &Value| message["properties"]["message_id"] == row["uuid"];
    messages.find(is_it).unwrap()
}

const MODELS: [Model; 2] = [MESSAGE_LOG, SCHEDULED_TASK];

/// A world in which Django has written rows, and the service has not migrated.
fn djangos_world(database: Database) -> World {
    let world = World::without_tables_on(database, TASKS);
    world.execute(&database.django_schema());
    world.fill();
    world
}

/// A world like that, migrated by the service.
fn adopted_world(database: Database) -> World {
    let world = djangos_world(database);
    let (code, _, err) = world.run(&["migrate"]);
    assert_eq!(code, 0, "{err}");
    world
}

impl World {
    /// Inserts every captured row with its id.
    fn fill(&self) {
        let mut django = Django::on(self);
        for model in MODELS {
            for row in (model.captured)() {
                django.create_with_id(model, &row);
            }
            if self.database == Database::Postgresql {
                let table = model.table;
                self.execute(&format!(
                    "SELECT setval(pg_get_serial_sequence('{table}', 'id'), max(id)) FROM {table}"
                ));
            }
        }
    }

    /// What Django can see of a table: its own columns, their indexes and constraints, and its rows.
    fn of_django_in(&self, model: Model) -> [Vec<Value>; 3] {
        let is_djangos = |column: &Value| {
            let name = column["name"].as_str().unwrap();
            name == "id" || model.columns.contains(&name)
        };
        let columns = self.columns(model.table);
        let rows = self.rows(&format!(
            "SELECT id, {} FROM {} ORDER BY id",
            model.columns.join(", "),
            model.table
        ));
        [
            columns.into_iter().filter(is_djangos).collect(),
            self.properties(model.table),
            rows,
        ]
    }
}

fn migrate_only_adds_columns_and_tables(database: Database) {
    let world = djangos_world(database);
    let before = MODELS.map(|model| world.of_django_in(model));

    let (code, out, err) = world.run(&["migrate"]);

    assert_eq!(code, 0, "{err}");
    assert!(out.lines().count() > 1, "{out}");
    for (model, before) in MODELS.into_iter().zip(before) {
        let [columns, properties, stored] = world.of_django_in(model);
        assert_eq!(columns, before[0]);
        assert_eq!(stored, before[2]);
        assert_eq!(stored.len(), (model.captured)().len());
        let lost: Vec<_> = (before[1].iter())
            .filter(|property| !properties.contains(property))
            .collect();
        assert!(lost.is_empty(), "{lost:?}");
        let all = world.columns(model.table);
        let (djangos, ours) = all.split_at(model.columns.len() + 1);
        assert_eq!(djangos, columns, "our columns come after Django's");
        for column in ours {
            let may_be_left_out = column["nullable"] == json!(true)
                || column["nullable"] == json!(1)
                || !column["by_default"].is_null();
            assert!(may_be_left_out, "{column}");
        }
    }
}

fn ids_continue_after_the_migration(database: Database) {
    let world = adopted_world(database);
    let mut django = Django::on(&world);
    for model in MODELS {
        let rows = (model.captured)();
        let last = rows.iter().map(|row| row["id"].as_i64()).max().unwrap();
        let next = django.create(model, &rows[..1]);
        assert_eq!(next, [last.unwrap() + 1]);
    }
}

fn django_reads_what_it_writes(database: Database) {
    let world = adopted_world(database);
    let mut django = Django::on(&world);
    for model in MODELS {
        let rows = (model.captured)();
        let like = |row: &Value, id: i64| {
            let mut row = row.clone();
            row["id"] = id.into();
            row
        };
        let mut ids = django.create(model, &rows);
        for row in &rows {
            ids.extend(django.create(model, std::slice::from_ref(row)));
        }
        for (id, row) in ids.iter().zip([rows.clone(), rows.clone()].concat()) {
            assert_eq!(django.get(model, *id), Some(like(&row, *id)));
        }
        // Save each with the values of another one.
        for (id, row) in ids.iter().zip(rows.iter().rev()) {
            django.save(model, *id, row);
            assert_eq!(django.get(model, *id), Some(like(row, *id)));
        }
        let all = django.filter(model, "1 = 1").len();
        assert_eq!(all, 3 * rows.len());
        django.delete(model, &format!("id = {}", ids[0]));
        assert_eq!(django.get(model, ids[0]), None);
        django.delete(
            model,
            &format!("id IN ({}, {}, {})", ids[0], ids[1], ids[2]),
        );
        assert_eq!(django.filter(model, "1 = 1").len(), all - 3);
        django.delete(model, "1 = 1");
        assert_eq!(django.filter(model, "1 = 1"), [] as [Value; 0]);
    }
}

fn a_transaction_that_django_rolls_back_leaves_nothing(database: Database) {
    let world = adopted_world(database);
    let mut django = Django::on(&world);
    let before = MODELS.map(|model| django.filter(model, "1 = 1"));
    for model in MODELS {
        let rows = (model.captured)();
        django.client.execute("BEGIN");
        let ids = django.create(model, &rows[..2]);
        django.client.execute("SAVEPOINT s1_x1");
        django.save(model, ids[0], &rows[3]);
        django.delete(model, "id > 2");
        django.client.execute("ROLLBACK TO SAVEPOINT s1_x1");
        assert!(django.get(model, ids[1]).is_some());
        django.client.execute("ROLLBACK");
    }
    assert_eq!(MODELS.map(|model| django.filter(model, "1 = 1")), before);
}

fn a_second_migrate_changes_nothing(database: Database) {
    let world = adopted_world(database);
    let all = || {
        let of = |model: Model| {
            let rows = world.rows(&format!("SELECT * FROM {} ORDER BY id", model.table));
            [
                world.columns(model.table),
                world.properties(model.table),
                rows,
            ]
        };
        (MODELS.map(of), world.tables())
    };
    let before = all();
    let (code, out, err) = world.run(&["migrate"]);
    assert_eq!(code, 0, "{err}");
    assert!(out.contains("is up to date"), "{out}");
    assert_eq!(all(), before);
}
