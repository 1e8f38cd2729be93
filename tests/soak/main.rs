//! A soak test: two services run mixed messages and a few schedules, while the broker, the database and the
//! services go away at random every few seconds. Then everything is counted. It runs on each database, one
//! after the other.
//!
//! - `CARROT_SOAK="10m"` sets how long it runs on each database; the default is 20 s.
//! - `CARROT_TEST_SEED` repeats the messages and outages of a run, as far as possible.
//! - `cargo test --test soak -- sqlite` runs it on that database only.
//!
//! It is a separate program, since it is also the services, with functions as tasks and the whole command
//! line. It starts its own servers.
#![expect(clippy::unwrap_used, reason = "a test fails at its first fault")]

mod broker;
mod count;
mod database;
mod deck;
mod outages;
mod schedules;
mod senders;
mod services;
mod soak;
#[path = "../it/support/mod.rs"]
#[expect(
    dead_code,
    unused_imports,
    unused_macros,
    reason = "not all of it is needed here"
)]
mod support;
mod task;

use std::fs::{self, File};
use std::process::{Command, ExitCode};
use std::time::Duration;

use soak::Soak;
use support::Database;

/// Starts and stops the servers.
pub const SERVICES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/services");

/// Where the servers of the soak are kept, so that the next soak starts them at once.
const DIRECTORY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/target/services-soak");

/// Set in the environment where the servers run.
const INNER: &str = "CARROT_SOAK_HAS_SERVERS";

/// How long it runs unless `CARROT_SOAK` is set.
const SHORT: Duration = Duration::from_secs(20);

fn main() -> ExitCode {
    if let Some(code) = services::live() {
        return code;
    }
    let databases = asked_for();
    if databases.is_empty() {
        return ExitCode::SUCCESS;
    }
    if std::env::var_os(INNER).is_none() {
        return with_servers();
    }
    let length = std::env::var("CARROT_SOAK").map_or(SHORT, |length| {
        humantime::parse_duration(&length)
            .unwrap_or_else(|_| panic!("CARROT_SOAK={length} is not a time such as 10m"))
    });
    let random = support::random();
    for database in databases {
        Soak::run(database, length, random.clone());
    }
    ExitCode::SUCCESS
}

/// The databases that the arguments select, as they would select tests; all without arguments.
fn asked_for() -> Vec<Database> {
    let mut all = vec![Database::Postgresql, Database::Sqlite];
    #[cfg(feature = "mysql")]
    all.push(Database::Mariadb);
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.iter().any(|argument| argument == "--list") {
        return Vec::new();
    }
    let mut filters = arguments
        .iter()
        .filter(|argument| !argument.starts_with('-'))
        .peekable();
    if filters.peek().is_some() {
        let filters: Vec<_> = filters.collect();
        all.retain(|database| {
            let name = format!("soak::{database:?}").to_lowercase();
            filters.iter().any(|filter| name.contains(*filter))
        });
    }
    all
}

/// Runs this program again, with servers.
fn with_servers() -> ExitCode {
    fs::create_dir_all(DIRECTORY).unwrap();
    // One soak at a time.
    let lock = File::create(format!("{DIRECTORY}/soak.lock")).unwrap();
    lock.lock().unwrap();
    let status = Command::new(SERVICES)
        .arg("run")
        .arg(std::env::current_exe().unwrap())
        .args(std::env::args().skip(1))
        .env("CARROT_SERVICES_DIR", DIRECTORY)
        .env(INNER, "1")
        .status()
        .unwrap();
    ExitCode::from(u8::from(!status.success()))
}
