//! Messages that are recorded in the caller's transaction.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use carrot_actors::internals::service::Ended;
use carrot_actors::internals::store::{self, Session};
use carrot_actors::transaction::{Connection as Recording, RecordError};
use carrot_actors::{App, Args, Client, Config, TaskError};
use diesel::Connection as _;
use diesel::connection::SimpleConnection;
use diesel::result::Error;
use diesel::sqlite::SqliteConnection;
use rustix::process::{Signal, getpid, kill_process};
use serde_json::json;

use crate::support::{
    self, Backend, Database, InProcess, World, cases, eventually, exit_code, with_connection,
};

cases! { on every_database_and_broker:
    messages_of_a_transaction_are_run_when_it_has_committed,
    messages_of_a_transaction_that_is_rolled_back_are_gone,
    a_message_whose_caller_dies_after_the_commit_is_run,
    a_message_whose_caller_dies_before_the_commit_is_never_run,
    a_delayed_message_can_be_recorded_in_a_transaction,
}

cases! { on every_database: a_message_that_can_not_be_recorded_says_why }

cases! { on every_server_and_broker: nothing_is_run_before_the_commit }

const TWO: &str = "[[queues]]\nname = 'default'\nconcurrency = 2\n";

const GREETED: &str = "CREATE TABLE customer (name varchar(100))";

fn world(backend: impl Into<Backend>) -> World {
    let world = backend.into().world(TWO);
    world.declare_queue("default");
    world.execute(GREETED);
    world
}

fn greet(Args((name, number)): Args<(String, u32)>) -> Result<String, TaskError> {
    Ok(format!("{name} {number}"))
}

fn service(world: &World) -> InProcess {
    let app = App::new().task("greet", greet);
    world.in_process(app.into_registry().unwrap())
}

fn client(world: &World) -> Client {
    Client::connect(world.config()).unwrap()
}

/// Inserts a customer, and records messages to greet them.
fn sign_up<C: Recording + SimpleConnection>(
    connection: &mut C,
    client: &Client,
    name: &str,
) -> Result<Vec<String>, RecordError> {
    connection.batch_execute(&format!("INSERT INTO customer VALUES ('{name}')"))?;
    let draft = |number: u32| client.task("greet").args((name, number)).priority(3);
    let mut uuids = vec![draft(0).record(connection)?];
    uuids.extend(client.record_many((1..4).map(draft), connection)?);
    Ok(uuids)
}

fn messages_of_a_transaction_are_run_when_it_has_committed(backend: Backend) {
    let world = world(backend);
    let client = client(&world);
    let service = service(&world);
    let mut connection = world.client();
    for name in ["Ada", "žluť \u{1f955} \"x\""] {
        let uuids = with_connection!(&mut connection, connection => connection
            .transaction(|connection| sign_up(connection, &client, name))
            .unwrap());
        assert_eq!(uuids.len(), 4);
        for (number, uuid) in uuids.iter().enumerate() {
            let row = world.ended(uuid);
            assert_eq!(row["output"], format!("{name} {number}"), "{row}");
            assert_eq!(
                (&row["priority"], &row["queue"]),
                (&json!(3), &json!("default"))
            );
        }
    }
    assert_eq!(world.rows("SELECT name FROM customer").len(), 2);
    assert_eq!(world.count("COMPLETED"), 8);
    assert_eq!(service.stop(), Ended::Drained);
}

fn messages_of_a_transaction_that_is_rolled_back_are_gone(backend: Backend) {
    let world = world(backend);
    let client = client(&world);
    let service = service(&world);
    let mut connection = world.client();
    let rolled_back = with_connection!(&mut connection, connection => connection.transaction(|connection| {
        sign_up(connection, &client, "Ada")?;
        Err::<(), _>(RecordError::Database(Error::RollbackTransaction))
    }));
    assert!(matches!(
        rolled_back,
        Err(RecordError::Database(Error::RollbackTransaction))
    ));
    // Later messages are run, and the transaction that was rolled back has left nothing.
    let uuids = with_connection!(&mut connection, connection => connection
        .transaction(|connection| sign_up(connection, &client, "Eve"))
        .unwrap());
    uuids
        .iter()
        .for_each(|uuid| assert_eq!(world.ended(uuid)["status"], "COMPLETED"));
    assert_eq!(
        world.rows("SELECT uuid FROM carrot_messagelog").len(),
        uuids.len()
    );
    assert_eq!(
        world.rows("SELECT name FROM customer"),
        [json!({"name": "Eve"})]
    );
    assert_eq!(service.stop(), Ended::Drained);
}

