//! A broker that forbids its user to publish, for a while or for good.

use carrot_actors::Client;
use carrot_actors::client::Delivery;
use serde_json::{Value, json};

use crate::support::{Database, Running, World, cases, eventually, text};

cases! { on every_database:
    a_forbidden_message_waits_and_is_published_once_when_it_is_permitted,
    a_message_that_is_forbidden_for_a_day_is_failed_and_one_that_waited_for_the_broker_is_not,
}

const QUEUES: &str = "[[queues]]\nname = 'near'\n[[queues]]\nname = 'far'\nconsumable = false\n\
    [tasks.cat]\ncommand = ['cat']\n";

/// A pattern of every name that does not begin with "far".
const BUT_FAR: &str = "^(?!far)";

impl World {
    /// Creates a user of this world's vhost. The commands and services of this world connect as this user
    /// from now on.
    fn create_user(&mut self) {
        let user = json!({"password": "secret", "tags": ""});
        World::rabbitmq_api("PUT", &format!("/api/users/{}", self.name), Some(&user));
        self.may_write(".*");
        let server = self.broker_url.split_once('@').unwrap().1;
        self.broker_url = format!("amqp://{}:secret@{server}", self.name);
    }

    /// Permits the user to write to the exchanges and queues that match the pattern.
    fn may_write(&self, pattern: &str) {
        self.may(".*", pattern);
    }

    fn may(&self, configure: &str, write: &str) {
        let path = format!("/api/permissions/{0}/{0}", self.name);
        let permission = json!({"configure": configure, "write": write, "read": ".*"});
        World::rabbitmq_api("PUT", &path, Some(&permission));
    }

    fn delete_user(&self) {
        World::rabbitmq_api("DELETE", &format!("/api/users/{}", self.name), None);
    }

    /// Inserts overdue messages for the queue `far`, to be published to the exchange of that name.
    fn insert_overdue_by_exchange(&self, uuids: &[&str]) {
        let uuids: Vec<String> = uuids.iter().map(|uuid| (*uuid).to_owned()).collect();
        self.insert_overdue("far", "cat", &uuids);
        self.execute("UPDATE carrot_messagelog SET exchange = 'far' WHERE queue = 'far'");
    }

    fn row(&self, uuid: &str) -> Value {
        self.find(uuid).unwrap()
    }

    #[track_caller]
    fn await_refused(&self, uuid: &str) {
        eventually("the refusal is recorded", || {
            let reason = self.row(uuid);
            let reason = text(&reason, "put_off_reason");
            reason.contains("ACCESS_REFUSED")
        });
    }
}

/// A world in which the exchange `far` exists and may not be written to.
fn world(database: Database) -> World {
    let mut world = World::on(database, QUEUES);
    world.create_user();
    world.declare_far();
    world.may_write(BUT_FAR);
    world
}

impl World {
    fn declare_far(&self) {
        let config = self.config();
        let broker =
            carrot_actors::internals::broker::open(&self.broker_url.parse().unwrap()).unwrap();
        let mut publisher = broker.publisher().unwrap();
        for queue in &config.queues {
            publisher.declare(queue).unwrap();
        }
    }
}

fn lines(service: &Running, what: &str) -> usize {
    service.log().matches(what).count()
}

