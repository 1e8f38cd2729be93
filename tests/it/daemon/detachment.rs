//! The daemon keeps nothing of its caller's session, and resolves paths as its caller does.

use std::fs::{self, File};
use std::io::{ErrorKind, Read};
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::process::Command;

use rustix::fs::{Mode, OFlags};
use rustix::process::{Pid, getpid};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

use crate::support::{Spawned, eventually, exit_code, lives, outcome};

use super::{Daemon, kill};

/// `/proc/PID/…` of the process.
fn proc(pid: Pid, name: &str) -> String {
    format!("/proc/{}/{name}", pid.as_raw_nonzero())
}

/// The number in the field of proc(5)'s `stat`, counted from 1.
fn stat(pid: Pid, field: usize) -> i32 {
    let stat = fs::read_to_string(proc(pid, "stat")).unwrap();
    let (_, after_name) = stat.rsplit_once(") ").unwrap();
    after_name
        .split(' ')
        .nth(field - 3)
        .unwrap()
        .parse()
        .unwrap()
}

const SESSION: usize = 6;
const TERMINAL: usize = 7;

#[test]
fn it_has_its_own_session_no_terminal_the_root_directory_and_a_umask() {
    let daemon = Daemon::lonely();
    let pid = daemon.up();
    // Read from /proc: in a container, getsid(2) may not be able to name the session of a test.
    assert_ne!(stat(pid, SESSION), stat(getpid(), SESSION));
    // It is not the leader of the session, so it never gets a controlling terminal.
    assert_ne!(stat(pid, SESSION), pid.as_raw_nonzero().get());
    assert_eq!(stat(pid, TERMINAL), 0);
    assert_eq!(
        fs::read_link(proc(pid, "cwd")).unwrap(),
        fs::canonicalize("/").unwrap()
    );
    let status = fs::read_to_string(proc(pid, "status")).unwrap();
    assert!(status.contains("\nUmask:\t0022\n"), "{status}");
    let (_, ignored) = status.split_once("\nSigIgn:\t").unwrap();
    let ignored = u64::from_str_radix(&ignored[..16], 16).unwrap();
    // The C library uses the realtime signals itself.
    assert_eq!(ignored & 0x7fff_ffff, 0, "{status}");
    daemon.down();
}

