//! The command `schedule`.

mod help;
mod refusals;

use serde_json::{Value, json};

use crate::support::{Database, World, captured, cases, eventually, milliseconds, text};

cases! { on every_database:
    a_schedule_that_is_added_is_listed_and_shown,
    an_edit_changes_only_the_given_columns,
    rows_that_django_wrote_are_listed_shown_and_edited,
    a_schedule_can_be_run_outside_of_its_timetable,
    a_schedule_that_is_added_runs_and_shows_its_last_run,
    a_schedule_runs_from_the_time_when_it_was_saved,
    edits_of_different_columns_at_the_same_time_are_all_kept,
}

const TASKS: &str = r#"
[[queues]]
name = "default"
[[queues]]
name = "second"
[tasks.cat]
command = ["cat"]
"#;

impl World {
    /// The output of `schedule … --json`.
    #[track_caller]
    fn answer(&self, arguments: &[&str]) -> Value {
        let arguments = [&["schedule"], arguments, &["--json"]].concat();
        let (code, out, err) = self.run(&arguments);
        assert_eq!(code, 0, "{arguments:?}: {err}");
        serde_json::from_str(&out).unwrap()
    }

    /// Fails unless `schedule …` is refused with this exit code; its error.
    #[track_caller]
    fn refused(&self, code: i32, arguments: &[&str]) -> String {
        let (exit, out, err) = self.run(&[&["schedule"], arguments].concat());
        assert_eq!((exit, out.as_str()), (code, ""), "{arguments:?}: {err}");
        err
    }

    /// The names of all schedules.
    fn names(&self) -> Vec<Value> {
        let list = self.answer(&["list"]);
        let names = list.as_array().unwrap().iter();
        names.map(|schedule| schedule["name"].clone()).collect()
    }

    /// Inserts the rows that django-carrot wrote, with only its own columns.
    fn insert_django_schedules(&self) {
        for row in captured::schedule_rows() {
            self.insert_into("carrot_scheduledtask", &row);
        }
    }
}

fn a_schedule_that_is_added_is_listed_and_shown(database: Database) {
    let world = World::on(database, TASKS);
    assert_eq!(world.answer(&["list"]), json!([]));
    let added = world.answer(&[
        "add",
        "nightly ž",
        "cat",
        "--cron",
        " 30 3 * * 1-5 ",
        "--timezone",
        "Europe/Berlin",
        "--args",
        "[1, \"it's\", null, [true, {\"a\": 2.5}]]",
        "--kwargs",
        "{\"draft\": true}",
        "--queue",
        "second",
        "--priority",
        "7",
        "--missed",
        "skip",
        "--overlap",
        "skip",
    ]);
    let expected = json!({
        "id": added["id"], "name": "nightly ž", "task": "cat",
        "args": [1, "it's", null, [true, {"a": 2.5}]], "kwargs": {"draft": true},
        "queue": "second", "exchange": null, "routing_key": "second", "priority": 7,
        "active": true, "interval_type": null, "interval_count": null,
        "cron": "30 3 * * 1-5", "timezone": "Europe/Berlin",
        "missed": "skip", "overlap": "skip",
        "next_run": added["next_run"], "last_run": null, "problem": null,
    });
    assert_eq!(added, expected);
    assert!(text(&added, "next_run").ends_with(":30:00Z"), "{added}");
    assert_eq!(world.answer(&["list"]), json!([expected]));
    let row = &world.rows("SELECT * FROM carrot_scheduledtask")[0];
    // The row is as django-carrot reads it.
    assert_eq!(row["task_args"], "1, \"it's\", None, [True, {'a': 2.5}]");
    assert_eq!(row["content"], "{\"draft\":true}");
    assert_eq!(
        (&row["interval_type"], &row["interval_count"]),
        (&json!("days"), &json!(1))
    );

    let shown = world.answer(&["show", "nightly ž"]);
    let runs = shown["next_runs"].as_array().unwrap();
    assert_eq!(runs.len(), 10);
    assert_eq!(runs[0]["utc"], added["next_run"]);
    for run in runs {
        assert!(text(run, "local").contains("T03:30:00+0"), "{run}");
        let moment = |column| chrono::DateTime::parse_from_rfc3339(text(run, column)).unwrap();
        assert_eq!(moment("local"), moment("utc"));
    }
}

