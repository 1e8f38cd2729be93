//! The async runtime that the tasks of a service share, and apps in tests that have a runtime themselves.

use std::convert::Infallible;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use carrot_actors::internals::service::Ended;
use carrot_actors::message::Arguments;
use carrot_actors::testing::TestError;
use carrot_actors::{App, Args, FromMessage, Middleware, Next, State, TaskContext, TaskError};
use crossbeam_channel::{Sender, bounded};
use serde_json::Value;
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::{mpsc, oneshot};
use tokio::task::{spawn_local, yield_now};
use tokio::time::{sleep, timeout};

use crate::support::{Database, InProcess, PATIENCE, World, start_logging, text};

const TWO_QUEUES: &str =
    "unknown_tasks = 'fail'\n[[queues]]\nname = 'default'\n[[queues]]\nname = 'other'\n";

fn world() -> World {
    World::embedded_on(Database::Sqlite, TWO_QUEUES)
}

fn service(world: &World, app: App) -> InProcess {
    world.in_process(app.into_registry().unwrap())
}

/// Sends a message and waits for its end; its row.
#[track_caller]
fn ended(world: &World, arguments: &[&str]) -> Value {
    world.ended(&world.send(arguments))
}

/// A connection as in a pool: a background task reads its answers. The first task that needs the connection
/// spawns it.
#[derive(Default)]
struct Connection(Mutex<Option<mpsc::UnboundedSender<oneshot::Sender<u32>>>>);

impl Connection {
    fn requests(&self) -> mpsc::UnboundedSender<oneshot::Sender<u32>> {
        let mut opened = self.0.lock().unwrap();
        let open = || {
            let (requests, mut received) = mpsc::unbounded_channel::<oneshot::Sender<u32>>();
            tokio::spawn(async move {
                let mut count = 0;
                while let Some(answer) = received.recv().await {
                    sleep(Duration::from_millis(1)).await;
                    count += 1;
                    answer.send(count).unwrap();
                }
            });
            requests
        };
        opened.get_or_insert_with(open).clone()
    }

    async fn ask(&self) -> Result<u32, TaskError> {
        let (answer, answered) = oneshot::channel();
        self.requests().send(answer)?;
        Ok(timeout(PATIENCE / 4, answered).await??)
    }
}

#[test]
fn a_connection_that_one_consumer_has_opened_can_be_used_by_another() {
    let world = world();
    let app = App::new()
        .state(Connection::default())
        .task("ask", |connection: State<Connection>| async move {
            connection.ask().await
        });
    let service = service(&world, app);
    for (queue, nth) in [("default", "1"), ("other", "2"), ("default", "3")] {
        let row = ended(&world, &["ask", "--queue", queue]);
        assert_eq!(row["output"], nth, "{row}");
    }
    assert_eq!(service.stop(), Ended::Drained);
}

#[test]
fn a_future_that_a_task_spawns_outlives_it() {
    let world = world();
    let (done, is_done) = bounded(2);
    let sync = done.clone();
    let spawn = |done: Sender<()>, uuid: String| {
        tokio::spawn(async move {
            sleep(Duration::from_millis(50)).await;
            done.send(()).unwrap();
        });
        Ok::<_, TaskError>(uuid)
    };
    let app = App::new()
        .task("async", move |context: TaskContext| {
            let done = done.clone();
            async move { spawn(done, context.uuid) }
        })
        .task("sync", move |context: TaskContext| {
            spawn(sync.clone(), context.uuid)
        });
    let service = service(&world, app);
    for task in ["async", "sync"] {
        let row = ended(&world, &[task]);
        assert_eq!(row["output"], row["uuid"], "{row}");
        is_done.recv_timeout(PATIENCE).unwrap();
    }
    assert_eq!(service.stop(), Ended::Drained);
}

