//! The service as a separate process, with its real command line: the stock binary, or this program with
//! no-op functions registered.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use carrot_actors::{App, Client, PublishError};
use crossbeam_channel::{Receiver, unbounded};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

use crate::Bench;
use crate::database::Database;

/// Set in the environment where this program is to be the service: how many runs it counts.
const EXPECTED: &str = "CARROT_BENCH_EXPECTED";

/// The configuration of a queue on the embedded broker.
pub const EMBEDDED: &str = "host = \"embedded\"\n";

/// Longer than a service takes for anything.
const PATIENCE: Duration = Duration::from_secs(120);

/// The wall clock in nanoseconds, which is the same in all processes. [`crate::latency`] detects when it is
/// set.
pub fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    u64::try_from(since.expect("a clock").as_nanos()).expect("this century")
}

/// Runs the service, if this program is to be one.
pub fn live() -> Option<ExitCode> {
    let expected: usize = std::env::var(EXPECTED).ok()?.parse().ok()?;
    let ran = AtomicUsize::new(0);
    let count = Arc::new(move || {
        let nth = ran.fetch_add(1, Ordering::Relaxed) + 1;
        if nth == 1 {
            say("first");
        }
        if nth == expected {
            say("last");
        }
    });
    let latencies = Arc::new(Mutex::new(Vec::with_capacity(expected)));
    let mut tasks = App::new()
        .task("relay", relay)
        .into_registry()
        .expect("a task");
    let (counted, kept) = (Arc::clone(&count), Arc::clone(&latencies));
    tasks
        .register("noop", move |_, _| {
            count();
            Ok(Value::Null)
        })
        .and_then(|()| {
            tasks.register("stamped", move |_, arguments| {
                let now = now();
                let (published,): (u64,) = arguments.positional()?;
                let latency = now.saturating_sub(published);
                kept.lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .push(latency);
                counted();
                Ok(Value::Null)
            })
        })
        .and_then(|()| tasks.register("warm-up", |_, _| Ok(Value::Null)))
        .expect("three names");
    let code = carrot_actors::cli::main(tasks);
    let latencies = latencies.lock().unwrap_or_else(PoisonError::into_inner);
    let latencies: Vec<String> = latencies.iter().map(u64::to_string).collect();
    say(&format!("latencies {}", latencies.join(" ")));
    Some(code)
}

/// A task that publishes another message.
fn relay(client: Client) -> Result<(), PublishError> {
    client.task("stamped").args((now(),)).publish().map(drop)
}

fn say(line: &str) {
    let mut out = std::io::stdout();
    writeln!(out, "{line}")
        .and_then(|()| out.flush())
        .expect("somebody who reads");
}

/// How a service is to run.
pub struct Setup<'a> {
    pub queue: &'a str,
    pub concurrency: usize,
    pub loglevel: &'a str,
    /// How many runs of functions it counts; `None` for the stock binary, which has no functions.
    pub expected: Option<usize>,
    /// Whether it has a scheduler.
    pub scheduler: bool,
    /// Further configuration.
    pub config: &'a str,
}

/// A service that runs; killed unless it is stopped.
pub struct Running {
    child: Child,
    said: Receiver<String>,
    directory: TempDir,
}

/// The costs of a service.
pub struct Cost {
    /// The peak of its resident memory, in MiB.
    pub peak_memory: f64,
    /// The CPU time of all threads that are alive.
    pub cpu: Duration,
}

impl Running {
    pub fn start(bench: &Bench, database: &Database, setup: &Setup<'_>) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        fs::write(
            directory.path().join("carrot.toml"),
            config(bench, database, setup),
        )
        .expect("a file");
        let program = match setup.expected {
            Some(_) => std::env::current_exe().expect("this program"),
            None => env!("CARGO_BIN_EXE_carrot-actors").into(),
        };
        let mut command = Command::new(program);
        command
            .current_dir(directory.path())
            .args(["--loglevel", setup.loglevel, "--logfile", "carrot.log"])
            .args((!setup.scheduler).then_some("--no-scheduler"))
            .env_remove("CARROT_CONFIG")
            .env_remove("CARROT_DEFAULT_BROKER")
            .env_remove("CARROT_DATABASE_URL")
            .env_remove("DATABASE_URL")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(File::create(directory.path().join("terminal")).expect("a file"));
        if let Some(expected) = setup.expected {
            command.env(EXPECTED, expected.to_string());
        }
        let mut child = command.spawn().expect("a service");
        let stdout = child.stdout.take().expect("its standard output");
        let (say, said) = unbounded();
        thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                say.send(line).unwrap_or_default();
            }
        });
        Self {
            child,
            said,
            directory,
        }
    }

    /// Waits for a line that begins with `start`; the rest of it.
    pub fn await_line(&self, start: &str) -> String {
        loop {
            let Ok(line) = self.said.recv_timeout(PATIENCE) else {
                panic!(
                    "the service never said {start:?}; it logged\n{}",
                    self.log()
                );
            };
            if let Some(rest) = line.strip_prefix(start) {
                return rest.to_owned();
            }
        }
    }

    /// Waits until all its actors have started.
    pub fn await_start(&self) {
        self.await_line("All queues consumer sets started successfully");
    }

    fn log(&self) -> String {
        fs::read_to_string(self.directory.path().join("terminal")).unwrap_or_default()
    }

    /// Its costs so far.
    pub fn cost(&self) -> Cost {
        let process = format!("/proc/{}", self.child.id());
        let status = read(&format!("{process}/status"));
        let peak = status
            .lines()
            .find_map(|line| line.strip_prefix("VmHWM:"))
            .and_then(|line| line.trim().strip_suffix(" kB")?.parse::<f64>().ok())
            .expect("VmHWM");
        let threads = fs::read_dir(format!("{process}/task")).expect("its threads");
        let cpu = threads.flatten().map(|thread| on_cpu(&thread.path())).sum();
        Cost {
            peak_memory: peak / 1024.0,
            cpu,
        }
    }

    /// Stops it in order; the rest of a line that begins with `last`.
    pub fn stop(mut self, last: Option<&str>) -> String {
        kill_process(Pid::from_child(&self.child), Signal::TERM).expect("a service");
        let said = last.map(|last| self.await_line(last)).unwrap_or_default();
        let status = self.child.wait().expect("its end");
        assert!(status.success(), "{status}: {}", self.log());
        said
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Ok(None) = self.child.try_wait() {
            self.child.kill().expect("a service");
            self.child.wait().expect("its end");
        }
    }
}

fn read(path: &str) -> String {
    fs::read_to_string(path).expect("a process")
}

/// The CPU time of a thread.
fn on_cpu(thread: &Path) -> Duration {
    let text = fs::read_to_string(thread.join("schedstat")).unwrap_or_default();
    let nanoseconds = text.split(' ').next().and_then(|text| text.parse().ok());
    Duration::from_nanos(nanoseconds.unwrap_or_default())
}

/// The default configuration, with what the setup says and the queue's priorities.
fn config(bench: &Bench, database: &Database, setup: &Setup<'_>) -> String {
    let prefetch = bench
        .options
        .prefetch_factor
        .map(|factor| format!("prefetch_factor = {factor}\n"));
    format!(
        "default_broker = {:?}\ndatabase_url = {:?}\n\
         [[queues]]\nname = {:?}\nconcurrency = {}\n{}{}{}",
        bench.rabbit.url,
        database.url,
        setup.queue,
        setup.concurrency,
        bench.rabbit.queue_arguments(),
        prefetch.unwrap_or_default(),
        setup.config
    )
}
