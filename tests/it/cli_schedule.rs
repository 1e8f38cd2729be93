//! The command line: `schedule`.

use serde_json::{Value, json};

use crate::support::{Database, World, eventually, on_every_database, text};

on_every_database! {
    a_schedule_that_is_added_is_listed_shown_and_changed,
    rows_that_django_wrote_are_listed_shown_and_edited,
    a_schedule_is_run_beside_its_timetable,
    a_schedule_that_is_added_runs_and_says_when_it_did,
    edits_at_once_of_different_things_all_hold,
}

const ROWS: &str = include_str!("../fixtures/django-carrot/scheduledtask_rows.json");

const TASKS: &str = r#"
[[queues]]
name = "default"
[[queues]]
name = "second"
[tasks.cat]
command = ["cat"]
"#;

impl World {
    /// What `schedule … --json` prints.
    #[track_caller]
    fn schedule(&self, arguments: &[&str]) -> Value {
        let arguments = [&["schedule"], arguments, &["--json"]].concat();
        let (code, out, err) = self.run(&arguments);
        assert_eq!(code, 0, "{arguments:?}: {err}");
        serde_json::from_str(&out).unwrap()
    }

    /// Has `schedule …` refused, with this exit code: what it says.
    #[track_caller]
    fn refused(&self, code: i32, arguments: &[&str]) -> String {
        let (exit, out, err) = self.run(&[&["schedule"], arguments].concat());
        assert_eq!((exit, out.as_str()), (code, ""), "{arguments:?}: {err}");
        err
    }

    /// The ids and names of all.
    fn names(&self) -> Vec<Value> {
        let list = self.schedule(&["list"]);
        let names = list.as_array().unwrap().iter();
        names.map(|schedule| schedule["name"].clone()).collect()
    }

    /// Inserts the rows that django-carrot wrote, naming its own columns.
    fn insert_django_schedules(&self) {
        let rows: Vec<Value> = serde_json::from_str(ROWS).unwrap();
        for row in rows {
            let row = row.as_object().unwrap();
            let columns: Vec<&str> = row.keys().map(String::as_str).collect();
            let values = row.values().map(|value| self.database.literal(value));
            self.execute(&format!(
                "INSERT INTO carrot_scheduledtask ({}) VALUES ({})",
                columns.join(", "),
                values.collect::<Vec<_>>().join(", ")
            ));
        }
    }
}

