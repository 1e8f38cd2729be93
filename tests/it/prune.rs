//! Pruning, as a service does it by itself and as `carrot-actors prune` does it.

use diesel::connection::SimpleConnection;

use crate::support::{World, eventually};

const TASK: &str = r#"
[[queues]]
name = "default"
[tasks.noop]
command = ["true"]
"#;

/// A configuration with this history.
fn with(history: &str) -> String {
    format!("history = {{ {history} }}\n{TASK}")
}

impl World {
    /// So many messages in this state that got there so many hours ago.
    fn past(&self, status: &str, count: usize, hours: u32) {
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

    /// How many messages there are of each state, as `COMPLETED 3, FAILED 1`.
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
        eventually(census, || (self.census() == census).then_some(()));
    }
}

#[test]
fn a_service_deletes_what_has_grown_too_old_and_nothing_else() {
    let world = World::new(&with("completed = '1h', failed = '2d', every = '1s'"));
    for status in [
        "PENDING",
        "PUBLISHED",
        "IN_PROGRESS",
        "COMPLETED",
        "FAILED",
        "CANCELLED",
        "EXPIRED",
    ] {
        world.past(status, 3, 3);
        world.past(status, 1, 49);
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

    // What the task has left grows old too.
    world.execute(
        "UPDATE carrot_messagelog SET completion_time = now() - interval '61 minutes', \
             publish_time = now() - interval '61 minutes' WHERE status = 'COMPLETED'",
    );
    eventually("the end of its row", || {
        world.find(&uuid).is_none().then_some(())
    });
    assert_eq!(service.terminate(), 0);
}

#[test]
fn services_that_prune_together_delete_it_all_and_get_on() {
    let world = World::new(&with("completed = '7d', every = '1s'"));
    world.past("COMPLETED", 5000, 200);
    world.past("COMPLETED", 10, 100);
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
    world.past("COMPLETED", 2, 100_000);
    let mut service = world.start(&[]);
    let uuid = world.send(&["noop"]);
    assert_eq!(world.ended(&uuid)["status"], "COMPLETED");
    assert_eq!(service.terminate(), 0);
    assert!(!service.log().contains("are deleted"), "{}", service.log());
    assert_eq!(world.census(), "COMPLETED 3");
}

#[test]
fn a_service_whose_pruning_is_cut_off_goes_on_with_it() {
    let world = World::new(&with("completed = '7d', every = '1s'"));
    world.past("COMPLETED", 3, 200);
    let mut blocker = world.postgres();
    blocker
        .batch_execute("BEGIN; LOCK TABLE carrot_messagelog IN EXCLUSIVE MODE")
        .unwrap();
    let service = world.start(&[]);
    eventually("the end of a connection that prunes", || {
        let cut = world.rows(&format!(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
             WHERE wait_event_type = 'Lock' AND query LIKE 'SELECT %completion_time%' AND pid IN \
                 (SELECT pid FROM pg_locks WHERE relation = '{}.carrot_messagelog'::regclass)",
            world.name
        ));
        (!cut.is_empty()).then_some(())
    });
    service.await_log("the pruning's database is away");
    blocker.batch_execute("COMMIT").unwrap();
    service.await_log("the pruning's database is back");
    world.await_census("");
}

#[test]
fn a_service_that_stops_amid_pruning_says_how_far_it_has_come() {
    let world = World::new(&with("completed = '7d', every = '1s'"));
    world.past("COMPLETED", 50_000, 200);
    let mut service = world.start(&[]);
    eventually("the first batch", || {
        (world.count("COMPLETED") < 50_000).then_some(())
    });
    assert_eq!(service.terminate(), 0);
    let gone = 50_000 - world.count("COMPLETED");
    let said = format!("deleted {gone} COMPLETED messages");
    assert!(service.log().contains(&said), "{said}: {}", service.log());
}
