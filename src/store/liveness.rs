//! The liveness of workers: how a process is identified, and when its worker counts as dead.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::time::Instant;

use rustix::io::Errno;
use rustix::process::{Pid, getpid, test_kill_process};

use crate::store::{DEAD_AFTER, Heartbeat, StoreError, WorkerId, WorkerProcess, WorkerStore};

/// This process, as its worker's row describes it.
///
/// # Errors
/// When `/proc` can't be read.
pub fn this_process() -> io::Result<WorkerProcess> {
    let pid = getpid().as_raw_nonzero().get();
    let process_start = process_start(pid)?.ok_or(io::ErrorKind::NotFound)?;
    Ok(WorkerProcess {
        host: rustix::system::uname()
            .nodename()
            .to_string_lossy()
            .into_owned(),
        namespace: namespace()?,
        pid,
        process_start,
    })
}

/// The boot of this machine and the process namespace, in which a pid is valid. The host's name is not enough,
/// since two containers may share one.
fn namespace() -> io::Result<String> {
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
    let namespace = fs::read_link("/proc/self/ns/pid")?;
    Ok(format!("{} {}", boot.trim(), namespace.display()))
}

/// When the process began, in clock ticks since boot (proc(5): field 22 of `stat`); `None` when it
/// is gone, or dead and not yet reaped.
///
/// # Errors
/// When this process may not see it.
fn process_start(pid: i32) -> io::Result<Option<i64>> {
    let stat = match fs::read_to_string(format!("/proc/{pid}/stat")) {
        Ok(stat) => stat,
        // Gone; or another user's, and hidden from us (proc(5): `hidepid`).
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return if is_nowhere(pid) {
                Ok(None)
            } else {
                Err(error)
            };
        }
        // The process ended while it was read.
        Err(error) if error.raw_os_error() == Some(Errno::SRCH.raw_os_error()) => {
            return Ok(None);
        }
        Err(error) => return Err(error),
    };
    // The command's name may contain anything, even brackets; the fields after it do not.
    let after_name = stat.rsplit_once(')').map_or("", |(_, after)| after);
    let mut fields = after_name.split_whitespace();
    let state = fields.next().unwrap_or_default();
    if matches!(state, "Z" | "X" | "x") {
        return Ok(None);
    }
    let start = fields.nth(18).and_then(|field| field.parse().ok());
    start
        .map(Some)
        .ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// Whether the kernel knows no process of that number, hidden or not.
fn is_nowhere(pid: i32) -> bool {
    Pid::from_raw(pid).is_none_or(|pid| test_kill_process(pid) == Err(Errno::SRCH))
}

/// Whether the process is certainly gone. A process that this one may not see counts as alive.
fn is_gone(process: &WorkerProcess) -> bool {
    matches!(process_start(process.pid), Ok(start) if start != Some(process.process_start))
}

/// Removes the workers in this process namespace whose process is gone, without waiting for their heartbeat to
/// grow old. Returns how many.
///
/// # Errors
/// When the database is away.
pub fn remove_dead_workers(
    session: &mut dyn WorkerStore,
    namespace: &str,
) -> Result<usize, StoreError> {
    let dead: Vec<(WorkerId, WorkerProcess)> = session
        .workers_in(namespace)?
        .into_iter()
        .filter(|(_, process)| is_gone(process))
        .collect();
    for (id, process) in &dead {
        log::warn!(
            "worker {} (pid {} on {}) died without signing off: its messages are taken over",
            id.0,
            process.pid,
            process.host
        );
    }
    let ids: Vec<WorkerId> = dead.iter().map(|(id, _)| *id).collect();
    if !ids.is_empty() {
        session.deregister(&ids)?;
    }
    Ok(ids.len())
}

/// Measures by this host's clock, too, for how long workers have been silent. By the database's clock alone, every
/// heartbeat is old at once if that clock is set ahead, or if all machines have slept.
///
/// For each worker: its last heartbeat, and when this was first seen.
#[derive(Debug, Default)]
pub struct SilenceTracker(HashMap<WorkerId, (String, Instant)>);

impl SilenceTracker {
    /// Takes the current `heartbeats`, and returns the workers that have been silent for [`DEAD_AFTER`].
    fn observe(&mut self, heartbeats: Vec<Heartbeat>, now: Instant) -> Vec<WorkerId> {
        let mut before = std::mem::take(&mut self.0);
        let mut silent = Vec::new();
        for Heartbeat {
            worker,
            time,
            is_old,
        } in heartbeats
        {
            let known = before.remove(&worker).filter(|(known, _)| *known == time);
            let since = known.map_or(now, |(_, since)| since);
            if is_old && now.saturating_duration_since(since) >= DEAD_AFTER {
                silent.push(worker);
            }
            self.0.insert(worker, (time, since));
        }
        silent
    }
}

/// Removes the workers that have been silent for too long, if `may_remove` agrees. It is called only after the
/// database has answered, because only then is it known whether the database stood still.
///
/// # Errors
/// When the database is away.
pub fn remove_silent_workers(
    session: &mut dyn WorkerStore,
    tracker: &mut SilenceTracker,
    may_remove: impl FnOnce() -> bool,
) -> Result<(), StoreError> {
    let silent = tracker.observe(session.heartbeats()?, Instant::now());
    if silent.is_empty() || !may_remove() {
        return Ok(());
    }
    for id in &silent {
        log::warn!(
            "worker {} has been silent for long: its messages are taken over",
            id.0
        );
    }
    session.deregister(&silent)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_is_silent_once_both_clocks_say_so() {
        let beat = |time: &str, is_old| Heartbeat {
            worker: WorkerId(1),
            time: time.to_owned(),
            is_old,
        };
        let (start, mut tracker) = (Instant::now(), SilenceTracker::default());
        let at = |seconds| start + std::time::Duration::from_secs(seconds);
        // The database's clock was set ahead.
        assert_eq!(tracker.observe(vec![beat("a", true)], at(0)), []);
        assert_eq!(tracker.observe(vec![beat("b", true)], at(19)), []);
        // It was set back.
        assert_eq!(tracker.observe(vec![beat("b", false)], at(40)), []);
        assert_eq!(
            tracker.observe(vec![beat("b", true)], at(40)),
            [WorkerId(1)]
        );
        assert_eq!(tracker.observe(vec![], at(41)), []);
        assert_eq!(tracker.observe(vec![beat("b", true)], at(42)), []);
    }

    #[test]
    fn this_process_is_there_and_its_pid_used_by_another_is_not_it() {
        let this = this_process().unwrap();
        assert!(!is_gone(&this));
        let earlier = WorkerProcess {
            process_start: this.process_start - 1,
            ..this
        };
        assert!(is_gone(&earlier));
    }

    #[test]
    fn a_process_that_is_dead_and_not_reaped_is_gone() {
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        while process_start(pid).unwrap().is_some() {
            std::thread::yield_now();
        }
        child.wait().unwrap();
    }
}