fn a_schedule_runs_from_the_time_when_it_was_saved(database: Database) {
    let world = World::on(database, TASKS);
    let anchor_and_next = || {
        let row = &world.rows("SELECT anchor, next_run FROM carrot_scheduledtask")[0];
        ["anchor", "next_run"].map(|column| milliseconds(row, column))
    };
    let reckoned = |command: &[&str], interval: i64| {
        let saved = world.answer(command);
        let [anchor, next] = anchor_and_next();
        assert_eq!(next, anchor + interval);
        let said = chrono::DateTime::parse_from_rfc3339(text(&saved, "next_run")).unwrap();
        assert_eq!(said.timestamp_millis(), next);
    };
    reckoned(&["add", "tick", "cat", "--every", "1h"], 3_600_000);
    reckoned(&["edit", "tick", "--every", "2h"], 7_200_000);
    world.answer(&["disable", "tick"]);
    world.answer(&["edit", "tick", "--every", "1s"]);
    // Occurrences before it was enabled are not missed.
    world.execute(&format!(
        "UPDATE carrot_scheduledtask SET anchor = {}",
        database.ago(10)
    ));
    world.answer(&["enable", "tick"]);
    let [anchor, next] = anchor_and_next();
    assert!(next > anchor + 10_000);
    let _running = world.start(&[]);
    let rows = "SELECT planned_time FROM carrot_messagelog ORDER BY planned_time";
    let first = eventually("an occurrence is published", || {
        world.rows(rows).into_iter().next()
    });
    assert!(milliseconds(&first, "planned_time") >= next);
}

fn an_edit_changes_only_the_given_columns(database: Database) {
    let world = World::on(database, TASKS);
    let cron = ["--cron", "30 3 * * *", "--args", "[1]", "--priority", "7"];
    let mut expected = world.answer(&[&["add", "daily", "cat"], &cron[..]].concat());
    let edited = world.answer(&["edit", "daily", "--priority", "0", "--name", "nightly"]);
    expected["priority"] = json!(0);
    expected["name"] = json!("nightly");
    assert_eq!(edited, expected);
    let edited = world.answer(&["edit", "nightly", "--every", "90m", "--args", "[]"]);
    for (key, value) in [
        ("cron", Value::Null),
        ("interval_type", json!("minutes")),
        ("interval_count", json!(90)),
        ("args", json!([])),
        ("next_run", edited["next_run"].clone()),
    ] {
        expected[key] = value;
    }
    assert_eq!(edited, expected);

    let disabled = world.answer(&["disable", "nightly"]);
    assert_eq!(
        (&disabled["active"], &disabled["next_run"]),
        (&json!(false), &Value::Null)
    );
    assert_eq!(
        world.answer(&["show", "nightly"])["next_runs"]
            .as_array()
            .unwrap()
            .len(),
        10
    );
    let enabled = world.answer(&["enable", "nightly"]);
    assert_eq!(enabled["active"], true);
    // A schedule can also be named by its id.
    let id = expected["id"].to_string();
    assert_eq!(world.answer(&["remove", &id])["name"], "nightly");
    assert_eq!(world.answer(&["list"]), json!([]));
}

fn rows_that_django_wrote_are_listed_shown_and_edited(database: Database) {
    let world = World::of_django(database, TASKS);
    world.insert_django_schedules();
    let list = world.answer(&["list"]);
    let of = |key: &str| -> Vec<Value> {
        let list = list.as_array().unwrap().iter();
        list.map(|schedule| schedule[key].clone()).collect()
    };
    assert_eq!(
        of("name"),
        ["every five seconds", "app.tasks.hello", "hourly", "daily"]
    );
    assert_eq!(of("interval_type"), ["seconds", "minutes", "hours", "days"]);
    assert_eq!(of("interval_count"), [5, 2, 1, 1]);
    assert_eq!(
        of("args"),
        [json!([]), json!([]), json!([1, "x", true]), json!([])]
    );
    assert_eq!(
        of("kwargs"),
        [
            json!({"hello": true}),
            json!({}),
            json!({}),
            json!({"a": [1, 2]})
        ]
    );
    assert_eq!(of("problem"), vec![Value::Null; 4]);
    assert!(of("next_run").iter().all(Value::is_string), "{list}");
    assert_eq!(of("missed"), ["run_once"; 4]);

    let (code, out, err) = world.run(&["schedule", "show", "hourly"]);
    assert_eq!(code, 0, "{err}");
    assert!(
        out.contains("every 1 hour\n") && out.contains("[1,\"x\",true]"),
        "{out}"
    );
    let before = world.rows("SELECT * FROM carrot_scheduledtask WHERE id = 3");
    world.answer(&["edit", "hourly", "--queue", "second"]);
    let after = world.rows("SELECT * FROM carrot_scheduledtask WHERE id = 3");
    for column in [
        "interval_type",
        "interval_count",
        "task",
        "task_args",
        "content",
        "task_name",
    ] {
        assert_eq!(after[0][column], before[0][column], "{column}");
    }
    assert_eq!(
        (&after[0]["queue"], &after[0]["routing_key"]),
        (&json!("second"), &json!("second"))
    );
    world.answer(&[
        "edit",
        "daily",
        "--cron",
        "@daily",
        "--timezone",
        "Asia/Kathmandu",
    ]);
    let shown = world.answer(&["show", "daily"]);
    assert!(text(&shown, "next_run").ends_with("T18:15:00Z"), "{shown}");

    // Two schedules have the same name, and one has none.
    world.execute(
        "UPDATE carrot_scheduledtask SET task_name = 'hourly' WHERE id = 4; \
         UPDATE carrot_scheduledtask SET task_name = NULL WHERE id = 2;",
    );
    let told = world.refused(65, &["disable", "hourly"]);
    assert!(told.contains("say which one by its id, 3 or 4"), "{told}");
    assert_eq!(world.answer(&["disable", "4"])["active"], false);
    assert_eq!(world.answer(&["show", "2"])["name"], Value::Null);
    assert_eq!(world.run(&["schedule", "list"]).0, 0);
}

