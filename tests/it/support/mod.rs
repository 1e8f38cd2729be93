//! What the tests stand on.

mod broker;
pub mod database;
mod filter;
mod own;
mod process;
mod proxy;
pub mod witness;
mod world;

use std::time::{Duration, Instant};

pub use broker::Raw;
pub use database::{Client, DJANGOS_COLUMNS, Database, milliseconds, text};
pub(crate) use database::{
    embedded_on, embedded_on_every_database, embedded_on_every_server, on_database,
    on_every_database, on_every_database_and_broker, on_every_server, on_every_server_and_broker,
};
pub use filter::refuse;
pub use own::{Blow, Own, Server};
pub use process::{Running, Spawned, exit_code, outcome};
pub use proxy::Proxy;
pub use witness::{witnessed, witnessed_task};
pub use world::{Ground, InProcess, World};

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

/// A generator for this run; give its seed as CARROT_TEST_SEED to have it again.
pub fn random() -> fastrand::Rng {
    let given = std::env::var("CARROT_TEST_SEED").ok();
    let seed = given.map_or_else(|| fastrand::u64(..), |seed| seed.parse().unwrap());
    eprintln!("CARROT_TEST_SEED={seed}");
    fastrand::Rng::with_seed(seed)
}
