//! The helpers of all tests: a world for each test, processes, servers, databases and proxies.

mod backend;
mod broker;
pub mod captured;
pub mod database;
mod filter;
mod own_server;
mod process;
mod proxy;
mod runs;
pub mod traced_tasks;
mod world;

use std::sync::Once;
use std::time::{Duration, Instant};

use carrot_actors::LogLevel;
use carrot_actors::internals::logging;

pub use backend::Backend;
pub(crate) use backend::cases;
pub use broker::Raw;
pub(crate) use database::with_connection;
pub use database::{Client, DJANGOS_COLUMNS, Database, milliseconds, text};
pub use filter::refuse;
pub use own_server::{Outage, OwnServer, Server};
pub use process::{Running, Spawned, await_end, exit_code, lives, outcome, pids};
pub use proxy::Proxy;
pub use runs::Runs;
pub use traced_tasks::{traced_config, traced_task};
pub use world::{InProcess, World};

/// The time after which a wait has failed, far longer than anything takes.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// What a wait can be for: that something is true, or that something is found.
pub trait Condition {
    type Found;

    fn found(self) -> Option<Self::Found>;
}

impl Condition for bool {
    type Found = ();

    fn found(self) -> Option<()> {
        self.then_some(())
    }
}

impl<T> Condition for Option<T> {
    type Found = T;

    fn found(self) -> Self {
        self
    }
}

/// Waits until `condition` returns true or something, and returns that. `what` says what that is, as in "the message is published".
#[track_caller]
pub fn eventually<C: Condition>(what: &str, mut condition: impl FnMut() -> C) -> C::Found {
    let started = Instant::now();
    loop {
        if let Some(found) = condition().found() {
            return found;
        }
        assert!(
            started.elapsed() < PATIENCE,
            "timed out waiting for: {what}"
        );
        look_again(started);
    }
}

/// How long a service may take to work again when a part of it has died.
const RECOVERY: Duration = Duration::from_secs(10);

/// Fails if `work` takes longer than a service may take to recover.
#[track_caller]
pub fn recovers<T>(work: impl FnOnce() -> T) -> T {
    let started = Instant::now();
    let done = work();
    let elapsed = started.elapsed();
    assert!(elapsed < RECOVERY, "the recovery took {elapsed:?}");
    done
}

/// Sleeps before the next look at a condition: longer the longer the wait has taken, since a look may open a
/// connection to a server.
pub fn look_again(started: Instant) {
    let wait = Duration::from_millis(10) + started.elapsed() / 10;
    std::thread::sleep(wait.min(Duration::from_millis(100)));
}

/// A variable that `scripts/services` exports, or its value for a server that the test owns.
pub fn server(variable: &str) -> String {
    own_server::variable(variable)
        .or_else(|| std::env::var(variable).ok())
        .unwrap_or_else(|| panic!("{variable} is not set: run the tests with scripts/test"))
}

/// Starts logging in this process as a service does, at INFO: DEBUG would drown the test's own output.
pub fn start_logging() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        logging::start(LogLevel::Debug, None).unwrap();
        log::set_max_level(log::LevelFilter::Info);
    });
}

/// A random generator. Set CARROT_TEST_SEED to the printed seed to repeat a run.
pub fn random() -> fastrand::Rng {
    let given = std::env::var("CARROT_TEST_SEED").ok();
    let seed = given.map_or_else(|| fastrand::u64(..), |seed| seed.parse().unwrap());
    eprintln!("CARROT_TEST_SEED={seed}");
    fastrand::Rng::with_seed(seed)
}