/// Reports when it is dropped.
struct Witness(Sender<&'static str>);

impl Drop for Witness {
    fn drop(&mut self) {
        self.0.send("dropped").unwrap();
    }
}

#[test]
fn a_future_that_a_task_spawns_on_its_thread_is_logged_with_it_and_ends_with_it() {
    start_logging();
    let world = world();
    let (seen, sees) = bounded(9);
    let app = App::new().task("local", move |context: TaskContext| {
        let witness = Witness(seen.clone());
        // Spawn already in the function, before it returns a future.
        spawn_local(async move {
            log::info!("beside {}", context.attempt);
            let _witness = witness;
            std::future::pending::<()>().await;
        });
        let seen = seen.clone();
        async move {
            yield_now().await;
            seen.send("over").map_err(|_| TaskError::new("nobody sees"))
        }
    });
    let service = service(&world, app);
    let row = ended(&world, &["local"]);
    assert_eq!(row["status"], "COMPLETED", "{row}");
    assert!(text(&row, "log").contains(" INFO:: beside 1\n"), "{row}");
    let order: Vec<_> = sees.try_iter().collect();
    assert_eq!(order, ["over", "dropped"]);
    assert_eq!(service.stop(), Ended::Drained);
}

#[test]
fn a_spawned_future_can_log_for_its_message() {
    start_logging();
    let world = world();
    let app = App::new().task("elsewhere", |context: TaskContext| async move {
        let work = async {
            log::info!("at first");
            yield_now().await;
            log::info!("and then");
        };
        tokio::spawn(context.logger().capture_async(work)).await?;
        tokio::spawn(async { log::info!("of nobody") }).await?;
        Ok::<_, TaskError>(())
    });
    let service = service(&world, app);
    let row = ended(&world, &["elsewhere"]);
    let log = text(&row, "log");
    assert!(log.contains(" INFO:: at first\n"), "{log}");
    assert!(log.contains(" INFO:: and then\n"), "{log}");
    assert!(!log.contains("of nobody"), "{log}");
    assert_eq!(service.stop(), Ended::Drained);
}

/// A counter for the app's own code. Each count is made by a task on the runtime.
struct Pool(Arc<AtomicU32>);

impl Pool {
    /// Connects as a pool does that must connect at once.
    fn connect(counted: &Arc<AtomicU32>) -> Result<Self, Infallible> {
        let pool = Self(Arc::clone(counted));
        Handle::current().block_on(async {
            sleep(Duration::from_millis(1)).await;
            pool.count(1);
        });
        Ok(pool)
    }

    /// Counts in the background.
    fn count(&self, by: u32) {
        let counted = Arc::clone(&self.0);
        tokio::spawn(async move { counted.fetch_add(by, Ordering::Relaxed) });
    }

    #[track_caller]
    fn of(context: &TaskContext) -> Arc<Self> {
        let pool = State::<Self>::from_message(context, &Arguments::default());
        pool.unwrap().into_inner()
    }
}

struct Extracted;

impl FromMessage for Extracted {
    fn from_message(context: &TaskContext, _: &Arguments) -> Result<Self, TaskError> {
        Pool::of(context).count(10);
        Ok(Self)
    }
}

struct Around;

impl Middleware for Around {
    fn around(
        &self,
        context: &TaskContext,
        _: &Arguments,
        next: Next<'_>,
    ) -> Result<Value, TaskError> {
        Pool::of(context).count(100);
        let outcome = next.run();
        Pool::of(context).count(1_000);
        outcome
    }

    fn on_failure(&self, context: &TaskContext, _: &Arguments, _: &TaskError) {
        Pool::of(context).count(10_000);
    }
}

/// An app with state, middleware, extractors, an async task and a sync one, each of which counts.
fn of_all_kinds(counted: &Arc<AtomicU32>) -> App {
    let counted = Arc::clone(counted);
    App::new()
        .state_with(move |_| Pool::connect(&counted))
        .middleware(Around)
        .task("async", |_: Extracted, pool: State<Pool>| {
            pool.count(100_000);
            async { Ok::<_, TaskError>(()) }
        })
        .task("sync", |_: Extracted, pool: State<Pool>| {
            pool.count(1_000_000);
            Handle::current().block_on(yield_now());
            Err::<(), _>(TaskError::new("not today"))
        })
}

const COUNTED: u32 = 1_112_221;

#[test]
fn all_code_of_an_app_runs_in_the_runtime() {
    let world = world();
    let counted = Arc::default();
    let service = service(&world, of_all_kinds(&counted));
    assert_eq!(ended(&world, &["async"])["status"], "COMPLETED");
    assert_eq!(ended(&world, &["sync"])["exception"], "not today");
    assert_eq!(ended(&world, &["unknown"])["status"], "FAILED");
    crate::support::eventually("all spawned tasks have counted", || {
        counted.load(Ordering::Relaxed) == COUNTED + 10_000
    });
    assert_eq!(service.stop(), Ended::Drained);
}

async fn panics() -> Result<(), TaskError> {
    yield_now().await;
    panic!("no way")
}

/// The runtimes of `#[tokio::main]` and `#[tokio::test]`.
fn runtimes() -> [Runtime; 2] {
    let (mut alone, mut many) = (Builder::new_current_thread(), Builder::new_multi_thread());
    [&mut alone, many.worker_threads(1)].map(|builder| builder.enable_all().build().unwrap())
}

#[test]
fn an_app_can_be_tested_in_a_test_with_its_own_runtime() {
    for runtime in runtimes() {
        runtime.block_on(async {
            let counted = Arc::default();
            let app = of_all_kinds(&counted).task("panics", panics);
            let mut app = app.test().unwrap();
            let done = app.run(app.task("async")).unwrap();
            assert_eq!(done.result.unwrap(), Value::Null);
            app.client().task("sync").publish_async().await.unwrap();
            app.client().task("panics").publish().unwrap();
            let failed = app.run_until_idle().unwrap();
            let why = |nth: usize| failed[nth].result.clone().unwrap_err().exception;
            assert_eq!(why(0), "not today");
            assert!(why(1).contains("no way"), "{}", why(1));
            while counted.load(Ordering::Relaxed) < COUNTED + 11_100 {
                yield_now().await;
            }
            drop(app);
            let unmade = App::new().state_with(|_| Err::<u8, _>("no more pools"));
            assert!(matches!(unmade.test(), Err(TestError::Service(_))));
        });
    }
}

fn double(Args((number,)): Args<(u32,)>) -> Result<u32, TaskError> {
    Ok(number * 2)
}

#[test]
fn a_task_that_is_tested_without_a_runtime_runs_on_the_tests_thread() {
    let own = std::thread::current().id();
    let app = App::new().task("double", move |arguments: Args<(u32,)>| {
        assert_eq!(std::thread::current().id(), own);
        double(arguments)
    });
    let mut app = app.test().unwrap();
    let done = app.run(app.task("double").args((21,))).unwrap();
    assert_eq!(done.result.unwrap(), 42);
}
