//! Pruning by a service, and by `carrot-actors prune`.

use serde_json::json;

use crate::support::{Database, Raw, World, captured, eventually, outcome};

const TASK: &str = r#"
[[queues]]
name = "default"
[tasks.noop]
command = ["true"]
"#;

/// A configuration with this `history`.
fn config_with(history: &str) -> String {
    format!("history = {{ {history} }}\n{TASK}")
}

impl World {
    /// Inserts `count` messages that got into this state so many hours ago.
    fn insert_past(&self, status: &str, count: usize, hours: u32) {
        let end = |of| {
            if status == of { "at" } else { "NULL" }
        };
        let (completed, failed) = (end("COMPLETED"), end("FAILED"));
        self.execute(&format!(
            "INSERT INTO carrot_messagelog (uuid, status, task, priority, queue, routing_key, \
                 publish_time, completion_time, failure_time) \
             SELECT '{status}-{hours}-' || n, '{status}', 'noop', 0, 'default', 'default', at, \
                 {completed}, {failed} \
             FROM generate_series(1, {count}) n, (SELECT now() - interval '{hours} hours' AS at) t"
        ));
    }

    /// How many messages are in each state, as in `COMPLETED 3, FAILED 1`.
    fn census(&self) -> String {
        let rows = self.rows(
            "SELECT status || ' ' || count(*) AS line FROM carrot_messagelog \
             GROUP BY status ORDER BY status",
        );
        let lines: Vec<&str> = rows
            .iter()
            .map(|row| row["line"].as_str().unwrap())
            .collect();
        lines.join(", ")
    }

    #[track_caller]
    fn await_census(&self, census: &str) {
        eventually(census, || self.census() == census);
    }
}

#[test]
fn a_service_deletes_messages_that_are_too_old_and_nothing_else() {
    let world = World::new(&config_with(
        "completed = '1h', failed = '2d', every = '1s'",
    ));
    for status in [
        "PENDING",
        "PUBLISHED",
        "IN_PROGRESS",
        "COMPLETED",
        "FAILED",
        "CANCELLED",
        "EXPIRED",
    ] {
        world.insert_past(status, 3, 3);
        world.insert_past(status, 1, 49);
    }
    let mut service = world.start(&[]);
    let uuid = world.send(&["noop"]);
    assert_eq!(world.ended(&uuid)["status"], "COMPLETED");
    world.await_census(
        "CANCELLED 4, COMPLETED 1, EXPIRED 4, FAILED 3, IN_PROGRESS 4, PENDING 4, PUBLISHED 4",
    );
    service.await_log("deleted 4 COMPLETED messages that had grown too old");
    assert!(
        service
            .log()
            .contains("messages are deleted when they are COMPLETED after 1h, FAILED after 2d"),
        "{}",
        service.log()
    );

    // The row of a message that the service has run grows old too.
    world.execute(
        "UPDATE carrot_messagelog SET completion_time = now() - interval '61 minutes', \
             publish_time = now() - interval '61 minutes' WHERE status = 'COMPLETED'",
    );
    eventually("its row is deleted", || world.find(&uuid).is_none());
    assert_eq!(service.terminate(), 0);
}

/// A walk skips stretches that an earlier walk has found to be kept for good, and no others.
#[test]
fn a_service_finds_old_messages_among_messages_that_are_kept_for_good() {
    let world = World::new(&config_with("failed = '7d', every = '1s'"));
    world.insert_past("COMPLETED", 500, 300);
    world.insert_past("FAILED", 1, 100);
    world.insert_past("COMPLETED", 2000, 200);
    world.insert_past("FAILED", 1, 200);
    let mut service = world.start(&[]);
    world.await_census("COMPLETED 2500, FAILED 1");
    world.execute(
        "UPDATE carrot_messagelog SET failure_time = now() - interval '8 days' \
         WHERE status = 'FAILED'",
    );
    world.await_census("COMPLETED 2500");
    assert_eq!(service.terminate(), 0);
}

#[test]
fn services_that_prune_at_the_same_time_delete_all_old_messages() {
    let world = World::new(&config_with("completed = '7d', every = '1s'"));
    world.insert_past("COMPLETED", 5000, 200);
    world.insert_past("COMPLETED", 10, 100);
    let mut services = [(); 3].map(|()| world.start(&[]));
    world.await_census("COMPLETED 10");
    for service in &mut services {
        assert_eq!(service.terminate(), 0);
        let log = service.log();
        assert!(!log.contains("is away"), "{log}");
    }
}

