//! Messages without an id whose channel is closed while they run, so that the broker redelivers them.

use crate::support::{Database, Proxy, Raw, Running, World, cases, eventually, traced_config};

cases! { on every_database:
    a_message_without_an_id_that_outlasts_its_channel_runs_once,
    messages_that_look_the_same_are_each_run,
    a_message_without_an_id_that_ends_before_its_redelivery_runs_once,
}

fn config(concurrency: usize) -> String {
    traced_config("", concurrency)
}

/// A service behind a proxy.
fn start(database: Database, concurrency: usize) -> (World, Proxy, Running) {
    let mut world = World::on(database, &config(concurrency));
    world.declare_queue("default");
    let proxy = world.proxy_broker();
    let service = world.start(&[]);
    (world, proxy, service)
}

impl World {
    fn await_all_runs(&self, count: usize) {
        eventually("all messages run", || self.all_runs().len() == count);
    }
}

impl Running {
    /// Waits until the log says `count` times that a redelivered message was recognised.
    fn await_recognised(&self, count: usize) {
        eventually(
            &format!("{count} redelivered messages are recognised"),
            || {
                let log = self.log();
                let known = log.matches("which has no id, was delivered again").count();
                known == count
            },
        );
    }
}

/// Fails unless there are `count` messages, all COMPLETED after one run each.
#[track_caller]
fn assert_all_completed_once(world: &World, mut service: Running, count: usize) {
    world.await_completed(count);
    service.stop_with_empty(world, &["default"]);
    let rows = world.rows("SELECT uuid FROM carrot_messagelog");
    assert_eq!(rows.len(), count, "{rows:?}");
    assert_eq!(world.all_runs().len(), count);
    world.assert_each_ran_once();
}

fn a_message_without_an_id_that_outlasts_its_channel_runs_once(database: Database) {
    let (world, proxy, service) = start(database, 3);
    world.publish(&[
        Raw::foreign("hold", None, "{\"args\": [1]}"),
        Raw::foreign("hold", Some(""), "{\"args\": [2]}"),
    ]);
    world.await_all_runs(2);
    // RabbitMQ closes the channel when a task takes longer than its `consumer_timeout`. Here it does so
    // twice.
    proxy.close_channels();
    service.await_recognised(2);
    proxy.close_channels();
    service.await_recognised(4);
    world.release_tasks();
    assert_all_completed_once(&world, service, 2);
}

fn messages_that_look_the_same_are_each_run(database: Database) {
    let (world, proxy, service) = start(database, 4);
    let same = Raw::foreign("hold", None, "{}");
    world.publish(&[same.clone(), same.clone(), same.clone()]);
    world.await_all_runs(3);
    proxy.cut_connections();
    service.await_recognised(3);
    // Another message that looks the same.
    world.publish(&[same]);
    world.await_all_runs(4);
    world.release_tasks();
    assert_all_completed_once(&world, service, 4);
}

fn a_message_without_an_id_that_ends_before_its_redelivery_runs_once(database: Database) {
    let (world, proxy, service) = start(database, 2);
    let same = Raw::foreign("hold", None, "{}");
    world.publish(&[same.clone(), same]);
    world.await_all_runs(2);
    proxy.hold_up();
    proxy.cut_connections();
    service.await_log("is away");
    world.release_tasks();
    world.await_completed(2);
    proxy.let_pass();
    service.await_recognised(2);
    eventually("both are acknowledged as COMPLETED", || {
        service.log().matches("is COMPLETED already").count() == 2
    });
    assert_all_completed_once(&world, service, 2);
}

#[test]
fn a_message_without_an_id_that_is_claimed_at_a_stop_is_published_from_its_row() {
    let world = World::new(&config(1).replace("concurrency = 1", "prefetch_factor = 3"));
    world.declare_queue("default");
    // Run short messages first, so that the next ones are claimed ahead.
    let note = Raw::foreign("note", None, "{}");
    world.publish(&[note.clone(), note]);
    let mut service = world.start(&[]);
    world.await_completed(2);
    let hold = Raw::foreign("hold", None, "{}");
    world.publish(&[hold.clone(), hold]);
    world.await_all_runs(3);
    service.signal(rustix::process::Signal::TERM);
    service.await_log("messages go back");
    world.release_tasks();
    assert_eq!(service.wait(), 0);
    let second = world.start(&[]);
    assert_all_completed_once(&world, second, 4);
}

#[test]
fn messages_that_differ_in_anything_are_not_confused() {
    let (world, proxy, service) = start(Database::Postgresql, 2);
    let one = Raw::foreign("hold", None, "{}");
    let other = |properties| Raw {
        properties,
        ..one.clone()
    };
    world.publish(&[one.clone(), other(one.properties.clone().with_priority(1))]);
    world.await_all_runs(2);
    proxy.cut_connections();
    service.await_recognised(2);
    world.release_tasks();
    assert_all_completed_once(&world, service, 2);
}
