//! The service as process 1 of a container.
//!
//! Only root can create process namespaces, and not everywhere. Without them, these tests say so and test
//! nothing.

use std::fs;
use std::io::Write;
use std::process::Command;

use rustix::process::{Pid, Signal, kill_process};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

use crate::quickstart::built;
use crate::support::{Database, Running, World, eventually, outcome};

/// The arguments with which `unshare` makes a container. The rest is the command of process 1.
const CONTAINER: [&str; 4] = ["--pid", "--fork", "--mount-proc", "--kill-child"];

const CONFIG: &str = "[[queues]]\nname = 'default'\nconcurrency = 2\n\
     [tasks.orphans]\ncommand = ['sh', '-c', 'sleep 1000 & setsid sleep 0.1 & echo done']\n\
     [tasks.gated]\ncommand = ['sh', '-c', 'touch began; until test -e go; do sleep 0.02; done']\n";

/// A world whose services are process 1, if containers are possible here.
fn world() -> Option<World> {
    has_namespaces().then(|| World::embedded_on(Database::Sqlite, CONFIG))
}

fn has_namespaces() -> bool {
    let tried = Command::new("unshare").args(CONTAINER).arg("true").output();
    let has = tried.is_ok_and(|tried| tried.status.success());
    if !has {
        eprintln!("NOT TRIED: this system makes no process namespaces for this user");
    }
    has
}

impl World {
    fn contained_of(&self, program: &str, arguments: &[&str]) -> Command {
        self.command_of("unshare", &[&CONTAINER, &[program][..], arguments].concat())
    }

    fn contained(&self, arguments: &[&str]) -> Command {
        self.contained_of(env!("CARGO_BIN_EXE_carrot-actors"), arguments)
    }

    /// Starts a container, and waits until its service consumes.
    #[track_caller]
    fn container(&self) -> Container {
        Container::of(self.spawn(self.contained(&[])))
    }

    /// Sends a message for the task `gated`, and waits until it runs; its uuid.
    #[track_caller]
    fn gated(&self) -> String {
        let uuid = self.send(&["gated"]);
        eventually("the task runs", || self.directory().join("began").exists());
        uuid
    }
}

/// A service in a container.
struct Container {
    /// The process `unshare`, outside of the container. It ends as process 1 does.
    running: Running,
    /// The pid of process 1 outside of the container.
    first: Pid,
}

impl Container {
    #[track_caller]
    fn of(running: Running) -> Self {
        running.await_log("consuming queue");
        let first = children(running.pid())[0];
        Self { running, first }
    }

    /// The pid of the service, a child of process 1.
    fn service(&self) -> Pid {
        children(self.first)[0]
    }

    fn signal(&self, signal: Signal) {
        kill_process(self.first, signal).unwrap();
    }
}

/// The children of a process, zombies included.
fn children(pid: Pid) -> Vec<Pid> {
    let pid = pid.as_raw_nonzero();
    let listed = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
    let numbers = listed.split_whitespace().map(|pid| pid.parse().unwrap());
    numbers.map(|pid| Pid::from_raw(pid).unwrap()).collect()
}

#[test]
fn processes_that_commands_orphan_are_reaped() {
    let Some(world) = world() else { return };
    let mut container = world.container();
    for _ in 0..5 {
        let uuids = [(); 4].map(|()| world.send(&["orphans"]));
        for uuid in uuids {
            assert_eq!(world.ended(&uuid)["status"], "COMPLETED");
        }
    }
    eventually("only the service is left", || {
        children(container.first).len() == 1
    });
    container.signal(Signal::TERM);
    assert_eq!(container.running.wait(), 0);
}

#[test]
fn processes_that_tasks_of_a_program_orphan_are_reaped() {
    if !has_namespaces() {
        return;
    }
    let world = World::embedded_on(Database::Sqlite, "[[queues]]\nname = 'default'\n");
    let guest = built("guest");
    let command = world.contained_of(guest.to_str().unwrap(), &[]);
    let mut container = Container::of(world.spawn(command));
    assert!(!container.running.log().contains("process 1"));
    for _ in 0..5 {
        assert_eq!(world.ended(&world.send(&["orphan"]))["status"], "COMPLETED");
    }
    eventually("only the service is left", || {
        children(container.first).len() == 1
    });
    container.signal(Signal::TERM);
    assert_eq!(container.running.wait(), 0);
}

#[test]
fn a_program_with_threads_says_that_it_reaps_nobody() {
    if !has_namespaces() {
        return;
    }
    let world = World::embedded_on(Database::Sqlite, "[[queues]]\nname = 'default'\n");
    let guest = built("guest");
    for runtime in ["multi_thread", "current_thread"] {
        let mut command = world.contained_of(guest.to_str().unwrap(), &[]);
        command.env("GUEST_RUNTIME", runtime);
        let mut container = Container::of(world.spawn(command));
        let log = container.running.log();
        let warnings: Vec<&str> = log.lines().filter(|line| line.contains("--init")).collect();
        assert_eq!(warnings.len(), 1, "{log}");
        assert!(warnings[0].contains(" WARNING"), "{log}");
        container.signal(Signal::TERM);
        assert_eq!(container.running.wait(), 0);
    }
}

