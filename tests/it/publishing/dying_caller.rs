//! The process of a program dies while it publishes many messages: some are recorded, some sent, some marked
//! as published.

use carrot_actors::internals::service::Ended;
use carrot_actors::{Client, Config};

use crate::support::{Database, Runs, World, cases, exit_code};

cases! { on every_database:
    messages_whose_caller_dies_before_a_mark_are_each_run_once,
    messages_whose_caller_dies_after_a_mark_are_each_run_once,
}

/// They are recorded in batches of a thousand, with up to four thousand unconfirmed.
const MESSAGES: usize = 5_500;

const QUEUES: &str = "[[queues]]\nname = 'default'\nconcurrency = 4\n";

/// The program is killed at the failpoint, when it has marked `marked` messages. Every message that it has
/// recorded by then is run once.
#[track_caller]
fn are_each_run_once(database: Database, failpoint: &str, marked: usize) {
    let world = World::on(database, QUEUES);
    world.declare_queue("default");
    let mut caller = world.ignored_test(module_path!(), "a_caller_that_dies");
    caller.env("CARROT_FAILPOINTS", failpoint);
    assert_eq!(exit_code(caller.output().unwrap().status), -9);
    assert_eq!(world.count("PUBLISHED"), marked);
    let recorded = marked + world.count("PENDING");
    assert!(recorded > marked + 1_000, "{recorded}");

    let runs = Runs::default();
    let service = world.in_process(runs.registry(|| ()));
    world.await_completed(recorded);
    assert_eq!(service.stop(), Ended::Drained);
    assert_eq!((runs.messages(), runs.total()), (recorded, recorded));
}

#[test]
#[ignore = "other tests run it, as a process that dies"]
fn a_caller_that_dies() {
    if std::env::var_os("CARROT_FAILPOINTS").is_none() {
        return;
    }
    let client = Client::connect(Config::of_process().unwrap()).unwrap();
    let drafts = (0..MESSAGES).map(|_| client.task("count"));
    client.publish_many(drafts).unwrap();
}

fn messages_whose_caller_dies_before_a_mark_are_each_run_once(database: Database) {
    are_each_run_once(database, "publish.published=kill", 0);
}

fn messages_whose_caller_dies_after_a_mark_are_each_run_once(database: Database) {
    are_each_run_once(database, "publish.marked=kill@2", 2_000);
}