fn a_schedule_that_is_added_is_listed_shown_and_changed(database: Database) {
    let world = World::on(database, TASKS);
    assert_eq!(world.schedule(&["list"]), json!([]));
    let added = world.schedule(&[
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
    let mut expected = json!({
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
    assert_eq!(world.schedule(&["list"]), json!([expected]));
    let row = &world.rows("SELECT * FROM carrot_scheduledtask")[0];
    // As django-carrot reads them.
    assert_eq!(row["task_args"], "1, \"it's\", None, [True, {'a': 2.5}]");
    assert_eq!(row["content"], "{\"draft\":true}");
    assert_eq!(
        (&row["interval_type"], &row["interval_count"]),
        (&json!("days"), &json!(1))
    );

    let shown = world.schedule(&["show", "nightly ž"]);
    let runs = shown["next_runs"].as_array().unwrap();
    assert_eq!(runs.len(), 10);
    assert_eq!(runs[0]["utc"], added["next_run"]);
    for run in runs {
        assert!(text(run, "local").contains("T03:30:00+0"), "{run}");
        let moment = |column| chrono::DateTime::parse_from_rfc3339(text(run, column)).unwrap();
        assert_eq!(moment("local"), moment("utc"));
    }

    // Only what is given changes.
    let edited = world.schedule(&["edit", "nightly ž", "--priority", "0", "--name", "nightly"]);
    expected["priority"] = json!(0);
    expected["name"] = json!("nightly");
    assert_eq!(edited, expected);
    let edited = world.schedule(&["edit", "nightly", "--every", "90m", "--args", "[]"]);
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

    let disabled = world.schedule(&["disable", "nightly"]);
    assert_eq!(
        (&disabled["active"], &disabled["next_run"]),
        (&json!(false), &Value::Null)
    );
    assert_eq!(
        world.schedule(&["show", "nightly"])["next_runs"]
            .as_array()
            .unwrap()
            .len(),
        10
    );
    let enabled = world.schedule(&["enable", "nightly"]);
    assert_eq!(enabled["active"], true);
    // Also by its id.
    let id = added["id"].to_string();
    assert_eq!(world.schedule(&["remove", &id])["name"], "nightly");
    assert_eq!(world.schedule(&["list"]), json!([]));
}

fn rows_that_django_wrote_are_listed_shown_and_edited(database: Database) {
    let world = World::of_django(database, TASKS);
    world.insert_django_schedules();
    let list = world.schedule(&["list"]);
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
    world.schedule(&["edit", "hourly", "--queue", "second"]);
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
    world.schedule(&[
        "edit",
        "daily",
        "--cron",
        "@daily",
        "--timezone",
        "Asia/Kathmandu",
    ]);
    let shown = world.schedule(&["show", "daily"]);
    assert!(text(&shown, "next_run").ends_with("T18:15:00Z"), "{shown}");

    // Names that are not one, and none.
    world.execute(
        "UPDATE carrot_scheduledtask SET task_name = 'hourly' WHERE id = 4; \
         UPDATE carrot_scheduledtask SET task_name = NULL WHERE id = 2;",
    );
    let told = world.refused(65, &["disable", "hourly"]);
    assert!(told.contains("say which one by its id, 3 or 4"), "{told}");
    assert_eq!(world.schedule(&["disable", "4"])["active"], false);
    assert_eq!(world.schedule(&["show", "2"])["name"], Value::Null);
    assert_eq!(world.run(&["schedule", "list"]).0, 0);
}

fn a_schedule_is_run_beside_its_timetable(database: Database) {
    let world = World::on(database, TASKS);
    world.schedule(&[
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
    let other = world.schedule(&["run", "report"]);
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
    // It is as disabled as before.
    assert_eq!(world.schedule(&["show", "report"])["active"], false);
}

fn a_schedule_that_is_added_runs_and_says_when_it_did(database: Database) {
    let world = World::on(database, TASKS);
    let _running = world.start(&[]);
    world.schedule(&[
        "add",
        "tick",
        "cat",
        "--every",
        "1s",
        "--args",
        "[\"of tick\"]",
    ]);
    let shown = eventually("a run", || {
        let shown = world.schedule(&["show", "tick"]);
        shown["last_run"].is_string().then_some(shown)
    });
    assert_eq!(shown["problem"], Value::Null);
    world.await_completed(1);
    world.schedule(&["remove", "tick"]);
    let row = &world.rows("SELECT * FROM carrot_messagelog WHERE status = 'COMPLETED'")[0];
    assert!(text(row, "output").contains("of tick"), "{row}");
}

fn edits_at_once_of_different_things_all_hold(database: Database) {
    let world = World::on(database, TASKS);
    world.schedule(&["add", "tick", "cat", "--every", "5m"]);
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
            scope.spawn(move || world.schedule(&[&["edit", "tick"], &edit[..]].concat()));
        }
    });
    let shown = world.schedule(&["show", "tick"]);
    for (key, _, value) in edits {
        assert_eq!(shown[key], value, "{shown}");
    }
}

#[test]
fn what_can_not_be_is_refused_with_the_reason_and_saved_nowhere() {
    let world = World::new(TASKS);
    world.schedule(&["add", "there", "cat", "--every", "5m"]);
    let deep = format!("{}{}", "[".repeat(127), "]".repeat(127));
    for (options, why) in [
        (["--cron", "0 0 30 2 *"], "\"0 0 30 2 *\" never fires"),
        (
            ["--cron", "0 0 0 1 1 * 2001"],
            "never fires again: all its times are past",
        ),
        (["--cron", "*/0 * * * *"], "has a step of 0"),
        (["--cron", "* * * *"], "it has 4 fields"),
        (
            ["--timezone", "Europe/Berln"],
            "did you mean Europe/Berlin?",
        ),
        (["--every", "5"], "--every: \"5\": an interval is"),
        (["--every", "0s"], "--every: \"0s\": an interval is"),
        (["--args", "{}"], "--args must be a JSON array"),
        (["--args", &deep], "126 brackets"),
        (["--kwargs", "[]"], "--kwargs must be a JSON object"),
        (["--queue", ""], "--queue must be a name"),
    ] {
        let timetable = ["--every", "5m"];
        let complete = matches!(options[0], "--cron" | "--every");
        let timetable = if complete { &[] } else { &timetable[..] };
        for command in [&["add", "new", "cat"][..], &["edit", "there"]] {
            let told = world.refused(65, &[command, &options, timetable].concat());
            assert!(told.contains(why), "{told}");
        }
    }
    for usage in [
        &["add", "new", "cat"][..],
        &["add", "new", "cat", "--every", "5m", "--cron", "@daily"],
        &["add", "new", "cat", "--every", "5m", "--missed", "never"],
        &["add", "new", "cat", "--every", "5m", "--priority", "256"],
        &["edit", "there"],
        &["show"],
    ] {
        world.refused(64, usage);
    }
    let told = world.refused(65, &["add", "there", "cat", "--every", "5m"]);
    assert!(
        told.contains("there is a schedule \"there\" already"),
        "{told}"
    );
    world.schedule(&["add", "other", "cat", "--every", "5m"]);
    let told = world.refused(65, &["edit", "other", "--name", "there"]);
    assert!(
        told.contains("there is a schedule \"there\" already"),
        "{told}"
    );
    assert_eq!(world.names(), ["there", "other"]);
    let there = world.schedule(&["show", "there"]);
    assert_eq!(
        (&there["interval_type"], &there["interval_count"]),
        (&json!("minutes"), &json!(5))
    );
}

#[test]
fn a_name_that_there_is_none_of_is_told_those_near_it() {
    let world = World::new(TASKS);
    let told = world.refused(65, &["show", "nightly"]);
    assert!(
        told.contains("there is no schedule \"nightly\"; there is none yet"),
        "{told}"
    );
    for name in ["nightly", "nightly report", "hourly"] {
        world.schedule(&["add", name, "cat", "--every", "5m"]);
    }
    for command in ["show", "enable", "disable", "remove", "run"] {
        let told = world.refused(65, &[command, "nigthly"]);
        assert!(told.contains("did you mean \"nightly\"?"), "{told}");
    }
    let told = world.refused(65, &["edit", "Nightly-Report", "--every", "1h"]);
    assert!(told.contains("did you mean \"nightly report\"?"), "{told}");
    let told = world.refused(65, &["show", "99999"]);
    assert!(
        told.contains("there are \"nightly\", \"nightly report\", \"hourly\""),
        "{told}"
    );
    assert_eq!(world.names().len(), 3);
}

#[test]
fn a_row_that_can_not_run_says_why_and_can_be_put_right() {
    let world = World::new(TASKS);
    for name in ["line", "zone", "arguments", "interval", "policy"] {
        world.schedule(&["add", name, "cat", "--every", "5m"]);
    }
    // As somebody else may write them.
    world.execute(
        "UPDATE carrot_scheduledtask SET cron = 'nonsense' WHERE task_name = 'line'; \
         UPDATE carrot_scheduledtask SET cron = '@daily', time_zone = 'Mars/Olympus' \
             WHERE task_name = 'zone'; \
         UPDATE carrot_scheduledtask SET task_args = '1, open(' WHERE task_name = 'arguments'; \
         UPDATE carrot_scheduledtask SET interval_type = 'fortnights' WHERE task_name = 'interval'; \
         UPDATE carrot_scheduledtask SET missed = 'never' WHERE task_name = 'policy';",
    );
    let (code, out, err) = world.run(&["schedule", "list"]);
    assert_eq!(code, 0, "{err}");
    assert_eq!(out.matches("refused").count(), 5, "{out}");
    for (name, why, right) in [
        ("line", "it has 1 field", ["--cron", "@hourly"]),
        (
            "zone",
            "\"Mars/Olympus\" is not a time zone",
            ["--timezone", "UTC"],
        ),
        ("arguments", "task_args can't be read", ["--args", "[1]"]),
        (
            "interval",
            "\"fortnights\" is not an interval type",
            ["--every", "14d"],
        ),
        ("policy", "missed is \"never\"", ["--missed", "skip"]),
    ] {
        let shown = world.schedule(&["show", name]);
        assert!(text(&shown, "problem").contains(why), "{shown}");
        assert_eq!(shown["next_run"], Value::Null);
        // Anything else of it can be changed meanwhile; it says that this is not enough.
        let (code, _, err) = world.run(&["schedule", "edit", name, "--priority", "1"]);
        assert_eq!(code, 0, "{err}");
        assert!(
            err.contains("it will not run") && err.contains(why),
            "{err}"
        );
        let told = world.refused(65, &["enable", name]);
        assert!(told.contains(why), "{told}");
        let edited = world.schedule(&[&["edit", name], &right[..]].concat());
        assert_eq!(edited["problem"], Value::Null);
        assert!(edited["next_run"].is_string(), "{edited}");
    }
}

#[test]
fn an_interval_is_counted_on_from_where_it_was_unless_it_is_changed() {
    let world = World::new(TASKS);
    world.schedule(&["add", "tick", "cat", "--every", "1h"]);
    let anchor = |world: &World| world.rows("SELECT anchor FROM carrot_scheduledtask")[0].clone();
    let first = anchor(&world);
    world.schedule(&["edit", "tick", "--queue", "second", "--every", "60m"]);
    world.schedule(&["disable", "tick"]);
    world.schedule(&["enable", "tick"]);
    assert_eq!(anchor(&world), first);
    world.schedule(&["edit", "tick", "--every", "2h"]);
    assert_ne!(anchor(&world), first);
}

#[test]
fn help_teaches_and_the_table_is_readable() {
    let world = World::new(TASKS);
    world.schedule(&["add", "a", "cat", "--every", "5m", "--disabled"]);
    world.schedule(&["add", "a longer name", "cat", "--cron", "0 3 * * *"]);
    world.execute("UPDATE carrot_scheduledtask SET task_name = E'a\\x1b[2J' WHERE task_name = 'a'");
    let (_, out, _) = world.run(&["schedule", "list"]);
    let lines: Vec<&str> = out.lines().collect();
    assert_eq!(lines.len(), 3, "{out}");
    let column = |head: &str| lines[0].find(head).unwrap();
    assert!(
        lines[2][column("TIMETABLE")..].starts_with("0 3 * * * UTC"),
        "{out}"
    );
    assert!(lines[2][column("STATE")..].starts_with("enabled"), "{out}");
    assert!(!out.contains('\u{1b}'), "{out}");
    for help in [["schedule", "--help"], ["schedule", "help"]] {
        let (code, out, _) = world.run(&help);
        assert_eq!(code, 0);
        for word in [
            "list", "show", "add", "edit", "enable", "disable", "remove", "run", "--json",
        ] {
            assert!(out.contains(word), "{word} in {out}");
        }
    }
    let (_, out, _) = world.run(&["schedule", "add", "--help"]);
    for word in [
        "'0 3 * * 1-5'",
        "@daily",
        "run_once",
        "--timezone",
        "--overlap",
    ] {
        assert!(out.contains(word), "{word} in {out}");
    }
}