fn nothing_is_run_before_the_commit(backend: Backend) {
    let world = world(backend);
    let client = client(&world);
    let service = service(&world);
    let mut connection = world.client();
    with_connection!(&mut connection, connection => connection
        .transaction(|connection| {
            let uuids = sign_up(connection, &client, "Ada")?;
            let other = client.task("greet").args(("other", 1)).publish().unwrap();
            assert_eq!(world.ended(&other.uuid)["status"], "COMPLETED");
            assert!(uuids.iter().all(|uuid| world.find(uuid).is_none()));
            Ok::<_, RecordError>(())
        })
        .unwrap());
    world.await_completed(5);
    assert_eq!(service.stop(), Ended::Drained);
}

/// Signs up in another process, which dies before or after the commit.
fn sign_up_and_die(world: &World, when: &str) {
    let mut caller = world.ignored_test(module_path!(), "a_caller_that_dies");
    caller.env("CARROT_TEST_CALLER", format!("{:?} {when}", world.database));
    assert_eq!(exit_code(caller.output().unwrap().status), -9);
}

#[test]
#[ignore = "other tests run it, as a process that dies"]
fn a_caller_that_dies() {
    let Ok(how) = std::env::var("CARROT_TEST_CALLER") else {
        return;
    };
    let (database, when) = how.split_once(' ').unwrap();
    let database = match database {
        "Postgresql" => Database::Postgresql,
        "Sqlite" => Database::Sqlite,
        #[cfg(feature = "mysql")]
        "Mariadb" => Database::Mariadb,
        other => panic!("{other}"),
    };
    let client = Client::connect(Config::of_process().unwrap()).unwrap();
    let url = std::env::var("CARROT_DATABASE_URL").unwrap();
    let die = || kill_process(getpid(), Signal::KILL).unwrap();
    let mut connection = support::Client::try_connect(database, &url).unwrap();
    with_connection!(&mut connection, connection => connection
        .transaction(|connection| {
            sign_up(connection, &client, "Ada")?;
            if when == "before" {
                die();
            }
            Ok::<_, RecordError>(())
        })
        .unwrap());
    die();
}

fn a_message_whose_caller_dies_after_the_commit_is_run(backend: Backend) {
    let world = world(backend);
    sign_up_and_die(&world, "after");
    let service = service(&world);
    world.await_completed(4);
    assert_eq!(world.rows("SELECT name FROM customer").len(), 1);
    assert_eq!(service.stop(), Ended::Drained);
}

fn a_message_whose_caller_dies_before_the_commit_is_never_run(backend: Backend) {
    let world = world(backend);
    sign_up_and_die(&world, "before");
    let service = service(&world);
    let later = client(&world).task("greet").args(("Eve", 1)).publish();
    assert_eq!(world.ended(&later.unwrap().uuid)["output"], "Eve 1");
    assert_eq!(world.rows("SELECT uuid FROM carrot_messagelog").len(), 1);
    assert!(world.rows("SELECT name FROM customer").is_empty());
    assert_eq!(service.stop(), Ended::Drained);
}

fn a_delayed_message_can_be_recorded_in_a_transaction(backend: Backend) {
    let world = world(backend);
    let client = client(&world);
    let service = service(&world);
    let mut connection = world.client();
    let draft = |name: &str| client.task("greet").args((name, 1));
    let hour = Duration::from_secs(3600);
    let (late, soon, now) = with_connection!(&mut connection, connection => connection
        .transaction(|connection| {
            Ok::<_, RecordError>((
                draft("late").delay(hour).record(connection)?,
                draft("soon").delay(Duration::from_millis(100)).record(connection)?,
                draft("now").record(connection)?,
            ))
        })
        .unwrap());
    assert_eq!(world.ended(&now)["output"], "now 1");
    assert_eq!(world.ended(&soon)["output"], "soon 1");
    let later = draft("later").delay(hour).publish().unwrap();
    assert_eq!(later.state, carrot_actors::client::Delivery::Delayed);
    for uuid in [&late, &later.uuid] {
        let row = world.find(uuid).unwrap();
        assert_eq!(row["status"], "PENDING", "{row}");
        let wait = support::milliseconds(&row, "due_time") - milliseconds_now();
        assert!((3_500_000..=3_600_000).contains(&wait), "{wait} {row}");
    }
    assert_eq!(service.stop(), Ended::Drained);
}

fn milliseconds_now() -> i64 {
    chrono::Utc::now().timestamp_millis()
}

