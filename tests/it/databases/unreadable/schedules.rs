//! Schedules with values that can't be read.

use serde_json::Value;

use super::{Loose, loose, no_times};
use crate::support::{Database, Running, cases, eventually, text};

cases! { on every_database:
    schedules_with_an_invalid_next_run_hold_up_no_other_and_run_again_once_edited,
    schedules_with_a_column_that_is_not_utf8_hold_up_no_other_and_run_again_once_edited,
    a_schedule_that_can_not_be_read_is_shown_enabled_disabled_and_removed,
    a_run_that_would_overlap_is_skipped_though_the_times_of_the_previous_one_are_unreadable,
}

impl Loose {
    /// Adds a schedule that runs every second; its id.
    #[track_caller]
    fn add_every_second(&self, name: &str) -> i64 {
        let add = ["schedule", "add", name, "note", "--every", "1s", "--json"];
        let (code, out, err) = self.run(&add);
        assert_eq!(code, 0, "{err}");
        let added: Value = serde_json::from_str(&out).unwrap();
        added["id"].as_i64().unwrap()
    }

    fn count_of(&self, schedule: i64) -> u64 {
        let query =
            format!("SELECT count(*) AS n FROM carrot_messagelog WHERE schedule_id = {schedule}");
        self.rows(&query)[0]["n"].as_u64().unwrap()
    }

    /// Waits until the schedule has `more` messages more than now.
    #[track_caller]
    fn await_more(&self, schedule: i64, more: u64) {
        let before = self.count_of(schedule);
        eventually(
            &format!("{more} more messages of schedule {schedule}"),
            || self.count_of(schedule) >= before + more,
        );
    }

    #[track_caller]
    fn await_refusal(&self, schedule: i64) -> String {
        eventually(&format!("schedule {schedule} has a refusal"), || {
            let row = self.brief("carrot_scheduledtask", "refusal", schedule);
            row["refusal"].as_str().map(str::to_owned)
        })
    }

    #[track_caller]
    fn schedule(&self, arguments: &[&str]) -> String {
        let (code, out, err) = self.run(&[&["schedule"], arguments].concat());
        assert_eq!(code, 0, "{arguments:?}: {out}{err}");
        out
    }
}

/// Fails unless the log says once that the schedule does not run, and never that the database is away.
#[track_caller]
fn assert_named_once(service: &Running, schedule: i64) {
    let log = service.log();
    let named = format!("schedule {schedule} (");
    let lines = log.lines().filter(|line| line.contains(&named));
    let lines = lines.filter(|line| line.contains("can't be read"));
    assert_eq!(lines.count(), 1, "{log}");
    assert!(!log.contains("is away"), "{log}");
}

fn schedules_with_an_invalid_next_run_hold_up_no_other_and_run_again_once_edited(
    database: Database,
) {
    let world = loose(database.into());
    let good = world.add_every_second("good");
    let names = ["first", "last", "between"];
    let bad = names.map(|name| world.add_every_second(name));
    let mut service = world.start(&["--loglevel", "INFO"]);
    for id in bad {
        world.await_more(id, 1);
    }
    for (id, no_time) in bad.into_iter().zip(no_times(database)) {
        let set = format!("next_run = {no_time}");
        world.set("carrot_scheduledtask", &set, &format!("id = {id}"));
    }
    for id in bad {
        let refusal = world.await_refusal(id);
        assert!(
            refusal.starts_with("next_run can't be read: it is "),
            "{refusal}"
        );
    }
    let before = bad.map(|id| world.count_of(id));
    world.await_more(good, 3);
    assert_eq!(bad.map(|id| world.count_of(id)), before);
    let list = world.schedule(&["list"]);
    for name in names {
        let line = list.lines().find(|line| line.contains(name)).unwrap();
        assert!(
            line.contains("refused") && line.contains("next_run can't be read"),
            "{list}"
        );
    }
    world.schedule(&["edit", "first", "--priority", "3"]);
    world.schedule(&["edit", "last", "--every", "2s"]);
    world.schedule(&["enable", "between"]);
    for id in bad {
        world.await_more(id, 2);
        let row = world.brief("carrot_scheduledtask", "refusal", id);
        assert_eq!(row["refusal"], Value::Null);
        assert_named_once(&service, id);
    }
    assert_eq!(service.terminate(), 0);
}

