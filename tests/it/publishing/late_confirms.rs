//! A queue that does not confirm its messages for a long time, while the connections live.

use std::process::Command;

use carrot_actors::Client;
use carrot_actors::client::Delivery;

use crate::support::{Database, World, cases, eventually, outcome, text, traced_config};

cases! { on every_database: messages_that_a_queue_confirms_late_are_sent_once }

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/services");

const FAR: &str = "\n[[queues]]\nname = 'far'\nconsumable = false\n";

/// How many messages are sent to the queue.
const MESSAGES: usize = 5;

/// A queue whose Erlang process is suspended until this is dropped.
struct Suspended {
    world: String,
    is_over: bool,
}

impl Suspended {
    fn queue(world: &World) -> Self {
        tell(&world.name, "suspend");
        Self {
            world: world.name.clone(),
            is_over: false,
        }
    }

    fn resume(mut self) {
        self.is_over = true;
        tell(&self.world, "resume");
    }
}

impl Drop for Suspended {
    fn drop(&mut self) {
        if !self.is_over {
            tell(&self.world, "resume");
        }
    }
}

fn tell(world: &str, what: &str) {
    let expression = format!(
        "{{ok, Q}} = rabbit_amqqueue:lookup(rabbit_misc:r(<<\"{world}\">>, queue, <<\"far\">>)), \
         sys:{what}(amqqueue:get_pid(Q))."
    );
    let mut command = Command::new(SCRIPT);
    command.args(["rabbitmqctl", "eval", &expression]);
    let (code, out, err) = outcome(&mut command);
    assert!(code == 0 && out.trim().ends_with("ok"), "{out}{err}");
}

impl World {
    /// Inserts overdue messages for the queue; their uuids.
    fn insert_unconfirmed(&self) -> Vec<String> {
        let uuids: Vec<String> = (0..MESSAGES).map(|nth| format!("far-{nth}")).collect();
        self.insert_overdue("far", "note", &uuids);
        uuids
    }

    /// When the lease of the message expires.
    fn lease(&self, uuid: &str) -> String {
        text(&self.find(uuid).unwrap(), "due_time").to_owned()
    }

    #[track_caller]
    fn await_published(&self) {
        self.await_count("PENDING", 0);
    }

    /// Runs the messages in the queue, and fails unless each is run once.
    #[track_caller]
    fn assert_each_runs_once(&self, uuids: &[String]) {
        self.configure(&(traced_config("", 2) + "\n[[queues]]\nname = 'far'\n"));
        let mut service = self.start(&[]);
        for uuid in uuids {
            assert_eq!(self.ended(uuid)["status"], "COMPLETED");
        }
        assert_eq!(service.terminate(), 0);
        for uuid in uuids {
            assert_eq!(self.runs(uuid).len(), 1);
        }
    }
}

fn world(database: Database) -> World {
    let world = World::on(database, &(traced_config("", 2) + FAR));
    world.declare_queue("far");
    world
}

fn messages_that_a_queue_confirms_late_are_sent_once(database: Database) {
    let world = world(database);
    let mut services = [world.start(&[]), world.start(&[])];
    let suspended = Suspended::queue(&world);
    let uuids = world.insert_unconfirmed();
    eventually("a service logs that the queue confirms nothing", || {
        let said = "waits: queue \"far\" does not confirm what it was sent";
        let logs = services.iter().map(|service| service.log());
        logs.map(|log| log.matches(said).count()).sum::<usize>() == 1
    });
    // Messages for other queues are not held up, neither in the program nor in the sweep.
    for _ in 0..3 {
        let near = world.send(&["note", "--delay", "1ms"]);
        assert_eq!(world.ended(&near)["status"], "COMPLETED");
    }
    // Wait for longer than the first lease.
    let lease = world.lease(&uuids[0]);
    eventually("the lease is extended", || world.lease(&uuids[0]) > lease);
    assert_eq!(world.count("PENDING"), MESSAGES);

    suspended.resume();

    world.await_published();
    assert_eq!(world.ready("far"), u32::try_from(MESSAGES).unwrap());
    eventually("a service logs that the queue goes on", || {
        let logs = services.iter().map(|service| service.log());
        logs.map(|log| log.matches(" goes on after ").count())
            .sum::<usize>()
            == 1
    });
    for service in &mut services {
        let log = service.log();
        assert!(!log.contains(" is away"), "{log}");
        assert_eq!(service.terminate(), 0);
    }
    world.assert_each_runs_once(&uuids);
}

#[test]
fn unconfirmed_messages_are_sent_again_when_the_connection_has_ended() {
    let world = world(Database::Postgresql);
    let mut service = world.start(&[]);
    let suspended = Suspended::queue(&world);
    let uuids = world.insert_unconfirmed();
    service.await_log("waits: queue \"far\" does not confirm what it was sent");
    let lease = world.lease(&uuids[0]);
    // The connections of the subscription and of the sweep.
    world.await_listed_connections(2);
    world.cut_connections();
    eventually("the sweep leases the message again", || {
        world.lease(&uuids[0]) != lease
    });
    suspended.resume();
    world.await_published();
    let copies = world.ready("far");
    assert!((6..=10).contains(&copies), "{copies}");
    assert_eq!(service.terminate(), 0);
    world.assert_each_runs_once(&uuids);
}

#[test]
fn a_client_processes_late_confirms_by_itself() {
    let world = world(Database::Postgresql);
    let client = Client::connect(world.config()).unwrap();
    let first = client.task("note").queue("far").publish().unwrap();
    assert_eq!(first.state, Delivery::Published);
    let suspended = Suspended::queue(&world);
    let late = client.task("note").queue("far").publish().unwrap();
    let Delivery::Waiting(reason) = &late.state else {
        panic!("{late:?}");
    };
    assert!(reason.contains("has not confirmed"), "{reason}");
    assert_eq!(world.find(&late.uuid).unwrap()["status"], "PENDING");
    suspended.resume();
    world.await_published();
    assert_eq!(world.ready("far"), 2);
    let last = eventually("a message is confirmed", || {
        let receipt = client.task("note").queue("far").publish().unwrap();
        (receipt.state == Delivery::Published).then_some(receipt)
    });
    drop(client);
    world.execute("DELETE FROM carrot_messagelog WHERE status = 'PENDING'");
    world.assert_each_runs_once(&[first.uuid, late.uuid, last.uuid]);
}
