//! Messages that together are larger than a database accepts in one statement.

use carrot_actors::Client;
use carrot_actors::client::Delivery;
use diesel::Connection as _;

use crate::support::{Database, World, cases, exit_code, with_connection};

cases! { on every_database:
    large_messages_that_failed_are_requeued,
    a_requeue_that_is_killed_loses_no_message_and_doubles_none,
    large_messages_are_recorded_for_later,
    large_messages_are_recorded_in_a_transaction,
}

const QUEUES: &str = "[[queues]]\nname = 'default'\nconsumable = false\n";

/// MariaDB accepts 16 MiB.
const MANY: usize = 17;
const LARGE: usize = 1_000_000;

fn world(database: Database) -> World {
    let world = World::on(database, QUEUES);
    world.declare_queue("default");
    world
}

impl World {
    /// Inserts `count` large messages that are FAILED.
    fn insert_large_failed(&self, count: usize) {
        let uuids: Vec<String> = (0..count).map(|nth| format!("large-{nth:02}")).collect();
        self.insert_published("default", "note", &uuids);
        let text = match self.database {
            Database::Sqlite => format!("printf('%.*c', {LARGE}, 'x')"),
            _ => format!("REPEAT('x', {LARGE})"),
        };
        self.execute(&format!(
            "UPDATE carrot_messagelog SET status = 'FAILED', \
             content = REPLACE('{{\"text\": \"?\"}}', '?', {text})"
        ));
    }

    fn all(&self) -> usize {
        self.rows("SELECT uuid FROM carrot_messagelog").len()
    }
}

fn large_messages_that_failed_are_requeued(database: Database) {
    let world = world(database);
    world.insert_large_failed(MANY);
    world.execute("UPDATE carrot_messagelog SET content = '[1]' WHERE uuid = 'large-07'");
    let (code, out, err) = world.run(&["requeue", "--failed"]);
    assert_eq!(code, 1, "{err}");
    assert_eq!(err.lines().count(), 1, "{err}");
    assert!(
        err.contains("large-07 is not requeued: content can't be read"),
        "{err}"
    );
    assert_eq!(out.lines().count(), MANY - 1);
    assert_eq!(world.count("PUBLISHED"), MANY - 1);
    assert_eq!((world.count("FAILED"), world.all()), (1, MANY));
    assert_eq!(world.ready("default"), 16);
}

fn a_requeue_that_is_killed_loses_no_message_and_doubles_none(database: Database) {
    for failpoint in ["requeue.before-commit=kill@2", "publish.marked=kill@2"] {
        let world = world(database);
        world.insert_large_failed(MANY);
        let mut command = world.command(&["requeue", "--failed"]);
        command.env("CARROT_FAILPOINTS", failpoint);
        assert_eq!(exit_code(command.output().unwrap().status), -9);
        let failed = world.count("FAILED");
        assert!(failed > 0 && failed < MANY, "{failed}");
        assert_eq!(world.count("PUBLISHED"), MANY - failed, "{failpoint}");
        let (code, out, err) = world.run(&["requeue", "--failed"]);
        assert_eq!((code, err.as_str()), (0, ""));
        assert_eq!(out.lines().count(), failed);
        assert_eq!((world.count("PUBLISHED"), world.all()), (MANY, MANY));
        assert_eq!(world.ready("default"), 17);
    }
}

/// Waits until the sweep has published all.
#[track_caller]
fn await_all_published(world: &World) {
    let mut service = world.launch(&[], "");
    world.await_count("PUBLISHED", MANY);
    assert_eq!(world.ready("default"), 17);
    assert_eq!(service.terminate(), 0);
}

fn large_messages_are_recorded_for_later(database: Database) {
    let world = world(database);
    let client = Client::connect(world.config()).unwrap();
    let text = "x".repeat(LARGE);
    let draft = |_| {
        client
            .task("note")
            .args((&text,))
            .delay(std::time::Duration::from_millis(1))
    };
    let receipts = client.publish_many((0..MANY).map(draft)).unwrap();
    assert!(
        receipts
            .iter()
            .all(|receipt| receipt.state == Delivery::Delayed)
    );
    assert_eq!(world.all(), MANY);
    await_all_published(&world);
}

fn large_messages_are_recorded_in_a_transaction(database: Database) {
    let world = world(database);
    let client = Client::connect(world.config()).unwrap();
    // Each character takes two bytes in JSON.
    let text = "\"".repeat(LARGE / 2);
    let drafts = || {
        (0..MANY).map(|_| {
            client.task("note").args((&text,)).kwargs(
                [("a", &text)]
                    .into_iter()
                    .collect::<std::collections::BTreeMap<_, _>>(),
            )
        })
    };
    let mut connection = world.client();
    let rolled_back = with_connection!(&mut connection, connection => connection.transaction(|connection| {
        client.record_many(drafts(), connection).unwrap();
        Err::<(), _>(diesel::result::Error::RollbackTransaction)
    }));
    assert!(rolled_back.is_err());
    assert_eq!(world.all(), 0);
    let uuids = with_connection!(&mut connection, connection => connection
        .transaction(|connection| client.record_many(drafts(), connection))
        .unwrap());
    assert_eq!((uuids.len(), world.all()), (MANY, MANY));
    await_all_published(&world);
}

#[cfg(feature = "mysql")]
#[test]
fn very_many_small_messages_that_failed_are_requeued() {
    const VERY_MANY: usize = 60_000;
    let world = world(Database::Mariadb);
    world.execute(&format!(
        "INSERT INTO carrot_messagelog (uuid, status, task, task_args, content, queue, exchange, \
             routing_key, priority, publish_time) \
         SELECT CONCAT('small-', seq), 'FAILED', 'note', '()', \
             CONCAT('{{\"text\": \"', REPEAT('x', 400), '\"}}'), 'default', '', 'default', 0, \
             utc_timestamp(6) \
         FROM seq_1_to_{VERY_MANY}"
    ));
    let (code, out, err) = world.run(&["requeue", "--failed"]);
    assert_eq!((code, err.as_str()), (0, ""));
    assert_eq!(out.lines().count(), VERY_MANY);
    assert_eq!(
        (world.count("PUBLISHED"), world.all()),
        (VERY_MANY, VERY_MANY)
    );
    assert_eq!(world.ready("default"), 60_000);
}