fn a_schedule_can_be_run_outside_of_its_timetable(database: Database) {
    let world = World::on(database, TASKS);
    world.answer(&[
        "add",
        "report",
        "cat",
        "--every",
        "1d",
        "--args",
        "[1]",
        "--kwargs",
        "{\"a\": \"b\"}",
        "--queue",
        "second",
        "--priority",
        "3",
        "--disabled",
    ]);
    let _running = world.start(&[]);
    let (code, out, err) = world.run(&["schedule", "run", "report"]);
    assert_eq!(code, 0, "{err}");
    let other = world.answer(&["run", "report"]);
    for uuid in [out.trim(), text(&other, "uuid")] {
        let row = world.ended(uuid);
        assert_eq!(row["status"], "COMPLETED", "{row}");
        assert_eq!(
            (&row["queue"], &row["priority"]),
            (&json!("second"), &json!(3))
        );
        let given: Value = serde_json::from_str(text(&row, "output")).unwrap();
        assert_eq!(
            (&given["args"], &given["kwargs"]),
            (&json!([1]), &json!({"a": "b"}))
        );
    }
    // It is still disabled.
    assert_eq!(world.answer(&["show", "report"])["active"], false);
}

fn a_schedule_that_is_added_runs_and_shows_its_last_run(database: Database) {
    let world = World::on(database, TASKS);
    let _running = world.start(&[]);
    world.answer(&[
        "add",
        "tick",
        "cat",
        "--every",
        "1s",
        "--args",
        "[\"of tick\"]",
    ]);
    let shown = eventually("the schedule has run", || {
        let shown = world.answer(&["show", "tick"]);
        shown["last_run"].is_string().then_some(shown)
    });
    assert_eq!(shown["problem"], Value::Null);
    world.await_completed(1);
    world.answer(&["remove", "tick"]);
    let row = &world.rows("SELECT * FROM carrot_messagelog WHERE status = 'COMPLETED'")[0];
    assert!(text(row, "output").contains("of tick"), "{row}");
}

fn edits_of_different_columns_at_the_same_time_are_all_kept(database: Database) {
    let world = World::on(database, TASKS);
    world.answer(&["add", "tick", "cat", "--every", "5m"]);
    let edits = [
        ("priority", ["--priority", "7"], json!(7)),
        ("queue", ["--queue", "second"], json!("second")),
        ("missed", ["--missed", "skip"], json!("skip")),
        ("overlap", ["--overlap", "skip"], json!("skip")),
        ("args", ["--args", "[1]"], json!([1])),
        ("interval_count", ["--every", "7m"], json!(7)),
    ];
    std::thread::scope(|scope| {
        for (_, edit, _) in &edits {
            let world = &world;
            scope.spawn(move || world.answer(&[&["edit", "tick"], &edit[..]].concat()));
        }
    });
    let shown = world.answer(&["show", "tick"]);
    for (key, _, value) in edits {
        assert_eq!(shown[key], value, "{shown}");
    }
}

#[test]
fn an_edit_restarts_an_interval_only_if_it_changes_the_interval() {
    let world = World::new(TASKS);
    world.answer(&["add", "tick", "cat", "--every", "1h"]);
    let anchor = |world: &World| world.rows("SELECT anchor FROM carrot_scheduledtask")[0].clone();
    let first = anchor(&world);
    world.answer(&["edit", "tick", "--queue", "second", "--every", "60m"]);
    world.answer(&["disable", "tick"]);
    world.answer(&["enable", "tick"]);
    assert_eq!(anchor(&world), first);
    world.answer(&["edit", "tick", "--every", "2h"]);
    assert_ne!(anchor(&world), first);
}
