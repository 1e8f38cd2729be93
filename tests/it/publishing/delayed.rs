//! Messages that are sent for later. They wait in the database, not in the broker.

use serde_json::Value;

use crate::support::{Database, World, cases, milliseconds, outcome};

cases! { on every_database:
    a_delayed_message_is_published_when_it_is_due_and_not_before,
    a_delayed_message_outlives_the_services_that_ran_when_it_was_sent,
}

const TASKS: &str = r#"
[[queues]]
name = "default"
[tasks.cat]
command = ["cat"]
"#;

const CLOSED_BROKER: &str = "amqp://guest:guest@127.0.0.1:1/";

impl World {
    /// The database's time, in milliseconds.
    fn now(&self) -> i64 {
        let now = self.database.ago(0);
        milliseconds(&self.rows(&format!("SELECT {now} AS now"))[0], "now")
    }

    #[track_caller]
    fn message(&self, uuid: &str) -> Value {
        self.find(uuid).unwrap()
    }
}

fn a_delayed_message_is_published_when_it_is_due_and_not_before(database: Database) {
    let world = World::on(database, TASKS);
    let _running = world.start(&[]);
    let before = world.now();
    let late = world.send(&["cat", "late", "--delay", "1500ms"]);
    let later = world.now();
    let past = world.send(&["cat", "--at", "2020-02-29T12:00:00+01:00"]);
    let row = world.ended(&late);
    assert_eq!(row["status"], "COMPLETED", "{row}");
    // `publish_time` is the time when it was to be published.
    let due = milliseconds(&row, "publish_time");
    assert!((before + 1500..=later + 1500).contains(&due), "{row}");
    assert!(milliseconds(&row, "completion_time") >= due, "{row}");
    assert_eq!(world.ended(&past)["status"], "COMPLETED");
}

fn a_delayed_message_outlives_the_services_that_ran_when_it_was_sent(database: Database) {
    let world = World::on(database, TASKS);
    let mut send = world.command(&["send", "cat", "--delay", "1h", "--priority", "9"]);
    // Recording it needs no broker.
    let (code, out, err) = outcome(send.env("CARROT_DEFAULT_BROKER", CLOSED_BROKER));
    assert_eq!((code, err.as_str()), (0, ""));
    let uuid = out.trim();
    assert_eq!(world.run(&["--testmode", "--logfile", "carrot.log"]).0, 0);
    assert_eq!(world.message(uuid)["status"], "PENDING");
    let due = milliseconds(&world.message(uuid), "due_time");
    assert!(due > world.now() + 50 * 60 * 1000);

    // Let the hour pass:
    world.execute(&format!(
        "UPDATE carrot_messagelog SET due_time = {}",
        database.ago(0)
    ));
    let _running = world.start(&[]);
    let row = world.ended(uuid);
    assert_eq!(
        (&row["status"], &row["priority"]),
        (&"COMPLETED".into(), &9.into())
    );
}

#[test]
fn a_time_may_be_given_in_a_time_zone() {
    let world = World::new(TASKS);
    let due = |arguments: &[&str]| {
        let uuid = world.send(&[&["cat"], arguments].concat());
        milliseconds(&world.message(&uuid), "due_time")
    };
    let there = due(&["--at", "2099-07-31 18:00", "--timezone", "America/New_York"]);
    let utc = due(&["--at", "2099-07-31T22:00:00Z"]);
    assert_eq!(there, utc);
    assert_eq!(utc, 4_089_218_400_000);
}

#[test]
fn an_invalid_time_is_refused_and_nothing_is_recorded() {
    let world = World::new(TASKS);
    for (arguments, code, why) in [
        (&["--delay", "soon"][..], 65, "--delay must be a duration"),
        (&["--delay=-5s"], 65, "--delay must be"),
        (&["--at", "tomorrow"], 65, "2027-01-31T18:00:00Z"),
        (&["--at", "2027-01-31 18:00"], 65, "has no time zone"),
        (
            &["--at", "2027-01-31 18:00", "--timezone", "berlin"],
            65,
            "Europe/Berlin?",
        ),
        (
            &["--delay", "5s", "--at", "2027-01-31T18:00:00Z"],
            64,
            "cannot be used with",
        ),
        (&["--timezone", "UTC"], 64, "--at"),
    ] {
        let (exit, out, err) = world.run(&[&["send", "cat"], arguments].concat());
        assert_eq!((exit, out.as_str()), (code, ""), "{arguments:?}: {err}");
        assert!(err.contains(why), "{err}");
    }
    assert_eq!(world.rows("SELECT uuid FROM carrot_messagelog").len(), 0);
}
