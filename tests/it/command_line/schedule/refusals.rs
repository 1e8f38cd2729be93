//! What `schedule` refuses, and its errors.

use serde_json::{Value, json};

use super::TASKS;
use crate::support::{World, text};

#[test]
fn an_invalid_schedule_is_refused_with_the_reason_and_not_saved() {
    let world = World::new(TASKS);
    world.answer(&["add", "there", "cat", "--every", "5m"]);
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
    world.answer(&["add", "other", "cat", "--every", "5m"]);
    let told = world.refused(65, &["edit", "other", "--name", "there"]);
    assert!(
        told.contains("there is a schedule \"there\" already"),
        "{told}"
    );
    assert_eq!(world.names(), ["there", "other"]);
    let there = world.answer(&["show", "there"]);
    assert_eq!(
        (&there["interval_type"], &there["interval_count"]),
        (&json!("minutes"), &json!(5))
    );
}

#[test]
fn an_unknown_name_is_refused_with_similar_names() {
    let world = World::new(TASKS);
    let told = world.refused(65, &["show", "nightly"]);
    assert!(
        told.contains("there is no schedule \"nightly\"; there is none yet"),
        "{told}"
    );
    for name in ["nightly", "nightly report", "hourly"] {
        world.answer(&["add", name, "cat", "--every", "5m"]);
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
fn a_schedule_that_can_not_run_shows_why_and_can_be_repaired() {
    let world = World::new(TASKS);
    for name in ["line", "zone", "arguments", "interval", "policy"] {
        world.answer(&["add", name, "cat", "--every", "5m"]);
    }
    // Other programs may write such rows.
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
        let shown = world.answer(&["show", name]);
        assert!(text(&shown, "problem").contains(why), "{shown}");
        assert_eq!(shown["next_run"], Value::Null);
        // Other columns can be edited, with a warning that the schedule will not run.
        let (code, _, err) = world.run(&["schedule", "edit", name, "--priority", "1"]);
        assert_eq!(code, 0, "{err}");
        assert!(
            err.contains("it will not run") && err.contains(why),
            "{err}"
        );
        let told = world.refused(65, &["enable", name]);
        assert!(told.contains(why), "{told}");
        let edited = world.answer(&[&["edit", name], &right[..]].concat());
        assert_eq!(edited["problem"], Value::Null);
        assert!(edited["next_run"].is_string(), "{edited}");
    }
}