fn a_forbidden_message_waits_and_is_published_once_when_it_is_permitted(database: Database) {
    let world = world(database);
    let uuids: Vec<String> = (0..50).map(|nth| format!("far-{nth}")).collect();
    world.insert_overdue_by_exchange(&uuids.iter().map(String::as_str).collect::<Vec<_>>());
    let mut service = world.start(&[]);
    uuids.iter().for_each(|uuid| world.await_refused(uuid));
    // Other messages are published meanwhile.
    for _ in 0..3 {
        let near = world.send(&["cat", "--queue", "near", "--delay", "1ms"]);
        assert_eq!(world.ended(&near)["status"], "COMPLETED");
    }
    assert_eq!(world.count("PENDING"), uuids.len());
    assert_eq!(lines(&service, " waits: "), 1, "{}", service.log());

    world.may_write(".*");

    world.await_count("PUBLISHED", uuids.len());
    assert_eq!(world.ready("far"), 50, "each message is published once");
    let row = world.row("far-7");
    assert!(
        row["put_off_since"].is_null() && row["put_off_reason"].is_null(),
        "{row}"
    );
    service.await_log(" goes on after ");
    assert_eq!(lines(&service, " waits: "), 1, "{}", service.log());
    assert_eq!(lines(&service, " goes on after "), 1, "{}", service.log());
    assert_eq!(service.terminate(), 0);
    world.delete_user();
}

fn a_message_that_is_forbidden_for_a_day_is_failed_and_one_that_waited_for_the_broker_is_not(
    database: Database,
) {
    let world = world(database);
    world.insert_overdue_by_exchange(&["young", "old", "put-off"]);
    let since = |uuid: &str, seconds| {
        world.execute(&format!(
            "UPDATE carrot_messagelog SET put_off_since = {} WHERE uuid = '{uuid}'",
            world.database.ago(seconds)
        ));
    };
    // Put-offs for another reason, such as an outage of the broker or a lack of files, do not count as
    // refusals.
    since("put-off", 90_000);
    world.execute(
        "UPDATE carrot_messagelog SET put_off_reason = 'out of resources: no more files' \
         WHERE uuid = 'put-off'",
    );
    let mut service = world.start(&[]);
    for uuid in ["young", "old", "put-off"] {
        world.await_refused(uuid);
    }
    since("young", 86_000);
    since("old", 86_500);
    let row = world.ended("old");
    assert_eq!(row["status"], "FAILED", "{row}");
    let why = text(&row, "exception");
    assert!(
        why.contains("24 hours") && why.contains("ACCESS_REFUSED"),
        "{why}"
    );
    assert!(row["failure_time"].is_string(), "{row}");
    service.await_log("message old can't be published: ");
    world.may_write(".*");
    world.await_count("PUBLISHED", 2);
    assert_eq!(service.terminate(), 0);
    world.delete_user();
}

#[test]
fn the_sender_of_a_forbidden_message_is_told_that_it_waits_and_why() {
    let mut world = World::new(QUEUES);
    world.create_user();
    world.declare_far();
    world.may_write("^$");
    let (code, out, err) = world.run(&["send", "cat", "--queue", "far"]);
    assert_eq!(code, 0, "{err}");
    assert!(err.contains("recorded, and not published yet"), "{err}");
    assert!(err.contains("ACCESS_REFUSED"), "{err}");
    let uuid = out.trim();
    assert_eq!(world.row(uuid)["status"], "PENDING");

    let client = Client::connect(world.config()).unwrap();
    let many = (0..10).map(|_| client.task("cat").queue("far"));
    let receipts = client.publish_many(many).unwrap();
    for receipt in &receipts {
        let Delivery::Waiting(reason) = &receipt.state else {
            panic!("{receipt:?}");
        };
        assert!(reason.contains("ACCESS_REFUSED"), "{reason}");
    }
    assert_eq!(world.count("PENDING"), 11);
    let (code, _, err) = world.run(&["send", "cat", "--queue", "far", "--delay", "1s"]);
    assert_eq!(code, 0, "{err}");
    let add = [
        "schedule", "add", "tick", "cat", "--queue", "far", "--every", "1s",
    ];
    let (code, _, err) = world.run(&add);
    assert_eq!(code, 0, "{err}");
    let config = QUEUES.replace("'near'", "'near'\nconsumable = false");
    world.configure(&config);
    let mut service = world.launch(&[], "");
    eventually(
        "the occurrences and the delayed message are refused",
        || {
            let refused = "SELECT uuid FROM carrot_messagelog WHERE status = 'PENDING' \
            AND put_off_reason LIKE '%ACCESS_REFUSED%'";
            world.rows(refused).len() >= 15
        },
    );
    assert_eq!(world.count("FAILED"), 0);
    world.may_write(".*");
    let (code, _, err) = world.run(&["schedule", "disable", "tick"]);
    assert_eq!(code, 0, "{err}");
    world.await_count("PENDING", 0);
    let published = world.count("PUBLISHED");
    assert_eq!(
        world.ready("far"),
        u32::try_from(published).unwrap(),
        "each message is published once"
    );
    let log = service.log();
    assert_eq!(log.matches(" waits: ").count(), 1, "{log}");
    assert_eq!(log.matches(" goes on after ").count(), 1, "{log}");
    assert_eq!(service.terminate(), 0);
    world.delete_user();
}

