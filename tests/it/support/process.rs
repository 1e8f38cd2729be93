//! The binary as a process.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Instant;

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::world::World;
use super::{PATIENCE, eventually};

/// A service that runs as a process; killed with the test.
pub struct Running {
    child: Child,
    pub log: PathBuf,
    stdout: PathBuf,
}

impl World {
    /// The binary with these arguments, in the test's directory, with its servers in the environment.
    pub fn command(&self, arguments: &[&str]) -> Command {
        self.command_of(env!("CARGO_BIN_EXE_carrot-actors"), arguments)
    }

    /// The same for another program with the same command line.
    pub fn command_of(&self, program: impl AsRef<OsStr>, arguments: &[&str]) -> Command {
        let mut command = Command::new(program);
        command
            .args(arguments)
            .current_dir(self.directory())
            .env_remove("CARROT_CONFIG")
            .env_remove("CARROT_FAILPOINTS")
            .env_remove("DATABASE_URL")
            .env("CARROT_DEFAULT_BROKER", &self.broker_url)
            .env("CARROT_DATABASE_URL", &self.database_url)
            .stdin(Stdio::null());
        command
    }

    /// Runs the binary to its end: exit code, standard output, standard error.
    pub fn run(&self, arguments: &[&str]) -> (i32, String, String) {
        outcome(&mut self.command(arguments))
    }

    /// Sends a message with the binary; its uuid.
    #[track_caller]
    pub fn send(&self, arguments: &[&str]) -> String {
        let (code, out, err) = self.run(&[&["send"], arguments].concat());
        assert_eq!(code, 0, "{err}");
        out.trim().to_owned()
    }

    /// Starts the service with these arguments and waits until it consumes.
    #[track_caller]
    pub fn start(&self, arguments: &[&str]) -> Running {
        let running = self.launch(arguments, "");
        running.await_log("consuming queue");
        running
    }

    /// Starts the service with failpoints, without waiting for anything.
    pub fn launch(&self, arguments: &[&str], failpoints: &str) -> Running {
        let mut command = self.command(arguments);
        command.env("CARROT_FAILPOINTS", failpoints);
        self.spawn(command)
    }

    /// Starts a service that does not consume the queue "default", with failpoints, without waiting for
    /// anything. Its sweep and its scheduler publish to that queue.
    pub fn launch_without_consuming(&self, failpoints: &str) -> Running {
        let config = "[[queues]]\nname = 'default'\nconsumable = false\n";
        self.write("not-consuming.toml", config);
        let path = self.directory().join("not-consuming.toml");
        self.launch(&["--config", path.to_str().unwrap()], failpoints)
    }

    /// An ignored test in a process of its own, on this world's servers. `module` is its `module_path!()`.
    pub fn ignored_test(&self, module: &str, name: &str) -> Command {
        let (_, path) = module.split_once("::").unwrap();
        let mut command = Command::new(std::env::current_exe().unwrap());
        command
            .args(["--exact", &format!("{path}::{name}"), "--ignored"])
            .current_dir(self.directory())
            .env("CARROT_DEFAULT_BROKER", &self.broker_url)
            .env("CARROT_DATABASE_URL", &self.database_url);
        command
    }

    /// Starts the service by `command`, without waiting for anything.
    pub fn spawn(&self, mut command: Command) -> Running {
        let nth = self.logs().len();
        let log = self.directory().join(format!("service-{nth}.log"));
        let stdout = self.directory().join(format!("service-{nth}.out"));
        let child = command
            .arg("--logfile")
            .arg(&log)
            .stdout(File::create(&stdout).unwrap())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Running { child, log, stdout }
    }
}

impl World {
    /// The log files of all services that were started in this world.
    pub fn logs(&self) -> Vec<PathBuf> {
        let files = fs::read_dir(self.directory()).unwrap();
        let is_log = |path: &PathBuf| {
            let name = path.file_name().unwrap().to_string_lossy();
            name.starts_with("service-") && name.ends_with(".out")
        };
        let logs = files.map(|file| file.unwrap().path()).filter(is_log);
        logs.map(|path| path.with_extension("log")).collect()
    }
}

