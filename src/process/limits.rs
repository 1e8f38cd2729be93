//! How many files the service may have open: as many as its concurrency needs, if the system allows that.
//! Its commands get the limit that it was started with.

use std::sync::OnceLock;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::config::Config;

/// What a service has open by itself: log, connections to its database, what threads wait on.
const BY_ITSELF: usize = 128;

/// A queue's connection, and what its threads wait on.
const A_QUEUE: usize = 16;

/// A command that is being started: its pipes with both their ends, what is asked whether it lives, and how
/// its start is told. A function may have some files and connections open, too.
const A_TASK: usize = 8;

/// The limit that this process was started with, if it has another now.
static ORIGINAL: OnceLock<Rlimit> = OnceLock::new();

/// About how many files a service may have open at once.
fn needed(config: &Config) -> u64 {
    let consumable = config.queues.iter().filter(|queue| queue.consumable);
    let of_queues: usize = consumable
        .map(|queue| A_QUEUE + A_TASK * queue.concurrency)
        .sum();
    u64::try_from(BY_ITSELF + of_queues).unwrap_or(u64::MAX)
}

/// Raises the limit to what the service needs, at most to what the system allows it, and warns where that
/// is too little.
pub(crate) fn raise(config: &Config) {
    let limit = getrlimit(Resource::Nofile);
    let needed = needed(config);
    // Without one there is no limit.
    if limit.current.is_none_or(|current| current >= needed) {
        return;
    }
    let most = limit.maximum.map_or(needed, |hard| hard.min(needed));
    let raised = Rlimit {
        current: Some(most),
        maximum: limit.maximum,
    };
    if limit.current.is_some_and(|current| current < most) {
        match setrlimit(Resource::Nofile, raised) {
            Ok(()) => {
                // The first one counts: a test has several services in a process.
                ORIGINAL.get_or_init(|| limit);
                log::debug!("up to {most} files may be open from now on");
            }
            Err(error) => log::warn!("the limit of open files can't be raised: {error}"),
        }
    }
    if most < needed {
        log::warn!(
            "with this concurrency the service may have {needed} files open, and the system allows it {most}: \
             messages that find none left are put off; raise the hard limit (LimitNOFILE= in a systemd \
             unit, `ulimit -Hn` in a shell, --ulimit nofile= of a container), or lower the concurrency"
        );
    }
}

/// What a command is to get back: it may not be made for more files, as who calls `select` is not.
pub(crate) fn original() -> Option<Rlimit> {
    ORIGINAL.get().copied()
}

/// Gives this process such a limit: between fork and exec, by one system call.
pub(crate) fn restore(limit: Rlimit) -> rustix::io::Result<()> {
    setrlimit(Resource::Nofile, limit)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{BrokerHost, QueueConfig};

    #[test]
    fn each_queue_and_each_task_of_those_that_are_consumed_counts() {
        let queue = |concurrency, consumable| QueueConfig {
            concurrency,
            consumable,
            ..QueueConfig::new("q", BrokerHost::Embedded)
        };
        let config = Config {
            queues: vec![queue(200, true), queue(2, true), queue(500, false)],
            ..Config::default()
        };
        assert_eq!(needed(&config), 128 + 2 * 16 + 202 * 8);
    }
}
