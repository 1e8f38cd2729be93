//! Messages whose broker or queue accepts nothing do not hold up others.

use crate::support::{Database, World, cases};

cases! { on every_database:
    messages_for_a_broker_that_is_away_hold_up_no_others,
    messages_for_a_full_queue_hold_up_no_others,
}

const NEAR: &str = "[[queues]]\nname = 'near'\n[tasks.cat]\ncommand = ['cat']\n";

/// Many more than the sweep takes in one batch.
const MANY: usize = 3_000;

impl World {
    /// Inserts overdue messages for the queue `far`, with the uuids `far-0`, `far-1` and so on.
    fn insert_overdue_messages(&self, count: usize) {
        let uuids: Vec<String> = (0..count).map(|nth| format!("far-{nth}")).collect();
        self.insert_overdue("far", "cat", &uuids);
    }

    /// How many overdue messages were never tried.
    fn untried(&self) -> usize {
        let query = format!(
            "SELECT uuid FROM carrot_messagelog WHERE due_time < {}",
            self.database.ago(1800)
        );
        self.rows(&query).len()
    }
}

#[track_caller]
fn assert_holds_up_no_others(database: Database, queue: &str) {
    let world = World::on(database, &format!("{NEAR}{queue}"));
    world.insert_overdue_messages(MANY);
    let mut service = world.start(&[]);
    for _ in 0..3 {
        let uuid = world.send(&["cat", "--queue", "near", "--delay", "1ms"]);
        assert_eq!(world.ended(&uuid)["status"], "COMPLETED");
    }
    let untried = world.untried();
    assert!(untried >= MANY / 2, "only {untried} were passed over");
    assert_eq!(service.terminate(), 0);
}

fn messages_for_a_broker_that_is_away_hold_up_no_others(database: Database) {
    assert_holds_up_no_others(
        database,
        "[[queues]]\nname = 'far'\nconsumable = false\nhost = 'amqp://guest:guest@127.0.0.1:1/'\n",
    );
}

fn messages_for_a_full_queue_hold_up_no_others(database: Database) {
    assert_holds_up_no_others(
        database,
        "[[queues]]\nname = 'far'\nconsumable = false\n\
         queue_arguments = { 'x-max-length' = 1, 'x-overflow' = 'reject-publish' }\n",
    );
}

#[test]
fn a_message_to_an_exchange_that_the_broker_has_lost_is_published_nevertheless() {
    let world = World::new(&format!(
        "{NEAR}[[queues]]\nname = 'far'\nconsumable = false\n"
    ));
    // A schedule of Django's may name an exchange that the broker has lost in a restart.
    world.insert_overdue_messages(3);
    world.execute("UPDATE carrot_messagelog SET exchange = 'far' WHERE uuid <> 'far-1'");
    let mut service = world.start(&[]);
    world.await_count("PUBLISHED", 3);
    assert_eq!(world.ready("far"), 3);
    assert_eq!(service.terminate(), 0);
}

#[test]
fn a_message_to_an_unknown_exchange_is_failed_with_the_reason() {
    let world = World::new(&format!(
        "{NEAR}[[queues]]\nname = 'far'\nconsumable = false\n"
    ));
    world.insert_overdue_messages(2);
    world.execute("UPDATE carrot_messagelog SET exchange = 'nowhere' WHERE uuid = 'far-1'");
    let mut service = world.start(&[]);
    let row = world.ended("far-1");
    assert_eq!(row["status"], "FAILED");
    let why = row["exception"].as_str().unwrap();
    assert!(why.contains("nowhere"), "{why}");
    world.await_count("PUBLISHED", 1);
    assert_eq!(service.terminate(), 0);
}
