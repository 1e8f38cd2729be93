//! Schedules that django-carrot wrote.

use serde_json::{Value, json};

use super::{stop, world};
use crate::support::{Database, World, captured, cases, text};

cases! { on every_database:
    schedules_of_django_are_published_as_django_would,
    an_invalid_row_is_reported_once_and_holds_up_no_other,
    invalid_rows_whose_timetables_are_changed_hold_up_no_other,
    rows_that_an_older_version_refused_run_and_rows_that_a_newer_one_planned_stay,
}

/// The queue is not consumed, so that the messages stay as they were published.
const CONFIG: &str = "[[queues]]\nname = 'default'\nconsumable = false\n";

fn schedules_of_django_are_published_as_django_would(database: Database) {
    let world = World::of_django(database, CONFIG);
    let rows = captured::schedule_rows();
    let ids: Vec<i64> = rows
        .iter()
        .map(|row| {
            let id = world.insert_schedule(row);
            world.make_due_since(id, 1);
            id
        })
        .collect();
    let service = world.launch(&[], "");
    service.await_log("found 4 scheduled tasks to run");
    assert!(service.output().contains("found 4 scheduled tasks to run"));

    let bodies = [
        json!({"kwargs": {"hello": true}}),
        json!({}),
        // Keep the types of the arguments. django-carrot makes strings of all, which is a defect.
        json!({"args": [1, "x", true]}),
        json!({"kwargs": {"a": [1, 2]}}),
    ];
    let task_args = ["()", "()", "(1, 'x', True)", "()"];
    for (nth, id) in ids.iter().enumerate() {
        let row = world.await_occurrences(*id, 1).remove(0);
        let key = text(&row, "uuid");
        for (column, value) in [
            ("exchange", json!("")),
            ("queue", json!("default")),
            ("routing_key", json!("default")),
            ("priority", json!(0)),
            ("task", rows[nth]["task"].clone()),
            ("task_args", json!(task_args[nth])),
        ] {
            assert_eq!(row[column], value, "{column}: {row}");
        }
        let kwargs: Value = serde_json::from_str(text(&row, "content")).unwrap();
        let expected = bodies[nth].get("kwargs").cloned().unwrap_or(json!({}));
        assert_eq!(kwargs, expected);
        crate::support::eventually("it is published", || {
            world.find(key).unwrap()["status"] == "PUBLISHED"
        });
    }
    stop(vec![service]);
    let messages = world.take_all("default");
    assert!(messages.len() >= 4);
    for (id, body) in ids.iter().zip(bodies) {
        let row = world.occurrences(*id).remove(0);
        let message = &messages[text(&row, "uuid")];
        let sent: Value = serde_json::from_slice(&message.body).unwrap();
        assert_eq!(sent, body);
        let properties = &message.properties;
        assert_eq!(properties.type_().as_deref(), Some("django-carrot message"));
        assert_eq!(properties.priority().unwrap_or_default(), 0);
        assert_eq!(
            properties.content_type().as_deref(),
            Some("application/json")
        );
    }
}