#[test]
fn outside_of_a_container_the_service_does_not_fork() {
    let world = World::embedded_on(Database::Sqlite, CONFIG);
    let mut running = world.start(&[]);
    assert!(
        running
            .log()
            .contains(&format!("pid {}", running.pid().as_raw_nonzero()))
    );
    assert!(!running.log().contains("process 1"));
    assert_eq!(running.terminate(), 0);
}

#[test]
fn a_first_sigterm_to_process_1_stops_in_order() {
    let Some(world) = world() else { return };
    let mut container = world.container();
    let uuid = world.gated();
    container.signal(Signal::TERM);
    container.running.await_log("waiting for 1 running tasks");
    world.write("go", "");
    assert_eq!(container.running.wait(), 0);
    assert_eq!(world.find(&uuid).unwrap()["status"], "COMPLETED");
}

#[test]
fn a_second_sigterm_to_process_1_stops_hard() {
    let Some(world) = world() else { return };
    let mut container = world.container();
    let uuid = world.gated();
    container.signal(Signal::TERM);
    container.running.await_log("waiting for 1 running tasks");
    container.signal(Signal::TERM);
    assert_eq!(container.running.wait(), 75);
    assert_eq!(world.find(&uuid).unwrap()["status"], "IN_PROGRESS");
}

#[test]
fn process_1_exits_as_its_service_does() {
    let Some(world) = world() else { return };
    // A shell makes its background commands ignore SIGQUIT and SIGINT.
    for (signal, code) in [(Signal::KILL, 137), (Signal::ABORT, 134)] {
        let mut container = world.container();
        kill_process(container.service(), signal).unwrap();
        assert_eq!(container.running.wait(), code);
    }
    let empty = World::without_tables(CONFIG);
    let (code, _, err) = outcome(&mut empty.contained(&["--logfile", "carrot.log"]));
    assert_eq!(code, 78, "{err}");
}

#[test]
fn every_signal_is_passed_on() {
    let Some(world) = world() else { return };
    let mut container = world.container();
    container.signal(Signal::INT);
    assert_eq!(container.running.wait(), 0);

    let mut container = world.container();
    let rotated = world.directory().join("rotated");
    fs::rename(&container.running.log, rotated).unwrap();
    container.signal(Signal::HUP);
    eventually("the log file is created again", || {
        container.running.log.exists()
    });
    // A signal that the service does not handle has its default effect.
    container.signal(Signal::USR1);
    assert_eq!(container.running.wait(), 128 + 10);
}

/// A terminal sends Ctrl+C to every process in the foreground. The service stops only once.
#[test]
fn ctrl_c_in_a_containers_terminal_stops_in_order() {
    let Some(world) = world() else { return };
    let terminal = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&terminal).unwrap();
    unlockpt(&terminal).unwrap();
    let name = ptsname(&terminal, Vec::new()).unwrap();
    let other = fs::File::options()
        .read(true)
        .write(true)
        .open(name.to_str().unwrap());
    let binary = env!("CARGO_BIN_EXE_carrot-actors");
    let mut command = world.contained_of("setsid", &["--ctty", binary]);
    command.stdin(other.unwrap());
    let mut container = Container::of(world.spawn(command));
    let uuid = world.gated();

    fs::File::from(terminal).write_all(b"\x03").unwrap();

    container.running.await_log("waiting for 1 running tasks");
    world.write("go", "");
    assert_eq!(container.running.wait(), 0);
    assert_eq!(world.find(&uuid).unwrap()["status"], "COMPLETED");
}

#[test]
fn a_daemon_that_process_1_starts_ends_with_the_container_with_a_warning() {
    let Some(world) = world() else { return };
    let options = [
        "daemon",
        "start",
        "--pidfile",
        "x.pid",
        "--logfile",
        "x.log",
    ];
    let (code, out, err) = outcome(&mut world.contained(&options));
    assert_eq!(code, 0, "{err}");
    assert!(out.contains("Process started successfully"), "{out}");
    assert!(err.contains("process 1 of its container"), "{err}");
    assert!(err.contains("in the foreground"), "{err}");
}

#[test]
fn process_1_and_the_service_handle_signals_that_were_inherited_as_ignored_and_blocked() {
    let Some(world) = world() else { return };
    let deaf = ["--ignore-signal=CHLD", "--block-signal=TERM"];
    let binary = [env!("CARGO_BIN_EXE_carrot-actors")];
    let command = world.contained_of("env", &[&deaf[..], &binary].concat());
    let mut container = Container::of(world.spawn(command));
    let row = world.ended(&world.send(&["orphans"]));
    assert_eq!(row["status"], "COMPLETED", "{row}");
    container.signal(Signal::TERM);
    assert_eq!(container.running.wait(), 0);
}