#[test]
fn a_queue_that_may_not_be_declared_waits_until_it_may() {
    let mut world = World::new(QUEUES);
    world.create_user();
    world.may("^near$", ".*");
    let mut service = world.start(&[]);
    let (code, out, err) = world.run(&["send", "cat", "--queue", "far"]);
    assert_eq!(code, 0, "{err}");
    assert!(err.contains("ACCESS_REFUSED"), "{err}");
    let uuid = out.trim();
    world.await_refused(uuid);
    let near = world.send(&["cat", "--queue", "near", "--delay", "1ms"]);
    assert_eq!(world.ended(&near)["status"], "COMPLETED");
    world.may(".*", ".*");
    eventually("the message is published", || {
        world.row(uuid)["status"] == "PUBLISHED"
    });
    assert_eq!(world.ready("far"), 1);
    assert_eq!(service.terminate(), 0);
    world.delete_user();
}

#[test]
fn a_topic_that_may_not_be_written_holds_up_no_other() {
    let far = "[[queues]]\nname = 'far'\nconsumable = false\nexchange_arguments = { exchange_type = 'topic' }\n";
    let mut world = World::new(&format!(
        "[[queues]]\nname = 'near'\n{far}[tasks.cat]\ncommand = ['cat']\n"
    ));
    world.create_user();
    world.declare_far();
    let path = format!("/api/topic-permissions/{0}/{0}", world.name);
    let only = |write: &str| json!({"exchange": "far", "write": write, "read": ".*"});
    World::rabbitmq_api("PUT", &path, Some(&only("^nothing$")));
    world.insert_overdue_by_exchange(&["a", "b"]);
    let mut service = world.start(&[]);
    world.await_refused("a");
    world.await_refused("b");
    let near = world.send(&["cat", "--queue", "near", "--delay", "1ms"]);
    assert_eq!(world.ended(&near)["status"], "COMPLETED");
    World::rabbitmq_api("PUT", &path, Some(&only(".*")));
    world.await_count("PUBLISHED", 2);
    assert_eq!(world.ready("far"), 2);
    assert_eq!(service.terminate(), 0);
    world.delete_user();
}

#[test]
fn messages_to_an_internal_or_missing_exchange_are_failed_at_once() {
    let world = World::new(QUEUES);
    let path = format!("/api/exchanges/{}/inner", world.name);
    let inner = json!({"type": "direct", "internal": true});
    World::rabbitmq_api("PUT", &path, Some(&inner));
    world.insert_overdue_by_exchange(&["inner", "missing", "good"]);
    for exchange in ["inner", "missing"] {
        world.execute(&format!(
            "UPDATE carrot_messagelog SET exchange = '{exchange}' WHERE uuid = '{exchange}'"
        ));
    }
    let mut service = world.start(&[]);
    for (uuid, why) in [("inner", "internal exchange"), ("missing", "404")] {
        let row = world.ended(uuid);
        assert_eq!(row["status"], "FAILED");
        assert!(text(&row, "exception").contains(why), "{row}");
    }
    world.await_count("PUBLISHED", 1);
    assert_eq!(service.terminate(), 0);
}