fn a_message_that_can_not_be_recorded_says_why(database: Database) {
    let world = world(database);
    let client = client(&world);
    world.refuse("task", "cursed");
    let mut connection = world.client();
    with_connection!(&mut connection, connection => {
        let unfit = client.task("greet").args("Ada").record(connection).unwrap_err();
        assert!(matches!(unfit, RecordError::Unfit { .. }), "{unfit}");
        let refused = client.task("cursed").record(connection).unwrap_err();
        assert!(matches!(refused, RecordError::Database(_)), "{refused}");
        assert!(Error::from(refused).to_string().contains("decent"));
        let far = client.task("greet").delay(Duration::MAX).record(connection).unwrap_err();
        assert!(far.to_string().contains("a hundred years"), "{far}");
    });
    assert!(world.rows("SELECT uuid FROM carrot_messagelog").is_empty());
}

#[cfg(feature = "mysql")]
#[test]
fn characters_that_mysqls_tables_can_not_hold_are_recorded_nevertheless() {
    let world = world(Database::Mariadb);
    world.execute("ALTER TABLE carrot_messagelog CONVERT TO CHARACTER SET latin1");
    let client = client(&world);
    let mut connection = world.client();
    let uuid = with_connection!(&mut connection, connection => client
        .task("greet")
        .args(("\u{1f955}", 1))
        .record(connection)
        .unwrap());
    let row = world.find(&uuid).unwrap();
    assert!(
        support::text(&row, "task_args").contains("\\U0001f955"),
        "{row}"
    );
}

#[test]
fn a_plain_sqlite_connection_with_a_busy_timeout_records_beside_a_busy_service() {
    const TRANSACTIONS: usize = 40;
    let world = world(Backend::embedded(Database::Sqlite));
    let (service, client) = (service(&world), client(&world));
    let config = world.config();
    let file = config.database_url.sqlite_file().unwrap();
    let mut connection = SqliteConnection::establish(file.to_str().unwrap()).unwrap();
    connection
        .batch_execute("PRAGMA busy_timeout = 5000")
        .unwrap();
    let is_over = AtomicBool::new(false);
    let busy = thread::scope(|scope| {
        let busy = scope.spawn(|| {
            let mut published = 0;
            while !is_over.load(Ordering::Relaxed) {
                let drafts = (0..20).map(|n| client.task("greet").args(("Eve", n)));
                published += client.publish_many(drafts).unwrap().len();
                // A connection that waits for a lock retries at intervals.
                thread::sleep(Duration::from_millis(3));
            }
            published
        });
        for _ in 0..TRANSACTIONS {
            let recorded =
                connection.immediate_transaction(|connection| sign_up(connection, &client, "Ada"));
            is_over.store(recorded.is_err(), Ordering::Relaxed);
            assert_eq!(recorded.unwrap().len(), 4);
        }
        is_over.store(true, Ordering::Relaxed);
        busy.join().unwrap()
    });
    eventually("all messages are COMPLETED", || {
        world.count("COMPLETED") == busy + 4 * TRANSACTIONS
    });
    assert_eq!(service.stop(), Ended::Drained);
}

/// A session of the service's store.
fn session(world: &World) -> Box<dyn Session> {
    store::open_for(&world.config()).unwrap().connect().unwrap()
}

#[test]
fn postgresql_notifies_listeners_when_a_transaction_commits() {
    let (world, other) = (world(Database::Postgresql), world(Database::Postgresql));
    let client = client(&world);
    let mut listener = session(&world);
    let mut elsewhere = session(&other);
    assert_eq!(listener.was_notified().unwrap(), Some(true));
    assert_eq!(elsewhere.was_notified().unwrap(), Some(true));
    let support::Client::Postgresql(mut connection) = world.client() else {
        panic!("it is PostgreSQL");
    };
    let mut record = |end: Result<(), Error>| {
        let ended = connection.transaction(|connection| {
            client.task("greet").record(connection)?;
            end
        });
        ended.is_ok()
    };
    assert!(!record(Err(Error::RollbackTransaction)));
    assert_eq!(listener.was_notified().unwrap(), Some(false));
    assert!(record(Ok(())));
    eventually("the listener is told of the commit", || {
        (listener.was_notified().unwrap() == Some(true)).then_some(())
    });
    assert_eq!(listener.was_notified().unwrap(), Some(false));
    assert_eq!(elsewhere.was_notified().unwrap(), Some(false));

    // SQLite does not notify.
    let sqlite = self::world(Database::Sqlite);
    assert_eq!(session(&sqlite).was_notified().unwrap(), None);
}
