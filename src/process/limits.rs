//! Raises the limit of open files to what the service's concurrency needs, if the system allows that. Commands of
//! tasks get the original limit.

use std::sync::OnceLock;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::config::Config;

/// The files that every service has open: its log, connections to its database, what threads wait on.
const BASE_FILES: usize = 128;

/// The files for each queue: its connection, and what its threads wait on.
const FILES_PER_QUEUE: usize = 16;

/// The files for each task. A command that is being started needs most: both ends of its pipes, a descriptor that
/// tells whether it lives, and one that reports its start. A function may have some files and connections open, too.
const FILES_PER_TASK: usize = 8;

/// The limit that this process was started with, if it was raised.
static ORIGINAL: OnceLock<Rlimit> = OnceLock::new();

/// About how many files a service may have open at once.
fn needed(config: &Config) -> u64 {
    let consumable = config.queues.iter().filter(|queue| queue.consumable);
    let of_queues: usize = consumable
        .map(|queue| FILES_PER_QUEUE + FILES_PER_TASK * queue.concurrency)
        .sum();
    u64::try_from(BASE_FILES + of_queues).unwrap_or(u64::MAX)
}

/// Raises the limit to what the service needs, at most to the hard limit, and warns if that is too low.
pub(crate) fn raise(config: &Config) {
    let limit = getrlimit(Resource::Nofile);
    let needed = needed(config);
    // `None` means unlimited.
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
                // Only the first one counts: a test runs several services in a process.
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

/// The limit that commands get back: a program that calls `select` can't handle more files.
pub(crate) fn original() -> Option<Rlimit> {
    ORIGINAL.get().copied()
}

/// Sets this process's limit by a single system call, as is safe between fork and exec.
pub(crate) fn restore(limit: Rlimit) -> rustix::io::Result<()> {
    setrlimit(Resource::Nofile, limit)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{BrokerHost, QueueConfig};

    #[test]
    fn each_consumed_queue_and_each_of_its_tasks_counts() {
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
