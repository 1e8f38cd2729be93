//! Many messages at once, of which some are on their way while others are recorded.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use carrot_actors::internals::service::Ended;
use carrot_actors::{App, Client, Config, TaskContext, TaskError};

use crate::support::{Database, World, cases, exit_code};

cases! { on every_database:
    those_under_way_when_their_caller_dies_before_a_mark_are_each_run_once,
    those_under_way_when_their_caller_dies_after_a_mark_are_each_run_once,
}

/// They are recorded a thousand at a time, with up to four thousand under way.
const MESSAGES: usize = 5_500;

const QUEUES: &str = "[[queues]]\nname = 'default'\nconcurrency = 4\n";

/// A caller dies; what it has recorded by then, some of it sent and unmarked, is run.
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

    let runs = Arc::new(Mutex::new(HashMap::<String, u32>::new()));
    let counted = Arc::clone(&runs);
    let app = App::new().task("count", move |context: TaskContext| {
        *counted
            .lock()
            .unwrap()
            .entry(context.uuid.clone())
            .or_default() += 1;
        Ok::<_, TaskError>(())
    });
    let service = world.in_process(app.into_registry().unwrap());
    world.await_completed(recorded);
    assert_eq!(service.stop(), Ended::Drained);
    let runs = runs.lock().unwrap();
    assert_eq!(runs.len(), recorded);
    assert!(runs.values().all(|count| *count == 1));
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

fn those_under_way_when_their_caller_dies_before_a_mark_are_each_run_once(database: Database) {
    are_each_run_once(database, "publish.published=kill", 0);
}

fn those_under_way_when_their_caller_dies_after_a_mark_are_each_run_once(database: Database) {
    are_each_run_once(database, "publish.marked=kill@2", 2_000);
}
