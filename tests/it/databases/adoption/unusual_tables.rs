//! Tables that differ from those that Django creates today.

use super::TASKS;
use crate::support::{Database, Raw, World, text};

/// How many messages there were before the service.
const OLD: usize = 20_000;

/// A world with Django's tables, with these changes in their statements.
fn world(database: Database, prelude: &str, changes: &[(&str, &str)]) -> World {
    let world = World::without_tables_on(database, TASKS);
    let mut schema = database.django_schema();
    for (usual, other) in changes {
        assert!(schema.contains(usual), "{usual} in {schema}");
        schema = schema.replace(usual, other);
    }
    world.execute(&(prelude.to_owned() + &schema));
    #[cfg(feature = "mysql")]
    if database == Database::Mariadb {
        database.administer("SET GLOBAL userstat = 1");
    }
    world
}

impl World {
    /// Inserts messages that ended long ago.
    fn fill_with_old(&self) {
        let (series, nth) = match self.database {
            Database::Postgresql => (format!("generate_series(1, {OLD}) AS s(n)"), "n"),
            Database::Sqlite => panic!("its columns have no size and no collation"),
            #[cfg(feature = "mysql")]
            Database::Mariadb => (format!("seq_1_to_{OLD}"), "seq"),
        };
        self.execute(&format!(
            "INSERT INTO carrot_messagelog (status, exchange, queue, routing_key, uuid, priority, \
                 task, task_args, content, publish_time, completion_time) \
             SELECT 'COMPLETED', '', 'default', 'default', concat('old-', {nth}), 0, 'app.tasks.noop', \
                 '()', '{{}}', '2026-01-01 00:00:00', '2026-01-01 00:00:00' FROM {series}"
        ));
    }

    /// How many rows of messages the server has read in all, if it counts them.
    fn rows_read(&self) -> usize {
        match self.database {
            #[cfg(feature = "mysql")]
            Database::Mariadb => {
                let read = self.rows(&format!(
                    "SELECT rows_read FROM information_schema.table_statistics \
                     WHERE table_schema = '{}' AND table_name = 'carrot_messagelog'",
                    self.name
                ));
                usize::try_from(read[0]["rows_read"].as_i64().unwrap()).unwrap()
            }
            _ => 0,
        }
    }
}

/// Does everything with messages that a service does: claim, run, finish, adopt, publish, recover, requeue.
#[track_caller]
fn assert_works(world: &World) {
    world.fill_with_old();
    let (code, _, err) = world.run(&["migrate"]);
    assert_eq!(code, 0, "{err}");
    let uuids = world.enqueue("default", "app.tasks.slow", 20);
    world.publish(&[Raw::foreign("app.tasks.slow", Some("foreign"), "{}")]);
    let sent = world.send(&["app.tasks.fails", "--args", "[\"it's, tricky\"]"]);
    world.insert_published("default", "app.tasks.hello", &["left".to_owned()]);
    world.execute(
        "UPDATE carrot_messagelog SET status = 'IN_PROGRESS', owner = 4000000000 WHERE uuid = 'left'",
    );

    let read_before = world.rows_read();

    let (code, _, err) = world.run(&["--testmode", "--logfile", "carrot.log"]);

    assert_eq!(code, 0, "{err}");
    // Rows are found by their keys: columns of other types or collations do not keep the indexes from being
    // used.
    let read = world.rows_read() - read_before;
    assert!(
        read < OLD / 4,
        "{read} rows read for {} messages",
        uuids.len()
    );
    for uuid in uuids.iter().map(String::as_str).chain(["foreign", "left"]) {
        let row = world.find(uuid).unwrap();
        assert_eq!(row["status"], "COMPLETED", "{row}");
        assert!(row["completion_time"].is_string(), "{row}");
    }
    assert_eq!(world.find(&sent).unwrap()["status"], "FAILED");
    let (code, out, err) = world.run(&["requeue", "--failed"]);
    assert_eq!(code, 0, "{err}");
    let (_, new) = out.trim().split_once(" -> ").unwrap();
    assert_eq!(
        text(&world.find(new).unwrap(), "task_args"),
        "(\"it's, tricky\",)"
    );
    assert_eq!(world.count("COMPLETED"), OLD + uuids.len() + 2);
    assert_eq!(world.find(&sent), None);
}

/// Ids of Django 3.2 and later, if the project says so.
#[test]
fn messages_are_run_with_ids_of_64_bits_on_postgresql() {
    let changes = [
        ("id integer NOT NULL", "id bigint NOT NULL"),
        ("    AS integer\n", ""),
    ];
    let world = world(Database::Postgresql, "", &changes);
    world.execute("SELECT setval('carrot_messagelog_id_seq', 3000000000)");
    assert_works(&world);
    assert!(world.find("left").unwrap()["id"].as_i64().unwrap() > 3_000_000_000);
}

/// Ids of Django 4.1 and later.
#[test]
fn messages_are_run_with_identity_columns_on_postgresql() {
    let world = World::without_tables_on(Database::Postgresql, TASKS);
    let schema = Database::Postgresql.django_schema();
    let tables = schema
        .split_inclusive(";\n")
        .filter(|statement| statement.contains("CREATE TABLE"));
    let tables: String = tables.collect();
    let identity = "id bigint NOT NULL PRIMARY KEY GENERATED BY DEFAULT AS IDENTITY";
    world.execute(&tables.replace("id integer NOT NULL", identity));
    assert_works(&world);
}

