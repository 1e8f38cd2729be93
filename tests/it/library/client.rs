//! Publishing from a program by a client.

use std::time::Duration;

use carrot_actors::client::{Client, Delivery};
use carrot_actors::config::Config;
use carrot_actors::internals::service::Ended;
use carrot_actors::{App, Args, Kwargs, PublishError, TaskError};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::outages::{kill_connections, own_server};
use crate::support::{Backend, Database, InProcess, World, cases, eventually, milliseconds, text};

cases! { on every_database_and_broker:
    a_message_that_a_client_publishes_is_run_with_its_arguments,
    a_delayed_message_is_run_when_it_is_due,
    many_threads_share_a_client,
    many_messages_are_published_in_their_order,
    a_message_that_the_database_refuses_fails_no_other,
}

cases! { on every_database: messages_wait_in_the_database_while_the_broker_is_away }

cases! { on every_server:
    a_client_whose_idle_connection_was_ended_opens_another,
    a_client_of_a_database_that_is_not_migrated_says_what_to_do,
}

const TWO: &str = "[[queues]]\nname = 'default'\nconcurrency = 4\n[[queues]]\nname = 'other'\n";

#[derive(Serialize, Deserialize)]
struct Size {
    width: u32,
}

fn tell(
    Args((text, numbers)): Args<(String, Vec<u8>)>,
    Kwargs(size): Kwargs<Size>,
) -> Result<String, TaskError> {
    Ok(format!("{text} {numbers:?} {}", size.width))
}

fn double(Args((number,)): Args<(u64,)>) -> Result<u64, TaskError> {
    Ok(number * 2)
}

fn world(backend: impl Into<Backend>) -> World {
    backend.into().world(TWO)
}

fn service(world: &World) -> InProcess {
    let app = App::new().task("tell", tell).task("double", double);
    world.in_process(app.into_registry().unwrap())
}

fn client(world: &World) -> Client {
    Client::connect(world.config()).unwrap()
}

fn a_message_that_a_client_publishes_is_run_with_its_arguments(backend: Backend) {
    let world = world(backend);
    let client = client(&world);
    let message = client.task("tell").args(("žluť \u{1f955}", [1, 2]));
    let message = message.kwargs(Size { width: 3 }).priority(5).queue("other");
    let sync = message.clone().publish().unwrap();
    assert_eq!(sync.state, Delivery::Published);
    let row = world.find(&sync.uuid).unwrap();
    assert_eq!(row["status"], "PUBLISHED", "{row}");
    assert_eq!(
        (&row["queue"], &row["priority"]),
        (&json!("other"), &json!(5))
    );
    assert_eq!(world.ready("other"), 1);

    let system = actix_rt::System::new();
    let twin = system.block_on(message.publish_async()).unwrap();
    let plain = client.task("double").args([21]).publish().unwrap();
    let service = service(&world);
    for uuid in [&sync.uuid, &twin.uuid] {
        let row = world.ended(uuid);
        assert_eq!(row["output"], "žluť \u{1f955} [1, 2] 3", "{row}");
    }
    let row = world.ended(&plain.uuid);
    assert_eq!(
        (&row["output"], &row["queue"]),
        (&json!("42"), &json!("default"))
    );
    assert_eq!(service.stop(), Ended::Drained);
}

fn a_delayed_message_is_run_when_it_is_due(backend: Backend) {
    let world = world(backend);
    let client = client(&world);
    let service = service(&world);
    let publish = |n: u64, delay| client.task("double").args((n,)).delay(delay).publish();
    let soon = publish(1, Duration::from_millis(700)).unwrap();
    let never = publish(2, Duration::from_secs(3600)).unwrap();
    let now = client.task("double").args((3,)).publish().unwrap();
    assert_eq!([&soon.state, &never.state], [&Delivery::Delayed; 2]);
    assert_eq!(now.state, Delivery::Published);
    let [soon, now] = [soon, now].map(|receipt| world.ended(&receipt.uuid));
    assert_eq!([&soon["output"], &now["output"]], ["2", "6"]);
    // `publish_time` is the time when it is due.
    let due = milliseconds(&soon, "publish_time");
    assert!(milliseconds(&soon, "completion_time") >= due, "{soon}");
    assert_eq!(world.find(&never.uuid).unwrap()["status"], "PENDING");
    assert_eq!(service.stop(), Ended::Drained);
}