fn schedules_with_a_column_that_is_not_utf8_hold_up_no_other_and_run_again_once_edited(
    database: Database,
) {
    let world = loose(database.into());
    let good = world.add_every_second("good");
    let bad =
        ["task_args", "content", "task"].map(|column| (column, world.add_every_second(column)));
    let named = world.add_every_second("named");
    let mut service = world.start(&["--loglevel", "INFO"]);
    for (column, id) in bad.into_iter().chain([("task_name", named)]) {
        world.await_more(id, 1);
        let set = format!("{column} = {}", world.stray());
        world.set("carrot_scheduledtask", &set, &format!("id = {id}"));
    }
    for (column, id) in bad {
        let refusal = world.await_refusal(id);
        let reason = format!("{column} can't be read: it is not UTF-8: caf\\xe9");
        assert_eq!(refusal, reason);
    }
    let before = bad.map(|(_, id)| world.count_of(id));
    world.await_more(good, 3);
    // No run needs the name of its schedule.
    world.await_more(named, 2);
    assert_eq!(bad.map(|(_, id)| world.count_of(id)), before);
    let list = world.schedule(&["list"]);
    for (column, _) in bad {
        assert!(list.contains(&format!("{column} can't be read")), "{list}");
    }
    assert!(list.contains("caf\\xe9"), "{list}");

    // A column that is not edited keeps its bytes.
    let bytes = world.bytes_of("task_args");
    world.schedule(&["edit", "task_args", "--priority", "3"]);
    let row = world.brief(
        "carrot_scheduledtask",
        &format!("{bytes} AS bytes, priority"),
        bad[0].1,
    );
    assert_eq!(
        (text(&row, "bytes"), &row["priority"]),
        ("636166e9", &3.into())
    );
    world.await_refusal(bad[0].1);

    world.schedule(&["edit", "task_args", "--args", "[1]"]);
    world.schedule(&["edit", "content", "--kwargs", "{}"]);
    world.schedule(&["edit", "task", "--task", "note"]);
    world.schedule(&["edit", &named.to_string(), "--name", "named again"]);
    for id in bad.map(|(_, id)| id).into_iter().chain([named]) {
        world.await_more(id, 2);
    }
    assert_named_once(&service, bad[1].1);
    assert_named_once(&service, bad[2].1);
    assert!(world.schedule(&["list"]).contains("named again"));
    assert_eq!(service.terminate(), 0);
}

fn a_schedule_that_can_not_be_read_is_shown_enabled_disabled_and_removed(database: Database) {
    let world = loose(database.into());
    let id = world.add_every_second("odd");
    let by_id = id.to_string();
    let set = format!(
        "task_args = {}, next_run = {no_time}, anchor = {no_time}, last_run = {no_time}",
        world.stray(),
        no_time = no_times(database)[0]
    );
    world.set("carrot_scheduledtask", &set, &format!("id = {id}"));
    let page = world.schedule(&["show", "odd"]);
    for column in ["task_args", "next_run", "anchor", "last_run"] {
        assert!(page.contains(&format!("{column}: it is ")), "{page}");
    }
    assert!(page.contains("task_args can't be read"), "{page}");
    let json: Value = serde_json::from_str(&world.schedule(&["list", "--json"])).unwrap();
    assert!(
        text(&json[0], "problem").contains("can't be read"),
        "{json}"
    );
    assert_eq!(json[0]["args"], Value::Null);

    world.schedule(&["disable", "odd"]);
    let (code, _, err) = world.run(&["schedule", "enable", "odd"]);
    assert_eq!(code, 65);
    assert!(err.contains("task_args can't be read"), "{err}");
    world.schedule(&["edit", &by_id, "--args", "[]"]);
    world.schedule(&["enable", &by_id]);
    let row = world.brief("carrot_scheduledtask", "refusal", id);
    assert_eq!(row["refusal"], Value::Null);
    let page = world.schedule(&["show", "odd"]);
    assert!(
        page.contains("next runs") && !page.contains("anchor"),
        "{page}"
    );
    let mut service = world.start(&[]);
    world.await_more(id, 1);
    assert_eq!(service.terminate(), 0);
    let set = format!("task_args = {}", world.stray());
    world.set("carrot_scheduledtask", &set, &format!("id = {id}"));
    world.schedule(&["remove", "odd"]);
    assert_eq!(world.schedule(&["list", "--json"]).trim(), "[]");
}