fn an_invalid_row_is_reported_once_and_holds_up_no_other(database: Database) {
    let world = world(database);
    world.refuse("task", "indecent");
    let insert = |name: &str, task: &str, others: Value| {
        world.insert_schedule(&super::row(name, task, 1, &others))
    };
    let bad = [
        insert("bad type", "note", json!({"interval_type": "fortnights"})),
        insert("bad count", "note", json!({"interval_count": 0})),
        insert("bad line", "note", json!({"cron": "61 * * * *"})),
        insert("bad args", "note", json!({"task_args": "1, open("})),
        insert("bad content", "note", json!({"content": "[1]"})),
        insert("bad policy", "note", json!({"missed": "rub_once"})),
        insert(
            "no queue",
            "note",
            json!({"queue": "", "routing_key": null}),
        ),
    ];
    let refused = insert("refused", "indecent", json!({}));
    let good = insert("good", "note", json!({}));
    let services = vec![world.start(&[]), world.start(&[])];

    world.await_occurrences(good, 4);

    let logs: String = services.iter().map(|service| service.log()).collect();
    for id in bad {
        assert_eq!(world.occurrences(id), [] as [Value; 0]);
        let row = world.schedule_row(id);
        assert!(!text(&row, "refusal").is_empty(), "{row}");
        let line = format!(
            "schedule {id} ({:?}) does not run: ",
            text(&row, "task_name")
        );
        assert_eq!(logs.matches(&line).count(), 1, "{line}");
        assert!(logs.contains(&format!("{line}{}", text(&row, "refusal"))));
    }
    assert_eq!(world.occurrences(refused), [] as [Value; 0]);
    for service in &services {
        service.await_log("(\"refused\") is held back");
        assert_eq!(service.log().matches("is held back").count(), 1);
    }
    let row = world.schedule_row(refused);
    let why = text(&row, "refusal");
    assert!(
        why.starts_with("the database refuses its record: "),
        "{why}"
    );
    let (_, out, _) = world.run(&["schedule", "show", "refused", "--json"]);
    let shown: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(shown["problem"], why);
    // A row that is valid again runs, within a second if its timetable was invalid.
    let name = "UPDATE carrot_scheduledtask SET";
    world.execute(&format!(
        "{name} interval_type = 'seconds' WHERE id = {}; {name} task_args = '1' WHERE id = {}",
        bad[0], bad[3]
    ));
    for id in [bad[0], bad[3]] {
        world.await_occurrences(id, 1);
        assert!(world.schedule_row(id)["refusal"].is_null());
    }
    stop(services);
    world.execute(&format!("{name} task = 'note' WHERE id = {refused}"));
    let (_, out, _) = world.run(&["schedule", "enable", "refused", "--json"]);
    let shown: Value = serde_json::from_str(&out).unwrap();
    assert!(shown["problem"].is_null(), "{out}");
    let service = world.start(&[]);
    world.await_occurrences(refused, 1);
    assert!(world.schedule_row(refused)["refusal"].is_null());
    stop(vec![service]);
}

fn invalid_rows_whose_timetables_are_changed_hold_up_no_other(database: Database) {
    const REFUSED: usize = 8;
    let world = world(database);
    world.refuse("task", "indecent");
    let insert = |name: &str, task: &str| {
        world.insert_schedule(&super::row(name, task, 3600, &json!({"missed": "run_all"})))
    };
    let refused: Vec<i64> = (0..REFUSED)
        .map(|nth| insert(&format!("refused {nth}"), "indecent"))
        .collect();
    let overdue = insert("overdue", "note");
    for id in refused.iter().chain([&overdue]) {
        world.make_due_since(*id, 60);
    }
    // A run that was due by the old timetable is published when the new one is computed.
    world.execute("UPDATE carrot_scheduledtask SET interval_count = 7200");
    let new = world.insert_schedule(&super::row("new", "note", 1, &json!({})));
    let service = world.start(&[]);
    world.await_occurrences(new, 2);
    world.await_occurrences(overdue, 1);
    for id in refused {
        service.await_log(&format!("schedule {id} (\"refused "));
        assert_eq!(world.occurrences(id), [] as [Value; 0]);
    }
    assert_eq!(service.log().matches("is held back").count(), REFUSED);
    stop(vec![service]);
}

fn rows_that_an_older_version_refused_run_and_rows_that_a_newer_one_planned_stay(
    database: Database,
) {
    let world = world(database);
    let insert =
        |name: &str, others: Value| world.insert_schedule(&super::row(name, "note", 1, &others));
    let refused = insert("refused", json!({}));
    let newer = insert("newer", json!({"interval_type": "fortnights"}));
    let good = insert("good", json!({}));
    for id in [refused, newer] {
        world.make_due_since(id, 60);
    }
    world.execute(&format!(
        "UPDATE carrot_scheduledtask SET next_run = NULL, refusal = 'seconds are not known' \
         WHERE id = {refused}"
    ));
    let left = world.schedule_row(newer);
    let service = world.start(&[]);
    world.await_occurrences(refused, 2);
    world.await_occurrences(good, 2);
    assert!(world.schedule_row(refused)["refusal"].is_null());
    service.await_log("(\"refused\") runs again");
    service
        .await_log("(\"newer\") is held back: this version of the service can't compute its runs");
    assert_eq!(service.log().matches("is held back").count(), 1);
    assert_eq!(world.schedule_row(newer), left);
    stop(vec![service]);
}
