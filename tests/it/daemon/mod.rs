//! The daemon and its controller: the real binary, each verb in each state, with its output and exit
//! code.

mod command_guard;
mod detachment;
mod pidfile;
mod recovery;
mod restart;
mod start;
mod status;
mod stop;

use std::fs;
use std::process::Command;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::support::{Database, Spawned, World, eventually, outcome};

/// Two queues, and commands that run until the test says `go`.
const CONFIG: &str = r#"
[[queues]]
name = "one"
concurrency = 2
[[queues]]
name = "two"
[tasks.gated]
command = ["sh", "-c", "touch started.$$; until test -e go; do sleep 0.02; done"]
[tasks.endless]
command = ["sh", "-c", "sleep 1000 & echo $$ $! >pids.new; mv pids.new pids; wait"]
[tasks.noop]
command = ["true"]
"#;

/// The least that starts: nobody listens at its broker, and its database is a file. Up within
/// milliseconds.
const LONELY: &str = r#"
default_broker = "amqp://guest:s3cr3t@127.0.0.1:1/"
database_url = "sqlite://carrot.db"
"#;

/// Exit codes, as documented.
mod code {
    pub const DEAD: i32 = 1;
    pub const STOPPED: i32 = 3;
    pub const UNKNOWN: i32 = 4;
    pub const NOT_RUNNING: i32 = 7;
    pub const STILL_RUNNING: i32 = 8;
    pub const ALREADY_RUNNING: i32 = 9;
    pub const PIDFILE: i32 = 72;
}

/// A world with a daemon in it; whatever runs at the end of the test is killed.
struct Daemon {
    world: World,
}

impl std::ops::Deref for Daemon {
    type Target = World;

    fn deref(&self) -> &World {
        &self.world
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("---- daemon.log\n{}", self.read("daemon.log"));
        }
        self.daemon(&["stop", "--hard"]);
    }
}

impl Daemon {
    /// One with its servers.
    fn new() -> Self {
        Self {
            world: World::new(CONFIG),
        }
    }

    /// One without servers.
    fn lonely() -> Self {
        let mut world = World::without_tables_on(Database::Sqlite, LONELY);
        // What stands in the file counts.
        world.broker_url.clear();
        world.database_url.clear();
        Self { world }
    }

    /// The command with a pidfile and a log of the test's own.
    fn controller(&self, arguments: &[&str]) -> Command {
        let own = ["--pidfile", "daemon.pid", "--logfile", "daemon.log"];
        self.command(&[&["daemon"], arguments, &own].concat())
    }

    /// Its exit code, standard output and standard error.
    fn daemon(&self, arguments: &[&str]) -> (i32, String, String) {
        outcome(&mut self.controller(arguments))
    }

    /// Starts the daemon, which must succeed; its pid.
    #[track_caller]
    fn up(&self) -> Pid {
        self.up_by(&mut self.controller(&["start"]))
    }

    /// The same by a command of the test's own.
    #[track_caller]
    fn up_by(&self, start: &mut Command) -> Pid {
        let (code, out, err) = outcome(start);
        assert_eq!((code, err.as_str()), (0, ""), "{out}");
        self.pid()
    }

    /// The pid in the pidfile.
    #[track_caller]
    fn pid(&self) -> Pid {
        let text = self.read("daemon.pid");
        let number = text
            .strip_suffix('\n')
            .unwrap_or_else(|| panic!("{text:?}"));
        Pid::from_raw(number.parse().unwrap()).unwrap()
    }

    /// Stops it, which must succeed.
    #[track_caller]
    fn down(&self) {
        let (code, out, err) = self.daemon(&["stop"]);
        assert_eq!((code, err.as_str()), (0, ""), "{out}");
        assert!(out.ends_with("Process has been stopped\n"), "{out}");
    }

    /// What `status --json` says.
    #[track_caller]
    fn status(&self) -> Value {
        let (_, out, _) = self.daemon(&["status", "--json"]);
        serde_json::from_str(&out).unwrap()
    }

    /// Starts a verb and waits for nothing.
    fn begin(&self, arguments: &[&str]) -> Spawned {
        Spawned::new(&mut self.controller(arguments))
    }

    /// Waits until so many gated commands run.
    #[track_caller]
    fn await_running(&self, count: u64) {
        eventually("running tasks", || self.status()["running_tasks"] == count);
    }

    /// Waits for the endless command, and returns it and its child.
    #[track_caller]
    fn endless(&self) -> Vec<Pid> {
        let pids = eventually("the command", || {
            Some(self.read("pids")).filter(|pids| !pids.is_empty())
        });
        let pids = pids.split_whitespace();
        pids.map(|pid| Pid::from_raw(pid.parse().unwrap()).unwrap())
            .collect()
    }
}

/// Whether the process runs.
fn lives(pid: Pid) -> bool {
    let stat =
        fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).unwrap_or_default();
    let state = stat.rsplit_once(") ").map(|(_, state)| state.to_owned());
    state.is_some_and(|state| !state.starts_with(['Z', 'X']))
}

/// `kill -9`, and waits until it is dead.
#[track_caller]
fn kill(pid: Pid) {
    kill_process(pid, Signal::KILL).unwrap();
    await_end(pid);
}

#[track_caller]
fn await_end(pid: Pid) {
    eventually("its end", || !lives(pid));
}
