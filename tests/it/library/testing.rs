//! Tests of an app's tasks: in the process of the test, without a broker.

use std::sync::Mutex;
use std::time::Duration;

use carrot_actors::config::Config;
use carrot_actors::testing::{TestApp, TestError};
use carrot_actors::transaction::RecordError;
use carrot_actors::{App, Args, Client, PublishError, State, TaskContext, TaskError};
use diesel::Connection as _;
use diesel::result::Error;
use serde_json::json;

use crate::support::{self, Database, World, cases, with_connection};

cases! { on every_database:
    a_message_that_a_task_records_is_published_when_its_transaction_commits,
    messages_are_run_by_priority_and_age_without_waiting_for_delays,
    failures_are_outcomes_and_reach_the_hooks,
}

/// A connection of the app.
struct Connection(Mutex<support::Client>);

fn greet(Args((name,)): Args<(String,)>) -> Result<String, TaskError> {
    Ok(format!("Hello {name}"))
}

/// Greets all, or, if one name is empty, nobody.
fn sign_up(
    Args(names): Args<Vec<String>>,
    client: Client,
    connection: State<Connection>,
) -> Result<usize, RecordError> {
    let mut connection = connection.0.lock().unwrap();
    with_connection!(&mut *connection, connection => connection.transaction(|connection| {
        for name in &names {
            if name.is_empty() {
                return Err(RecordError::Database(Error::RollbackTransaction));
            }
            client.task("greet").args((name,)).record(connection)?;
        }
        Ok(names.len())
    }))
}

/// The configuration of a world, without a broker.
fn config(world: &World) -> Config {
    Config {
        queues: Config::default().queues,
        default_broker: "amqp://127.0.0.1:1/".parse().unwrap(),
        ..world.config()
    }
}

fn test(world: &World, app: App) -> TestApp {
    app.test_with(config(world)).unwrap()
}

fn world(database: Database) -> World {
    World::on(database, "")
}

fn a_message_that_a_task_records_is_published_when_its_transaction_commits(database: Database) {
    let world = world(database);
    let app = App::new()
        .task("greet", greet)
        .task("sign up", sign_up)
        .state(Connection(Mutex::new(world.client())));
    let mut app = test(&world, app);

    let signed_up = app.run(app.task("sign up").args(["Ada", "Eve"])).unwrap();
    assert_eq!(signed_up.result.unwrap(), 2);
    let published: Vec<_> = signed_up.published.iter().collect();
    assert_eq!(published.len(), 2);
    assert_eq!(published[0].task, "greet");
    assert_eq!(published[1].arguments.args, [json!("Eve")]);
    let greeted = app.run_until_idle().unwrap();
    assert_eq!(greeted.len(), 2);
    assert_eq!(greeted[0].uuid, published[0].key);
    assert_eq!(greeted[1].result.as_ref().unwrap(), "Hello Eve");

    let rolled_back = app.run(app.task("sign up").args(["Ada", ""])).unwrap();
    assert!(rolled_back.result.is_err());
    assert!(rolled_back.published.is_empty());
    assert!(app.run_until_idle().unwrap().is_empty());

    // The test can record a message in its own transaction.
    let mut connection = world.client();
    let draft = app.task("greet").args(("Bob",));
    with_connection!(&mut connection, connection => connection
        .transaction(|connection| draft.record(connection))
        .unwrap());
    let greeted = app.run_until_idle().unwrap();
    assert_eq!(greeted[0].result.as_ref().unwrap(), "Hello Bob");
    assert_eq!(world.count("COMPLETED"), 4);
}

fn messages_are_run_by_priority_and_age_without_waiting_for_delays(database: Database) {
    let world = world(database);
    let mut app = test(&world, App::new().task("greet", greet));
    let hour = Duration::from_secs(3600);
    let draft = |name: &str| app.task("greet").args((name,));
    let drafts = [
        draft("first"),
        draft("late").delay(hour),
        draft("urgent").priority(9),
        draft("last"),
    ];
    app.client().publish_many(drafts).unwrap();
    // Running one message does not run the others.
    let alone = app.run(app.task("greet").args(("alone",)).delay(hour));
    assert_eq!(alone.unwrap().result.unwrap(), "Hello alone");
    let ran = app.run_until_idle().unwrap();
    let greeted: Vec<_> = ran
        .iter()
        .map(|outcome| outcome.result.as_ref().unwrap().as_str().unwrap())
        .collect();
    let in_order = ["Hello urgent", "Hello first", "Hello last", "Hello late"];
    assert_eq!(greeted, in_order);
}

/// Publishes another message of this task.
fn again(client: Client) -> Result<(), PublishError> {
    client.task("again").publish().map(drop)
}

fn failures_are_outcomes_and_reach_the_hooks(database: Database) {
    let world = world(database);
    let told = std::sync::Arc::new(Mutex::new(Vec::new()));
    let hear = std::sync::Arc::clone(&told);
    let app = App::new()
        .task("greet", greet)
        .task("again", again)
        .task("fails", |context: TaskContext| {
            log::warn!("attempt {}", context.attempt);
            Err::<(), _>(TaskError::new("not today"))
        })
        .task("panics", || -> Result<(), TaskError> { panic!("no way") })
        .on_failure(move |context, _, error| {
            let line = format!("{}: {}", context.task, error.exception);
            hear.lock().unwrap().push(line);
        });
    let mut app = test(&world, app);
    let why = |app: &mut TestApp, task: &str| {
        let outcome = app.run(app.task(task).args((1,))).unwrap();
        outcome.result.unwrap_err().exception
    };
    assert_eq!(why(&mut app, "fails"), "not today");
    assert!(why(&mut app, "panics").contains("no way"));
    assert!(why(&mut app, "greet").contains("[0]: invalid type"));
    assert!(why(&mut app, "unknown").contains("no task"));
    assert_eq!(told.lock().unwrap().len(), 4);
    assert_eq!(told.lock().unwrap()[0], "fails: not today");
    assert_eq!(world.count("FAILED"), 4);

    // It does not run for ever if each message publishes another.
    if database == Database::Sqlite {
        app.client().task("again").publish().unwrap();
        let endless = app.run_until_idle();
        assert!(matches!(endless, Err(TestError::NeverIdle(_))));
    }
}
