//! What the tests stand on.

mod backend;
mod broker;
pub mod captured;
pub mod database;
mod filter;
mod own;
mod process;
mod proxy;
pub mod witness;
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
pub use own::{Blow, Own, Server};
pub use process::{Running, Spawned, exit_code, outcome};
pub use proxy::Proxy;
pub use witness::{witnessed, witnessed_task};
pub use world::{InProcess, World};

/// Far longer than anything takes: a test that waits so long has failed.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Waits until `condition` gives something.
#[track_caller]
pub fn eventually<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(found) = condition() {
            return found;
        }
        assert!(started.elapsed() < PATIENCE, "never came about: {what}");
        look_again(started);
    }
}

/// Sleeps until it is time to look again: what has taken long may take a little longer, and a look at a
/// server is a connection to it.
pub fn look_again(started: Instant) {
    let wait = Duration::from_millis(10) + started.elapsed() / 10;
    std::thread::sleep(wait.min(Duration::from_millis(100)));
}

/// A variable that `scripts/services` exports, or the same of a server of the test's own.
pub fn server(variable: &str) -> String {
    own::variable(variable)
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

/// A generator for this run; give its seed as CARROT_TEST_SEED to have it again.
pub fn random() -> fastrand::Rng {
    let given = std::env::var("CARROT_TEST_SEED").ok();
    let seed = given.map_or_else(|| fastrand::u64(..), |seed| seed.parse().unwrap());
    eprintln!("CARROT_TEST_SEED={seed}");
    fastrand::Rng::with_seed(seed)
}