fn many_threads_share_a_client(backend: Backend) {
    const THREADS: u64 = 20;
    const EACH: u64 = 10;
    let world = world(backend);
    let client = client(&world);
    let service = service(&world);
    let threads: Vec<_> = (0..THREADS)
        .map(|thread| {
            let client = client.clone();
            std::thread::spawn(move || {
                let publish = |n| {
                    let draft = client.task("double").args((thread * EACH + n,));
                    draft.publish().unwrap().uuid
                };
                (0..EACH).map(publish).collect::<Vec<_>>()
            })
        })
        .collect();
    let uuids: Vec<String> = threads
        .into_iter()
        .flat_map(|t| t.join().unwrap())
        .collect();
    for (n, uuid) in uuids.iter().enumerate() {
        assert_eq!(world.ended(uuid)["output"], (2 * n).to_string());
    }
    assert_eq!(world.count("COMPLETED"), uuids.len());
    assert_eq!(service.stop(), Ended::Drained);
}

fn many_messages_are_published_in_their_order(backend: Backend) {
    const COUNT: usize = 2500;
    let world = world(backend);
    let client = client(&world);
    let drafts = (0..COUNT).map(|n| client.task("double").args((n,)));
    let receipts = client.publish_many(drafts).unwrap();
    assert_eq!(receipts.len(), COUNT);
    assert!(
        receipts
            .iter()
            .all(|receipt| receipt.state == Delivery::Published)
    );
    let rows = world.rows("SELECT uuid, task_args FROM carrot_messagelog ORDER BY id");
    for (n, (row, receipt)) in rows.iter().zip(&receipts).enumerate() {
        assert_eq!(text(row, "uuid"), receipt.uuid);
        assert_eq!(text(row, "task_args"), format!("({n},)"));
    }
    assert_eq!(world.count("PUBLISHED"), COUNT);

    // If one message can't be recorded, none is.
    let drafts = [client.task("double"), client.task("")];
    let refused = client.publish_many(drafts).unwrap_err();
    assert!(matches!(refused, PublishError::Unfit { .. }), "{refused}");
    assert_eq!(world.count("PUBLISHED"), COUNT);
    assert_eq!(client.publish_many([]).unwrap(), []);
}

fn messages_wait_in_the_database_while_the_broker_is_away(database: Database) {
    let mut world = world(database);
    let broker = std::mem::replace(&mut world.broker_url, "amqp://localhost:1".to_owned());
    let client = client(&world);
    let publish = |n: u64| client.task("double").args((n,)).publish().unwrap();
    let receipts = [publish(1), publish(2)];
    for receipt in &receipts {
        assert!(matches!(receipt.state, Delivery::Waiting(_)), "{receipt:?}");
        assert_eq!(world.find(&receipt.uuid).unwrap()["status"], "PENDING");
    }
    world.broker_url = broker;
    let service = service(&world);
    assert_eq!(world.ended(&receipts[0].uuid)["output"], "2");
    assert_eq!(world.ended(&receipts[1].uuid)["output"], "4");
    assert_eq!(service.stop(), Ended::Drained);
}

fn a_message_that_the_database_refuses_fails_no_other(backend: Backend) {
    let world = world(backend);
    world.refuse("task", "cursed");
    let client = client(&world);
    let publish = |task: &'static str| {
        let client = client.clone();
        std::thread::spawn(move || client.task(task).args((1,)).publish())
    };
    let threads: Vec<_> = (0..12)
        .map(|n| publish(if n == 5 { "cursed" } else { "double" }))
        .collect();
    for (n, thread) in threads.into_iter().enumerate() {
        let published = thread.join().unwrap();
        match n {
            5 => assert!(matches!(
                published,
                Err(PublishError::Database { recorded: 0, .. })
            )),
            _ => assert_eq!(published.unwrap().state, Delivery::Published),
        }
    }
    assert_eq!(world.count("PUBLISHED"), 11);
}

fn a_client_whose_idle_connection_was_ended_opens_another(database: Database) {
    let _own = own_server(database);
    let world = world(database);
    let client = client(&world);
    let publish = || client.task("double").args((1,)).publish();
    publish().unwrap();
    kill_connections(&world);
    // Its next attempt may find the connection closed, or come long after.
    eventually("a message is published", || match publish() {
        Ok(receipt) => Some(receipt),
        Err(PublishError::Database { .. }) => None,
        Err(error) => panic!("{error}"),
    });
    kill_connections(&world);
    std::thread::sleep(Duration::from_millis(1100));
    publish().unwrap();
}

fn a_client_of_a_database_that_is_not_migrated_says_what_to_do(database: Database) {
    let world = World::without_tables_on(database, TWO);
    let error = Client::connect(world.config()).err().unwrap().to_string();
    assert!(error.contains("carrot-actors migrate"), "{error}");

    let mut away: Config = world.config();
    let password = "hunter2";
    let url = match database {
        Database::Postgresql => format!("postgres://u:{password}@localhost:1/d"),
        _ => format!("mysql://u:{password}@127.0.0.1:1/d"),
    };
    away.database_url = url.parse().unwrap();
    let error = Client::connect(away).err().unwrap().to_string();
    assert!(!error.contains(password), "{error}");
}
