//! A consumer dies by a panic, and is started again.

use crate::support::{World, text};

const ONE: &str = r#"
[[queues]]
name = "default"
concurrency = 1
[tasks.noop]
command = ["sh", "-c", "echo run >>runs"]
"#;

fn assert_restarted(failpoint: &str, runs: usize) {
    let world = World::new(ONE);
    let uuids = world.enqueue("default", "noop", 3);
    let mut service = world.launch(&[], failpoint);

    let mut attempts = 0;
    for uuid in &uuids {
        let row = world.ended(uuid);
        assert_eq!(row["status"], "COMPLETED", "{row}");
        assert!(text(&row, "log").contains("default-consumer-1"));
        attempts += row["attempts"].as_u64().unwrap();
    }
    assert_eq!(attempts, 4, "the attempt in which its consumer died counts");
    service.await_log("consumer default-consumer-1 died while it ran message");
    service.await_log("consumer default-consumer-1 died; a new one starts in");
    assert_eq!(service.terminate(), 0);
    assert_eq!(world.ready("default"), 0);
    let run = std::fs::read_to_string(world.directory().join("runs")).unwrap();
    assert_eq!(run.lines().count(), runs);
}

#[test]
fn a_consumer_that_dies_after_a_run_is_restarted_and_its_message_run_again() {
    assert_restarted("consumer.ran=panic", 4);
}

#[test]
fn a_consumer_that_dies_before_a_run_is_restarted_and_its_message_run_then() {
    assert_restarted("consumer.before-run=panic", 3);
}

#[test]
fn a_consumer_that_dies_among_others_is_restarted() {
    assert_restarted("consumer.ran=panic@2", 4);
}

#[test]
fn a_message_that_kills_each_consumer_is_given_up() {
    let world = World::new(&format!("max_crashes = 2\n{ONE}"));
    let uuids = world.enqueue("default", "noop", 2);
    let mut service = world.launch(&[], "consumer.before-run=panic; consumer.ran=panic");
    let row = world.ended(&uuids[0]);
    assert_eq!(row["status"], "FAILED", "{row}");
    assert_eq!(row["attempts"], 2);
    assert!(text(&row, "exception").contains("max_crashes = 2"));
    assert_eq!(world.ended(&uuids[1])["status"], "COMPLETED");
    assert_eq!(service.terminate(), 0);
    assert_eq!(world.ready("default"), 0);
}
