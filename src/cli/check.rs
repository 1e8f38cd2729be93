//! `carrot-actors check`: checks the configuration, each broker and the database.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::exit::Exit;
use super::failure::CommandFailure;
use super::output::{say, warn};
use crate::broker;
use crate::config::{BrokerHost, Config};
use crate::store;

pub(super) fn check(config: Result<Arc<Config>, CommandFailure>) -> Exit {
    let config = match config {
        Ok(config) => config,
        Err(failure) => {
            tell("configuration", &Err(failure.error.to_string()));
            return failure.exit;
        }
    };
    let source = config.file.as_ref().map_or_else(
        || "defaults and environment; there is no file".to_owned(),
        |file| file.display().to_string(),
    );
    tell("configuration", &Ok(source));
    let mut exit = Exit::Ok;
    for host in brokers(&config) {
        let verdict = check_broker(&host);
        tell(&format!("broker {host}"), &verdict);
        if verdict.is_err() {
            exit = Exit::Unavailable;
        }
    }
    match check_database(&config) {
        Ok(version) => tell("database", &Ok(version)),
        Err(failure) => {
            tell("database", &Err(failure.error.to_string()));
            exit = failure.exit;
        }
    }
    exit
}

/// Every broker once, in the order of the configuration.
fn brokers(config: &Config) -> Vec<BrokerHost> {
    let mut seen = BTreeSet::new();
    std::iter::once(&config.default_broker)
        .filter(|_| config.queues.is_empty())
        .chain(config.queues.iter().map(|queue| &queue.host))
        .filter(|host| seen.insert(host.to_string()))
        .cloned()
        .collect()
}

fn check_broker(host: &BrokerHost) -> Result<String, String> {
    broker::publisher(host)
        .map(|publisher| publisher.version())
        .map_err(|error| {
            // The printed line names the broker already.
            let text = error.to_string();
            text.strip_prefix(&format!("{host}: "))
                .map_or(text.clone(), str::to_owned)
        })
}

fn check_database(config: &Config) -> Result<String, CommandFailure> {
    let store = store::open_for(config)?;
    let version = store::session(store.as_ref())?.version()?;
    Ok(format!("{version} at {}", store.describe()))
}

fn tell(what: &str, verdict: &Result<String, String>) {
    let line = match verdict {
        Ok(detail) => format!("{what}: ok ({detail})"),
        Err(fault) => format!("{what}: FAULTY: {fault}"),
    };
    if say(&line).is_err() {
        warn(&line);
    }
}
