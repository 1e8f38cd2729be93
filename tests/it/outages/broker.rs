//! RabbitMQ goes away, or accepts no messages.

use super::trial::{SHORT, Trial, by_command};
use crate::support::{Outage, OwnServer, Server, World, eventually, text, traced_config};

fn begin(world: World) -> Trial {
    let service = world.start(&[]);
    Trial::begin(world, vec![service], "the broker")
}

impl Trial {
    /// The messages of schedules.
    fn ticks(&self) -> Vec<String> {
        let query = "SELECT uuid FROM carrot_messagelog WHERE schedule_id IS NOT NULL";
        let rows = self.world.rows(query);
        rows.iter()
            .map(|row| text(row, "uuid").to_owned())
            .collect()
    }

    #[track_caller]
    fn await_ticks(&self, count: usize) {
        eventually(&format!("schedules have {count} messages"), || {
            self.ticks().len() >= count
        });
    }
}

fn assert_survives(outage: Outage) {
    let broker = OwnServer::take(Server::Rabbitmq);
    let mut trial = begin(World::new(&traced_config("", 4)));
    trial.send_during(by_command, |trial| trial.take_away(&broker, outage, || ()));
    trial.assert_survived();
}

#[test]
fn the_service_survives_a_broker_that_is_stopped() {
    assert_survives(Outage::Stop);
}

#[test]
fn the_service_survives_a_broker_that_is_killed() {
    assert_survives(Outage::Kill);
}

#[test]
fn the_service_survives_a_broker_that_is_frozen_for_longer_than_its_heartbeat() {
    assert_survives(Outage::Freeze);
}

#[test]
fn the_service_survives_a_broker_that_is_away_at_the_start() {
    let broker = OwnServer::take(Server::Rabbitmq);
    let world = World::new(&traced_config("", 4));
    let away = broker.take_away(Outage::Stop);
    let service = world.launch(&[], "");
    let mut trial = Trial::of(world, vec![service], "the broker");
    trial.send_during(by_command, |trial| {
        trial.await_away();
        trial.idle_for(SHORT);
        away.end();
    });
    trial.assert_survived();
}

/// How much memory RabbitMQ may use: at 1 MB it blocks publishers. `scripts/services` sets the limit at the
/// start.
const LITTLE: [&str; 3] = ["set_vm_memory_high_watermark", "absolute", "1MB"];
const ENOUGH: [&str; 3] = ["set_vm_memory_high_watermark", "absolute", "2GB"];

#[test]
fn a_broker_without_memory_lets_publishers_wait_and_consumers_go_on() {
    let broker = OwnServer::take(Server::Rabbitmq);
    let mut trial = begin(World::new(&traced_config("", 4)));
    let held = trial.world.send(&["hold"]);
    trial.uuids.push(held.clone());
    trial.uuids.extend(trial.world.post("default", "note", 300));
    trial.send_during(by_command, |trial| {
        broker.rabbitmqctl(&LITTLE);
        trial.services[0].await_log(" waits: the broker accepts no messages for now: ");
        trial.world.release_tasks();
        let ended = trial.world.ended(&held);
        assert_eq!(ended["status"], "COMPLETED", "{ended}");
        trial.world.await_completed(trial.uuids.len());
        trial.idle_for(SHORT);
        assert_ne!(trial.world.count("PENDING"), 0);
        broker.rabbitmqctl(&ENOUGH);
        trial.services[0].await_log(" goes on after ");
        trial.world.await_count("PENDING", 0);
    });
    trial.server = "publishing to";
    trial.assert_survived();
}

/// Everything in a service that publishes meets the outage, which is logged once.
fn assert_logged_once(server: &'static str, outage: impl FnOnce(&Trial, &OwnServer)) {
    let broker = OwnServer::take(Server::Rabbitmq);
    let mut trial = begin(World::new(&traced_config("", 4)));
    trial.server = server;
    let schedule = |arguments: &[&str]| {
        let (code, _, err) = trial.world.run(&[&["schedule"], arguments].concat());
        assert_eq!(code, 0, "{err}");
    };
    schedule(&["add", "tick", "note", "--every", "1s"]);
    trial.await_ticks(2);
    let sent = trial.sent_during(by_command, |trial| outage(trial, &broker));
    schedule(&["disable", "tick"]);
    trial.uuids.extend(sent);
    trial.uuids.extend(trial.ticks());
    trial.uuids.sort_unstable();
    trial.uuids.dedup();
    trial.assert_survived();
}

#[test]
fn a_broker_that_is_killed_while_a_schedule_publishes_is_logged_once() {
    assert_logged_once("the broker", |trial, broker| {
        trial.take_away(broker, Outage::Kill, || ());
    });
}

#[test]
fn a_broker_without_memory_is_logged_once_while_a_schedule_publishes() {
    assert_logged_once("publishing to", |trial, broker| {
        broker.rabbitmqctl(&LITTLE);
        trial.await_away();
        trial.await_ticks(trial.ticks().len() + 3);
        broker.rabbitmqctl(&ENOUGH);
        trial.await_back(1);
    });
}

/// Messages that were ready in the queue are lost, as the deleter intends. Messages that were delivered are
/// not, whether they run or are not even claimed.
#[test]
fn the_service_survives_a_queue_that_is_deleted_again_and_again() {
    let config = traced_config("", 2).replace("[[queues]]", "[[queues]]\nprefetch_factor = 25");
    let mut trial = begin(World::new(&config));
    trial.server = "queue";
    let held: Vec<String> = (0..2).map(|_| trial.world.send(&["hold"])).collect();
    held.iter().for_each(|held| trial.world.await_runs(held, 1));
    for nth in 1..=5 {
        trial.uuids.extend((0..4).map(|_| by_command(&trial.world)));
        trial.world.await_ready("default", 0);
        trial.world.delete_queue("default");
        trial.await_back(nth);
    }
    trial.world.release_tasks();
    trial.uuids.extend(held);
    trial.assert_survived_outages(5);
}