impl Running {
    /// The process.
    pub fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).unwrap();
    }

    /// `kill -9`, and waits until it is dead.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// SIGTERM, and waits for the exit code.
    #[track_caller]
    pub fn terminate(&mut self) -> i32 {
        self.signal(Signal::TERM);
        self.wait()
    }

    /// Stops it in order, and fails unless each of these queues is empty then: nothing waits, and nothing was
    /// returned to the queue.
    #[track_caller]
    pub fn stop_with_empty(&mut self, world: &World, queues: &[&str]) {
        assert_eq!(self.terminate(), 0);
        for queue in queues {
            assert_eq!(world.ready(queue), 0, "{queue}");
        }
    }

    /// The exit code, if the process has ended.
    pub fn ended(&mut self) -> Option<i32> {
        self.child.try_wait().unwrap().map(exit_code)
    }

    /// Waits until the process has ended by itself.
    #[track_caller]
    pub fn wait(&mut self) -> i32 {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(code) = self.ended() {
                return code;
            }
            assert!(
                Instant::now() < deadline,
                "the process did not end:\n{}",
                self.log()
            );
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
    }

    /// The log.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// The standard output.
    pub fn output(&self) -> String {
        fs::read_to_string(&self.stdout).unwrap_or_default()
    }

    /// How many times the service has begun to consume a queue.
    pub fn openings(&self) -> usize {
        self.log().matches("consuming queue").count()
    }

    /// Waits until the service has begun to consume `count` times.
    #[track_caller]
    pub fn await_openings(&self, count: usize) {
        eventually(&format!("consuming begins for the {count}th time"), || {
            self.openings() >= count
        });
    }

    /// Calls `interrupt`, and waits until the service consumes again.
    #[track_caller]
    pub fn reopens_after<T>(&self, interrupt: impl FnOnce() -> T) {
        let before = self.openings();
        interrupt();
        self.await_openings(before + 1);
    }

    /// Waits until the log contains `text`.
    #[track_caller]
    pub fn await_log(&self, text: &str) {
        eventually(&format!("{text:?} in {}", self.log.display()), || {
            self.log().contains(text)
        });
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.child.kill().is_ok() {
            self.child.wait().unwrap();
        }
        if std::thread::panicking() {
            eprintln!("---- {}\n{}", self.log.display(), self.log());
        }
    }
}

/// The pids in a text, separated by white space.
pub fn pids(text: &str) -> Vec<Pid> {
    text.split_whitespace()
        .map(|pid| Pid::from_raw(pid.parse().unwrap()).unwrap())
        .collect()
}

/// Whether the process runs: it exists and is no zombie.
pub fn lives(pid: Pid) -> bool {
    let path = format!("/proc/{}/stat", pid.as_raw_nonzero());
    let stat = fs::read_to_string(path).unwrap_or_default();
    let state = stat.rsplit_once(") ").map(|(_, state)| state);
    state.is_some_and(|state| !state.starts_with(['Z', 'X']))
}

/// Waits until the process does not run any more.
#[track_caller]
pub fn await_end(pid: Pid) {
    eventually(&format!("process {pid:?} ends"), || !lives(pid));
}

/// Runs a command to its end: exit code, standard output, standard error.
pub fn outcome(command: &mut Command) -> (i32, String, String) {
    let output = command.output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    let code = exit_code(output.status);
    (code, text(output.stdout), text(output.stderr))
}

/// The exit code, or the negative signal number.
pub fn exit_code(status: ExitStatus) -> i32 {
    use std::os::unix::process::ExitStatusExt;
    status
        .code()
        .or_else(|| status.signal().map(|signal| -signal))
        .unwrap()
}

/// A command that runs; killed with the test.
pub struct Spawned {
    child: Child,
    out: TempDir,
}

impl Spawned {
    pub fn new(command: &mut Command) -> Self {
        let out = TempDir::new().unwrap();
        let file = |name: &str| File::create(out.path().join(name)).unwrap();
        let child = command
            .stdout(file("out"))
            .stderr(file("err"))
            .spawn()
            .unwrap();
        Self { child, out }
    }

    /// The process.
    pub fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// The standard error.
    pub fn errors(&self) -> String {
        fs::read_to_string(self.out.path().join("err")).unwrap()
    }

    /// The standard output.
    pub fn output(&self) -> String {
        fs::read_to_string(self.out.path().join("out")).unwrap()
    }

    /// Waits until the standard output contains `text`.
    #[track_caller]
    pub fn await_output(&self, text: &str) {
        eventually(&format!("{text:?} in the output"), || {
            self.output().contains(text)
        });
    }

    /// Waits for its end: exit code, standard output, standard error.
    #[track_caller]
    pub fn wait(&mut self) -> (i32, String, String) {
        let code = eventually("the command ends", || {
            self.child.try_wait().unwrap().map(exit_code)
        });
        let err = fs::read_to_string(self.out.path().join("err")).unwrap();
        (code, self.output(), err)
    }
}

impl Drop for Spawned {
    fn drop(&mut self) {
        if self.child.kill().is_ok() {
            self.child.wait().unwrap();
        }
        if std::thread::panicking() {
            eprintln!("---- {}{}", self.output(), self.errors());
        }
    }
}