#[test]
fn a_service_without_a_history_keeps_everything() {
    let world = World::new(TASK);
    world.insert_past("COMPLETED", 2, 100_000);
    let mut service = world.start(&[]);
    let uuid = world.send(&["noop"]);
    assert_eq!(world.ended(&uuid)["status"], "COMPLETED");
    assert_eq!(service.terminate(), 0);
    assert!(!service.log().contains("are deleted"), "{}", service.log());
    assert_eq!(world.census(), "COMPLETED 3");
}

#[test]
fn a_service_goes_on_pruning_after_a_lost_connection() {
    let world = World::new(&config_with("completed = '7d', every = '1s'"));
    world.insert_past("COMPLETED", 3, 200);
    let mut blocker = world.client();
    blocker.execute("BEGIN; LOCK TABLE carrot_messagelog IN EXCLUSIVE MODE");
    let service = world.start(&[]);
    eventually("a connection that prunes is killed", || {
        let cut = world.rows(&format!(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
             WHERE wait_event_type = 'Lock' AND query LIKE 'SELECT %completion_time%' AND pid IN \
                 (SELECT pid FROM pg_locks WHERE relation = '{}.carrot_messagelog'::regclass)",
            world.name
        ));
        !cut.is_empty()
    });
    service.await_log("is away");
    blocker.execute("COMMIT");
    service.await_log("is back after");
    world.await_census("");
}

#[test]
fn a_service_that_stops_amid_pruning_says_how_far_it_has_come() {
    let world = World::new(&config_with("completed = '7d', every = '1s'"));
    world.insert_past("COMPLETED", 50_000, 200);
    let mut service = world.start(&[]);
    eventually("the first batch is deleted", || {
        world.count("COMPLETED") < 50_000
    });
    assert_eq!(service.terminate(), 0);
    let gone = 50_000 - world.count("COMPLETED");
    let said = format!("deleted {gone} COMPLETED messages");
    assert!(service.log().contains(&said), "{said}: {}", service.log());
}

#[test]
fn prune_deletes_old_messages_and_says_how_many_of_each_state() {
    let world = World::new(&config_with(
        "completed = '7d', failed = '90d', expired = '1y'",
    ));
    world.insert_past("COMPLETED", 2500, 169);
    world.insert_past("COMPLETED", 3, 167);
    world.insert_past("FAILED", 2, 2161);
    world.insert_past("FAILED", 5, 169);
    world.insert_past("CANCELLED", 1, 100_000);
    world.insert_past("PUBLISHED", 1, 100_000);
    let before = world.census();

    let (code, out, err) = world.run(&["prune", "--dry-run"]);
    assert_eq!((code, err.as_str()), (0, ""));
    assert_eq!(
        out,
        "would delete 2500 COMPLETED messages older than 7d\n\
         would delete 2 FAILED messages older than 90d\n\
         would delete 0 EXPIRED messages older than 1y\n"
    );
    assert_eq!(world.census(), before);

    let (code, out, err) = world.run(&["prune"]);
    assert_eq!((code, err.as_str()), (0, ""));
    assert_eq!(
        out,
        "deleted 2500 COMPLETED messages older than 7d\n\
         deleted 2 FAILED messages older than 90d\n\
         deleted 0 EXPIRED messages older than 1y\n"
    );
    let after = "CANCELLED 1, COMPLETED 3, FAILED 5, PUBLISHED 1";
    assert_eq!(world.census(), after);
    assert!(world.run(&["prune"]).1.starts_with("deleted 0 COMPLETED"));
    assert_eq!(world.census(), after);
}

/// A service ends its walk at the first recent messages. Only the command finds old messages that were
/// inserted after them.
#[test]
fn prune_finds_old_messages_behind_recent_ones() {
    let world = World::new(&config_with("completed = '7d'"));
    world.insert_past("COMPLETED", 1500, 1);
    world.insert_past("COMPLETED", 2, 200);
    let (code, out, _) = world.run(&["prune"]);
    assert_eq!((code, out.contains("deleted 2 COMPLETED")), (0, true));
    assert_eq!(world.census(), "COMPLETED 1500");
}

#[test]
fn prune_skips_locked_rows() {
    let world = World::new(&config_with("failed = '7d'"));
    world.insert_past("FAILED", 3, 200);
    let mut other = world.client();
    other.execute("BEGIN; SELECT FROM carrot_messagelog WHERE uuid = 'FAILED-200-2' FOR UPDATE");
    let (code, out, _) = world.run(&["prune"]);
    assert_eq!((code, out.contains("deleted 2 FAILED")), (0, true));
    other.execute("ROLLBACK");
    let (code, out, _) = world.run(&["prune"]);
    assert_eq!((code, out.contains("deleted 1 FAILED")), (0, true));
}

