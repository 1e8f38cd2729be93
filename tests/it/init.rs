//! The service as process 1 of a container.
//!
//! Process namespaces of their own are to be had by root alone, and not everywhere: without them, these
//! tests say so and try nothing.

use std::fs;
use std::io::Write;
use std::process::Command;

use rustix::process::{Pid, Signal, kill_process};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

use crate::quickstart::built;
use crate::support::{Database, Running, World, eventually, outcome};

/// As `unshare` makes a container; the rest of its arguments is process 1.
const CONTAINER: [&str; 4] = ["--pid", "--fork", "--mount-proc", "--kill-child"];

const CONFIG: &str = "[[queues]]\nname = 'default'\nconcurrency = 2\n\
     [tasks.orphans]\ncommand = ['sh', '-c', 'sleep 1000 & setsid sleep 0.1 & echo done']\n\
     [tasks.gated]\ncommand = ['sh', '-c', 'touch began; until test -e go; do sleep 0.02; done']\n";

/// A world whose services are process 1, if there can be such.
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

    /// A container that consumes.
    #[track_caller]
    fn container(&self) -> Container {
        Container::of(self.spawn(self.contained(&[])))
    }

    /// Has the gated task begin; its uuid.
    #[track_caller]
    fn gated(&self) -> String {
        let uuid = self.send(&["gated"]);
        eventually("the task's beginning", || {
            self.directory().join("began").exists().then_some(())
        });
        uuid
    }
}

/// A service in a container.
struct Container {
    /// `unshare`, outside, which ends as process 1 does.
    running: Running,
    /// Process 1, as it is called outside.
    first: Pid,
}

impl Container {
    #[track_caller]
    fn of(running: Running) -> Self {
        running.await_log("consuming queue");
        let first = children(running.pid())[0];
        Self { running, first }
    }

    /// The child that is the service.
    fn service(&self) -> Pid {
        children(self.first)[0]
    }

    fn signal(&self, signal: Signal) {
        kill_process(self.first, signal).unwrap();
    }
}

/// The children of a process, the dead ones that nobody has reaped included.
fn children(pid: Pid) -> Vec<Pid> {
    let pid = pid.as_raw_nonzero();
    let listed = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
    let numbers = listed.split_whitespace().map(|pid| pid.parse().unwrap());
    numbers.map(|pid| Pid::from_raw(pid).unwrap()).collect()
}

#[test]
fn what_commands_orphan_is_reaped() {
    let Some(world) = world() else { return };
    let mut container = world.container();
    for _ in 0..5 {
        let uuids = [(); 4].map(|()| world.send(&["orphans"]));
        for uuid in uuids {
            assert_eq!(world.ended(&uuid)["status"], "COMPLETED");
        }
    }
    eventually("the end of all but the service", || {
        (children(container.first).len() == 1).then_some(())
    });
    container.signal(Signal::TERM);
    assert_eq!(container.running.wait(), 0);
}

#[test]
fn what_tasks_of_a_program_orphan_is_reaped() {
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
    eventually("the end of all but the service", || {
        (children(container.first).len() == 1).then_some(())
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
fn outside_of_a_container_nothing_is_split_or_said() {
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
    // A shell has what it runs in the background ignore SIGQUIT and SIGINT.
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
fn signals_are_passed_on_whatever_they_are() {
    let Some(world) = world() else { return };
    let mut container = world.container();
    container.signal(Signal::INT);
    assert_eq!(container.running.wait(), 0);

    let mut container = world.container();
    let rotated = world.directory().join("rotated");
    fs::rename(&container.running.log, rotated).unwrap();
    container.signal(Signal::HUP);
    eventually("a new log file", || {
        container.running.log.exists().then_some(())
    });
    // What the service has no use for has its usual effect.
    container.signal(Signal::USR1);
    assert_eq!(container.running.wait(), 128 + 10);
}

/// A terminal sends Ctrl+C to all that is in front: the service hears it once.
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
fn a_daemon_that_process_1_starts_ends_with_the_container_and_that_is_said() {
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
fn what_process_1_has_inherited_as_ignored_and_blocked_is_heard_by_both() {
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