/// A next run in another format is read if it can only mean one time.
#[test]
fn a_next_run_in_another_format_is_read_and_logged() {
    let world = loose(Database::Sqlite.into());
    let good = world.add_every_second("good");
    let written = [
        "strftime('%Y-%m-%d %H:%M:%S+00:00', 'now', '1 second')",
        "strftime('%Y-%m-%dT%H:%M:%SZ', 'now', '1 second')",
        "strftime('%Y-%m-%d %H:%M:%S+02:00', 'now', '7201 seconds')",
        "strftime('%Y-%m-%dT%H:%M:%f-05:30', 'now', '1 second', '-19800 seconds')",
        "CAST(strftime('%Y-%m-%d %H:%M:%S', 'now', '1 second') AS blob)",
    ];
    let ids: Vec<i64> = (0..written.len())
        .map(|nth| world.add_every_second(&format!("odd {nth}")))
        .collect();
    // A run that is due in an hour is not taken before, however its text compares.
    let later = world.add_every_second("later");
    let mut service = world.start(&["--loglevel", "INFO"]);
    world.await_more(later, 1);
    for (id, written) in ids.iter().zip(written) {
        let set = format!("next_run = {written}");
        world.set("carrot_scheduledtask", &set, &format!("id = {id}"));
    }
    let set = "next_run = strftime('%Y-%m-%d %H:%M:%S-08:00', 'now', '-25200 seconds')";
    world.set("carrot_scheduledtask", set, &format!("id = {later}"));
    let before = world.count_of(later);
    for id in &ids {
        world.await_more(*id, 2);
        service.await_log(&format!("schedule {id} ("));
    }
    service.await_log(&format!("schedule {later} ("));
    world.await_more(good, 2);
    assert_eq!(world.count_of(later), before);
    let log = service.log();
    for id in ids.iter().chain([&later]) {
        let named = format!("schedule {id} (");
        let lines = log.lines().filter(|line| line.contains(&named));
        let lines = lines.filter(|line| line.contains("it is read as"));
        assert_eq!(lines.count(), 1, "{log}");
    }
    let row = world.brief("carrot_scheduledtask", "next_run, refusal", later);
    assert!(text(&row, "next_run").len() == 26, "{row}");
    assert_eq!(row["refusal"], Value::Null);
    assert_eq!(service.terminate(), 0);
}

fn a_run_that_would_overlap_is_skipped_though_the_times_of_the_previous_one_are_unreadable(
    database: Database,
) {
    let world = loose(database.into());
    let good = world.add_every_second("good");
    let skip = ["add", "skip", "hold", "--every", "1s", "--overlap", "skip"];
    world.schedule(&skip);
    let rows = world.rows("SELECT id FROM carrot_scheduledtask WHERE task_name = 'skip'");
    let id = rows[0]["id"].as_i64().unwrap();
    let mut service = world.start(&["--loglevel", "INFO"]);
    eventually("the first run is published", || world.count_of(id) == 1);
    let no_times = no_times(database);
    let message = format!("schedule_id = {id}");
    world.set(
        "carrot_messagelog",
        &format!("publish_time = {}", no_times[0]),
        &message,
    );
    for no_time in no_times {
        let set = format!("unfinished_from = {no_time}, last_run = {no_time}");
        world.set("carrot_scheduledtask", &set, &format!("id = {id}"));
        world.await_more(good, 2);
    }
    assert_eq!(world.count_of(id), 1);
    world.write("go", "");
    world.await_more(id, 2);
    assert!(!service.log().contains("is away"), "{}", service.log());
    assert_eq!(service.terminate(), 0);
}