#[test]
fn rows_of_django_carrot_grow_old_by_the_same_rules() {
    let world = World::of_django(
        Database::Postgresql,
        &config_with("completed = '7d', failed = '90d'"),
    );
    let rows = captured::message_rows();
    let template = rows.first().unwrap();
    // As django-carrot writes them: each state has its own column for the time of the end.
    let old = "2020-01-01T00:00:00Z";
    let recent = "2999-01-01T00:00:00Z";
    for (uuid, status, completed, failed) in [
        ("done-old", "COMPLETED", Some(old), None),
        ("done", "COMPLETED", Some(recent), None),
        ("failed-old", "FAILED", None, Some(old)),
        ("failed", "FAILED", None, Some(recent)),
        ("running", "IN_PROGRESS", None, None),
        ("waiting", "PUBLISHED", None, None),
    ] {
        let mut row = template.clone();
        row["uuid"] = json!(uuid);
        row["status"] = json!(status);
        row["publish_time"] = json!(old);
        row["completion_time"] = json!(completed);
        row["failure_time"] = json!(failed);
        world.insert_django_rows(&[row]);
    }
    let (code, out, err) = world.run(&["prune"]);
    assert_eq!((code, err.as_str()), (0, ""));
    assert!(out.starts_with("deleted 1 COMPLETED") && out.contains("deleted 1 FAILED"));
    for gone in ["done-old", "failed-old"] {
        assert!(world.find(gone).is_none(), "{gone}");
    }
    assert_eq!(
        world.census(),
        "COMPLETED 1, FAILED 1, IN_PROGRESS 1, PUBLISHED 1"
    );
}

#[test]
fn prune_without_a_history_exits_78_and_says_what_to_set() {
    let world = World::new(TASK);
    world.insert_past("COMPLETED", 2, 100_000);
    for arguments in [&["prune"][..], &["prune", "--dry-run"]] {
        let (code, out, err) = world.run(arguments);
        assert_eq!((code, out.as_str()), (78, ""), "{err}");
        for told in [
            "no history is configured",
            "carrot.toml",
            "[history]",
            "completed = \"7d\"",
        ] {
            assert!(err.contains(told), "{told}: {err}");
        }
    }
    assert_eq!(world.census(), "COMPLETED 2");
}

#[test]
fn prune_has_the_exit_codes_of_the_other_commands() {
    let world = World::without_tables(&config_with("completed = '7d'"));
    let (code, _, err) = world.run(&["prune"]);
    assert_eq!(code, 78, "{err}");
    assert!(err.contains("carrot-actors migrate"), "{err}");

    let mut command = world.command(&["prune"]);
    let closed = "postgres://carrot:s3cr3t@127.0.0.1:1/carrot";
    let (code, _, err) = outcome(command.env("CARROT_DATABASE_URL", closed));
    assert_eq!(code, 69, "{err}");
    assert!(!err.contains("s3cr3t"), "{err}");

    let (code, _, err) = world.run(&["prune", "--dry"]);
    assert_eq!(code, 64, "{err}");
    assert!(err.contains("--dry-run"), "{err}");

    world.configure(&config_with("complete = '7d', failed = '5m'"));
    let (code, _, err) = world.run(&["prune"]);
    assert_eq!(code, 78, "{err}");
    assert!(err.contains("history.complete: is not a known key; did you mean completed?"));
    assert!(
        err.contains("history.failed: must be at least an hour"),
        "{err}"
    );
}

#[test]
fn a_copy_of_a_message_whose_row_is_pruned_is_not_run_again() {
    let world = World::new(&config_with("completed = '1h', every = '1s'"));
    let mut service = world.start(&[]);
    let uuid = world.send(&["noop"]);
    assert_eq!(world.ended(&uuid)["status"], "COMPLETED");
    world.execute(
        "UPDATE carrot_messagelog SET completion_time = now() - interval '2 hours', \
             publish_time = now() - interval '2 hours'",
    );
    eventually("its row is deleted", || world.find(&uuid).is_none());
    world.publish(&[Raw::django("noop", &uuid, "{}")]);
    assert_eq!(world.ended(&uuid)["status"], "CANCELLED");
    service.stop_with_empty(&world, &["default"]);
}
