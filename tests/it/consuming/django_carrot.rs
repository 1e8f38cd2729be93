//! The messages and rows of a django-carrot that was running, consumed by our service.

use serde_json::Value;

use crate::support::captured::{message_rows, messages};
use crate::support::{Database, Raw, World, cases};

cases! { on every_database:
    messages_that_django_carrot_published_are_run_and_recorded_in_its_own_rows,
    a_command_gets_the_arguments_that_django_carrot_sent,
}

const TASKS: &str = r#"
[[queues]]
name = "default"
concurrency = 3
# queue_arguments are the default ones, with which django-carrot declares its queues
[tasks."app.tasks.noop"]
command = ["cat"]
[tasks."app.tasks.hello"]
command = ["echo", "hello"]
[tasks."app.tasks.slow"]
command = ["sleep", "0.2"]
"#;

fn messages_that_django_carrot_published_are_run_and_recorded_in_its_own_rows(database: Database) {
    let world = World::of_django(database, TASKS);
    world.insert_django_rows(&message_rows());
    world.declare_queue_with("default", 255);
    let sent: Vec<Raw> = messages().iter().map(Raw::captured).collect();
    world.publish(&sent);

    let (code, out, err) = world.run(&["--testmode", "--logfile", "carrot.log"]);

    assert_eq!(code, 0, "{err}");
    assert!(out.contains("Successfully started 3 consumers for queue default"));
    let rows = world.rows("SELECT * FROM carrot_messagelog ORDER BY id");
    assert_eq!(rows.len(), message_rows().len());
    for (row, before) in rows.iter().zip(message_rows()) {
        assert_eq!(row["status"], "COMPLETED", "{row}");
        for column in ["uuid", "task", "task_args", "content", "queue", "priority"] {
            assert_eq!(row[column], before[column], "{column}");
        }
        assert!(row["completion_time"].is_string() && row["failure_time"].is_null());
    }
}

fn a_command_gets_the_arguments_that_django_carrot_sent(database: Database) {
    let world = World::of_django(database, TASKS);
    world.insert_django_rows(&message_rows());
    world.declare_queue_with("default", 255);
    let captured = messages();
    world.publish(&captured.iter().map(Raw::captured).collect::<Vec<_>>());
    assert_eq!(world.run(&["--testmode", "--logfile", "carrot.log"]).0, 0);

    let noop = |message: &&Value| message["properties"]["headers"]["type"] == "app.tasks.noop";
    for message in captured.iter().filter(noop) {
        let row = world.find(message["properties"]["message_id"].as_str().unwrap());
        let row = row.unwrap();
        assert_eq!(row["status"], "COMPLETED", "{row}");
        let output = row["output"].as_str().unwrap().to_owned();
        let input: Value = serde_json::from_str(&output).unwrap();
        let sent: Value = serde_json::from_str(message["body"].as_str().unwrap()).unwrap();
        let args = sent
            .get("args")
            .cloned()
            .unwrap_or(Value::Array(Vec::new()));
        assert_eq!(input["args"], args);
        let kwargs = sent
            .get("kwargs")
            .cloned()
            .unwrap_or_else(|| serde_json::json!({}));
        assert_eq!(input["kwargs"], kwargs);
        assert_eq!(input["attempt"], 1);
    }
}
