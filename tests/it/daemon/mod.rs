//! The commands `daemon start`, `stop`, `restart` and `status`, with their output and exit codes, and the
//! process that they control.

mod command_guard;
mod detachment;
mod pidfile;
mod recovery;
mod restart;
mod start;
mod status;
mod stop;

use std::process::Command;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::support::{self, Database, Spawned, World, await_end, eventually, outcome};

/// Two queues, a task `gated` that runs until the test writes the file `go`, and a task `endless` with a
/// child.
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

/// The least that a service starts with: no broker listens, and the database is a file. It is up within
/// milliseconds.
const LONELY: &str = r#"
default_broker = "amqp://guest:s3cr3t@127.0.0.1:1/"
database_url = "sqlite://carrot.db"
"#;

/// The documented exit codes.
mod code {
    pub const DEAD: i32 = 1;
    pub const STOPPED: i32 = 3;
    pub const UNKNOWN: i32 = 4;
    pub const NOT_RUNNING: i32 = 7;
    pub const STILL_RUNNING: i32 = 8;
    pub const ALREADY_RUNNING: i32 = 9;
    pub const PIDFILE: i32 = 72;
}

/// A world with a daemon, which is killed with the test.
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
    /// With the servers of a world.
    fn new() -> Self {
        Self {
            world: World::new(CONFIG),
        }
    }

    /// Without any server.
    fn lonely() -> Self {
        let mut world = World::without_tables_on(Database::Sqlite, LONELY);
        // So that the configuration file counts.
        world.broker_url.clear();
        world.database_url.clear();
        Self { world }
    }

    /// The `daemon` command with a pidfile and a log in the test's directory.
    fn controller(&self, arguments: &[&str]) -> Command {
        let own = ["--pidfile", "daemon.pid", "--logfile", "daemon.log"];
        self.command(&[&["daemon"], arguments, &own].concat())
    }

    /// Runs the `daemon` command: exit code, standard output, standard error.
    fn daemon(&self, arguments: &[&str]) -> (i32, String, String) {
        outcome(&mut self.controller(arguments))
    }

    /// Starts the daemon, which must succeed; its pid.
    #[track_caller]
    fn up(&self) -> Pid {
        self.up_by(&mut self.controller(&["start"]))
    }

    /// The same with another command.
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

    /// The output of `status --json`.
    #[track_caller]
    fn status(&self) -> Value {
        let (_, out, _) = self.daemon(&["status", "--json"]);
        serde_json::from_str(&out).unwrap()
    }

    /// Starts a `daemon` command without waiting for its end.
    fn begin(&self, arguments: &[&str]) -> Spawned {
        Spawned::new(&mut self.controller(arguments))
    }

    /// Waits until `count` tasks run.
    #[track_caller]
    fn await_running(&self, count: u64) {
        eventually(&format!("{count} tasks run"), || {
            self.status()["running_tasks"] == count
        });
    }

    /// Waits until the command `endless` runs; its pid and that of its child.
    #[track_caller]
    fn endless(&self) -> Vec<Pid> {
        let pids = eventually("the command has written its pids", || {
            Some(self.read("pids")).filter(|pids| !pids.is_empty())
        });
        support::pids(&pids)
    }
}

/// `kill -9`, and waits until it is dead.
#[track_caller]
fn kill(pid: Pid) {
    kill_process(pid, Signal::KILL).unwrap();
    await_end(pid);
}