#[test]
fn its_streams_are_dev_null_and_it_inherits_no_descriptor() {
    let daemon = Daemon::lonely();
    daemon.write("secret", "");
    let controller = daemon.controller(&["start"]);
    let mut shell = daemon.command_of("sh", &["-c", r#"exec 8<secret 9<secret; "$@""#, "sh"]);
    let (code, _, err) = outcome(
        shell
            .arg(controller.get_program())
            .args(controller.get_args()),
    );
    assert_eq!((code, err.as_str()), (0, ""));
    let pid = daemon.pid();
    let mut files = Vec::new();
    for entry in fs::read_dir(proc(pid, "fd")).unwrap() {
        let entry = entry.unwrap();
        let number: i32 = entry.file_name().to_str().unwrap().parse().unwrap();
        let target = fs::read_link(entry.path()).unwrap();
        match number {
            0..=2 => assert_eq!(target, std::path::Path::new("/dev/null")),
            _ => files.push(target),
        }
    }
    let ours = |name: &str| fs::canonicalize(daemon.directory()).unwrap().join(name);
    assert!(files.contains(&ours("daemon.pid")), "{files:?}");
    assert!(!files.contains(&ours("secret")), "{files:?}");
    daemon.down();
}

#[test]
fn its_commands_inherit_none_of_its_descriptors() {
    let daemon = Daemon::new();
    let list = r#"
        [[queues]]
        name = "one"
        [tasks.list]
        command = ["sh", "-c", "ls -l /proc/self/fd; umask"]
    "#;
    daemon.configure(list);
    daemon.up();
    let uuid = daemon.enqueue("one", "list", 1).remove(0);
    let row = daemon.ended(&uuid);
    let output = row["output"].as_str().unwrap();
    assert!(
        !output.contains("daemon.") && !output.contains("socket"),
        "{output}"
    );
    assert!(output.ends_with("0022"), "{output}");
    daemon.down();
}

#[test]
fn relative_paths_start_from_the_callers_directory() {
    let daemon = Daemon::new();
    for folder in ["conf", "logs", "run"] {
        fs::create_dir(daemon.directory().join(folder)).unwrap();
    }
    daemon.write(
        "conf/own.toml",
        r#"
        [[queues]]
        name = "one"
        [tasks.here]
        command = ["./here"]
        "#,
    );
    daemon.write("conf/here", "#!/bin/sh\npwd\n");
    let script = daemon.directory().join("conf/here");
    rustix::fs::chmod(&script, Mode::from_raw_mode(0o755)).unwrap();
    let options = [
        "--config",
        "conf/own.toml",
        "-l",
        "logs/x.log",
        "-p",
        "run/x.pid",
    ];
    let run = |verb: &str| daemon.run(&[&["daemon", verb], &options[..]].concat());
    let (code, out, err) = run("start");
    assert_eq!((code, err.as_str()), (0, ""), "{out}");
    let uuid = daemon.enqueue("one", "here", 1).remove(0);
    let row = daemon.ended(&uuid);
    let folder = fs::canonicalize(daemon.directory().join("conf")).unwrap();
    assert_eq!(row["output"].as_str().unwrap(), folder.to_str().unwrap());
    assert!(daemon.read("logs/x.log").contains("consuming queue"));
    assert_eq!(run("status").0, 0);
    assert_eq!(run("stop").0, 0);
    assert_eq!(daemon.read("run/x.pid"), "");
}

#[test]
fn the_default_database_is_in_the_callers_directory_too() {
    let daemon = Daemon::lonely();
    daemon.configure("default_broker = \"amqp://guest:guest@127.0.0.1:1/\"");
    daemon.up();
    assert!(daemon.directory().join("carrot.db").exists());
    daemon.down();
}

/// A terminal; it is closed when this is dropped.
struct Terminal(OwnedFd);

impl Terminal {
    fn open() -> Self {
        let controller = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC);
        let controller = controller.unwrap();
        grantpt(&controller).unwrap();
        unlockpt(&controller).unwrap();
        Self(controller)
    }

    /// The command as the leader of a session in this terminal.
    fn login(&self, command: &Command, daemon: &Daemon) -> Command {
        let name = ptsname(&self.0, Vec::new()).unwrap();
        let open = || {
            let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
            rustix::fs::open(&*name, flags, Mode::empty()).unwrap()
        };
        let mut login = daemon.command_of("setsid", &["--ctty", "--wait"]);
        // Under nohup, tests and their children ignore SIGHUP.
        login.args(["env", "--default-signal=HUP"]);
        login.arg(command.get_program()).args(command.get_args());
        login.stdin(open()).stdout(open()).stderr(open());
        login
    }

    /// Closes it; what was written to it.
    fn close(self) -> String {
        let mut shown = Vec::new();
        let read = File::from(self.0).read_to_end(&mut shown);
        // EIO says that no process has it open any more.
        assert!(read.is_ok() || read.unwrap_err().kind() != ErrorKind::NotFound);
        String::from_utf8(shown).unwrap()
    }
}

#[test]
fn the_terminal_that_it_was_started_from_may_close() {
    let daemon = Daemon::lonely();
    let terminal = Terminal::open();
    let mut login = terminal
        .login(&daemon.controller(&["start"]), &daemon)
        .spawn()
        .unwrap();
    assert_eq!(exit_code(login.wait().unwrap()), 0);
    let pid = daemon.pid();
    assert_eq!(stat(pid, TERMINAL), 0);
    let shown = terminal.close();
    let started = format!(
        "Process started successfully with pid: {}",
        pid.as_raw_nonzero()
    );
    assert!(shown.contains(&started), "{shown}");
    assert!(lives(pid));
    let (code, out, _) = daemon.daemon(&["status"]);
    assert_eq!(code, 0, "{out}");
    daemon.down();
}

#[test]
fn the_terminal_may_close_in_the_middle_of_the_start() {
    let mut daemon = Daemon::new();
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap();
    daemon.world.broker_url = format!("amqp://guest:guest@{address}/x");
    let terminal = Terminal::open();
    let mut login = terminal
        .login(&daemon.controller(&["start"]), &daemon)
        .spawn()
        .unwrap();
    // Now the service connects, and the controller waits for it.
    let connection = silent.accept().unwrap();
    drop(terminal);
    assert_ne!(
        exit_code(login.wait().unwrap()),
        0,
        "it is killed by SIGHUP"
    );
    assert_eq!(daemon.status()["status"], "running");
    eventually("the status says what the service waits for", || {
        daemon.status()["state"] == "waiting"
    });
    drop(connection);
    daemon.down();
}

#[test]
fn a_service_goes_on_when_its_controller_is_killed() {
    let mut daemon = Daemon::new();
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap();
    daemon.world.broker_url = format!("amqp://guest:guest@{address}/x");
    let start: Spawned = daemon.begin(&["start"]);
    let connection = silent.accept().unwrap();
    drop(start);
    assert_eq!(daemon.status()["state"], "starting");
    drop(connection);
    daemon.down();
}

#[test]
fn a_service_that_is_killed_while_it_starts_is_reported_as_dead() {
    let mut daemon = Daemon::new();
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap();
    daemon.world.broker_url = format!("amqp://guest:guest@{address}/x");
    let mut start = daemon.begin(&["start"]);
    let connection = silent.accept().unwrap();
    kill(daemon.pid());
    let (code, _, err) = start.wait();
    assert_eq!(code, 70);
    assert!(
        err.contains("the service died during its start; see "),
        "{err}"
    );
    assert!(err.contains("daemon.log"), "{err}");
    assert_eq!(
        daemon.daemon(&["status"]).0,
        super::code::STOPPED,
        "its files are removed"
    );
    drop(connection);
}