#[cfg(feature = "mysql")]
mod mariadb {
    use serde_json::{Value, json};

    use super::super::{message_of, message_rows};
    use super::{Database, Raw, World, assert_works, text, world};

    const USUAL: &str = "CHARSET=utf8mb4 COLLATE=utf8mb4_general_ci";

    #[track_caller]
    fn assert_works_in(collation: &str) {
        let (charset, _) = collation.split_once('_').unwrap();
        let other = format!("CHARSET={charset} COLLATE={collation}");
        for prelude in [
            "",
            &format!("ALTER DATABASE CHARACTER SET {charset} COLLATE {collation};"),
        ] {
            let world = world(Database::Mariadb, prelude, &[(USUAL, &other)]);
            assert_works(&world);
        }
    }

    #[test]
    fn messages_are_run_with_collation_utf8mb4_unicode_ci() {
        assert_works_in("utf8mb4_unicode_ci");
    }

    #[test]
    fn messages_are_run_with_collation_utf8mb4_bin() {
        assert_works_in("utf8mb4_bin");
    }

    #[test]
    fn messages_are_run_with_collation_utf8mb4_nopad() {
        assert_works_in("utf8mb4_general_nopad_ci");
    }

    #[test]
    fn messages_are_run_with_collation_utf8mb3() {
        assert_works_in("utf8mb3_general_ci");
    }

    #[test]
    fn messages_are_run_with_collation_latin1() {
        assert_works_in("latin1_swedish_ci");
    }

    #[test]
    fn messages_are_run_with_ids_of_64_bits() {
        let changes = [("`id` int(11) NOT NULL", "`id` bigint(20) NOT NULL")];
        let world = world(Database::Mariadb, "", &changes);
        world.execute("ALTER TABLE carrot_messagelog AUTO_INCREMENT = 3000000000");
        assert_works(&world);
        assert!(world.find("left").unwrap()["id"].as_i64().unwrap() > 3_000_000_000);
    }

    /// Tables that were created by a MySQL before 5.7: their indexes hold 767 bytes of a column.
    #[test]
    fn messages_are_run_with_rows_of_an_older_format() {
        for format in [
            "CHARSET=latin1 ROW_FORMAT=COMPACT",
            "CHARSET=utf8mb3 ROW_FORMAT=COMPACT",
            "CHARSET=utf8mb3 ROW_FORMAT=REDUNDANT",
        ] {
            let lenient = "SET innodb_strict_mode = OFF;";
            assert_works(&world(Database::Mariadb, lenient, &[(USUAL, format)]));
        }
    }

    /// Runs messages with characters outside of the table's character set; the row keeps this of their
    /// output.
    #[track_caller]
    fn assert_carries(world: &World, output: &str) {
        assert_eq!(world.run(&["migrate"]).0, 0);
        world.declare_queue("default");
        let body = json!({"args": ["žluť é 🥕", 1], "kwargs": {"🥕": "é"}});
        let message = |id| Raw::foreign("app.tasks.noop", Some(id), body.to_string());
        // Copies are recognised by their ids nevertheless.
        world.publish(&["plain", "id-🥕", "id-🥕", "id-🍎"].map(message));
        let row = message_rows().remove(3);
        assert!(text(&row, "content").contains("\\ud83e\\udd55"), "{row}");
        world.insert_django_rows(std::slice::from_ref(&row));
        world.publish(&[Raw::captured(&message_of(&row))]);

        let (code, _, err) = world.run(&["--testmode", "--logfile", "carrot.log"]);

        assert_eq!(code, 0, "{err}");
        assert_eq!(world.rows("SELECT id FROM carrot_messagelog").len(), 4);
        assert_eq!(world.count("COMPLETED"), 4);
        let plain = world.find("plain").unwrap();
        assert!(text(&plain, "output").contains(output), "{plain}");
        // Characters that the output has lost are not lost in the arguments.
        world.execute("UPDATE carrot_messagelog SET status = 'FAILED'");
        let requeued = world.requeue_failed();
        let messages = world.take_all("default");
        let sent = |key: &str| -> Value {
            serde_json::from_slice(&messages[&requeued[key]].body).unwrap()
        };
        assert_eq!(sent("plain"), body);
        let of_django = message_of(&row);
        let of_django: Value = serde_json::from_str(text(&of_django, "body")).unwrap();
        assert_eq!(sent(text(&row, "uuid")), of_django);
    }

    #[test]
    fn characters_that_a_table_can_not_hold_are_replaced() {
        for (charset, output) in [("latin1", "žlu? é ?"), ("utf8mb3", "žluť é ?")] {
            let other = format!("CHARSET={charset}");
            assert_carries(&world(Database::Mariadb, "", &[(USUAL, &other)]), output);
        }
    }

    #[test]
    fn characters_that_only_the_table_can_hold_are_kept() {
        let latin1 = "ALTER DATABASE CHARACTER SET latin1;";
        assert_carries(&world(Database::Mariadb, latin1, &[]), "žluť é 🥕");
    }
}
