//! The init script under dash, with a real service: each action, its effect and its exit code. The exit codes
//! are LSB's.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use rustix::process::{Pid, Signal, geteuid, kill_process};

use super::has;
use crate::support::{World, eventually, exit_code, outcome};

const SCRIPT: &str = include_str!("../../../scripts/init.d/carrot-actors");

const CONFIG: &str = r#"
[[queues]]
name = "default"
[tasks.noop]
command = ["true"]
[tasks.gated]
command = ["sh", "-c", "touch $GATE; sleep 1000"]
[tasks.home]
command = ["sh", "-c", "echo $HOME $FROM_DEFAULTS"]
"#;

/// A machine on which the script is installed; its service is stopped with the test.
struct Machine {
    world: World,
    user: String,
}

impl Drop for Machine {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("---- carrot.log\n{}", self.world.read("carrot.log"));
        }
        self.world
            .run(&["daemon", "stop", "--hard", "--pidfile", "carrot.pid"]);
    }
}

impl Machine {
    /// `None` where there is no dash, which is printed.
    fn new() -> Option<Self> {
        if !has("dash") {
            return None;
        }
        let world = World::new(CONFIG);
        fs::set_permissions(world.directory(), PermissionsExt::from_mode(0o755)).unwrap();
        let user = match geteuid().is_root() {
            true => "nobody".to_owned(),
            false => geteuid().to_string(),
        };
        let machine = Self { world, user };
        machine.install(env!("CARGO_BIN_EXE_carrot-actors"));
        machine.set_defaults("");
        Some(machine)
    }

    fn install(&self, daemon: &str) {
        let defaults = self.world.directory().join("defaults");
        let script = SCRIPT
            .replace("DAEMON=/usr/bin/carrot-actors", &format!("DAEMON={daemon}"))
            .replace(
                "DEFAULTS=/etc/default/carrot-actors",
                &format!("DEFAULTS={}", defaults.display()),
            );
        self.world.write("init", &script);
    }

    fn set_defaults(&self, more: &str) {
        let directory = self.world.directory().display();
        let defaults = format!(
            "PIDFILE={directory}/carrot.pid\nLOGFILE={directory}/carrot.log\nRUN_AS={}\n\
             CARROT_CONFIG={directory}/carrot.toml\nFROM_DEFAULTS=yes\nDAEMON_OPTS='--loglevel DEBUG --no-scheduler'\n{more}\n",
            self.user
        );
        self.world.write("defaults", &defaults);
    }

    /// Runs the script: exit code, and all output.
    fn script(&self, arguments: &[&str]) -> (i32, String) {
        let arguments = [&["init"], arguments].concat();
        let (code, out, err) = outcome(&mut self.world.command_of("dash", &arguments));
        (code, out + &err)
    }

    /// Runs an action, which must succeed; its output.
    #[track_caller]
    fn run(&self, action: &str) -> String {
        let (code, said) = self.script(&[action]);
        assert_eq!(code, 0, "{action}: {said}");
        said
    }

    /// The pid of the service, which must be running.
    #[track_caller]
    fn pid(&self) -> Pid {
        let status = self.run("status");
        let pid = status
            .lines()
            .next()
            .unwrap()
            .strip_prefix("Service is running. PID: ");
        Pid::from_raw(pid.unwrap().parse().unwrap()).unwrap()
    }
}

#[test]
fn it_starts_reports_restarts_and_stops_the_service() {
    let Some(machine) = Machine::new() else {
        return;
    };
    let (code, said) = machine.script(&["status"]);
    assert_eq!(code, 3, "{said}");

    let said = machine.run("start");
    assert!(
        said.contains("Process started successfully with pid"),
        "{said}"
    );
    let pid = machine.pid();
    let uuid = machine.world.send(&["home"]);
    let output = machine.world.ended(&uuid)["output"]
        .as_str()
        .unwrap()
        .to_owned();
    let (home, from_defaults) = output.split_once(' ').unwrap();
    assert_eq!(from_defaults, "yes");
    assert!(!geteuid().is_root() || home == "/nonexistent", "{home}");
    machine.run("start");
    assert_eq!(machine.pid(), pid, "it was running already");

    machine.run("restart");
    let second = machine.pid();
    assert_ne!(second, pid);
    machine.run("try-restart");
    let third = machine.pid();
    assert_ne!(third, second);
    machine.run("force-reload");
    assert_ne!(machine.pid(), third);

    let said = machine.run("stop");
    assert!(said.contains("Process has been stopped"), "{said}");
    let (code, said) = machine.script(&["status"]);
    assert_eq!(code, 3, "{said}");
    machine.run("stop");
    machine.run("try-restart");
    assert_eq!(
        machine.script(&["status"]).0,
        3,
        "try-restart starts nothing"
    );
    assert_eq!(machine.script(&["force-reload"]).0, 7);
    machine.run("restart");
    machine.pid();
}

#[test]
fn reload_reopens_the_log_and_leaves_the_service_alone() {
    let Some(machine) = Machine::new() else {
        return;
    };
    assert_eq!(machine.script(&["reload"]).0, 7);
    machine.run("start");
    let pid = machine.pid();
    machine.run("reload");
    let log = || machine.world.read("carrot.log");
    eventually("the log is opened again", || {
        log().contains("was opened anew")
    });
    assert_eq!(machine.pid(), pid);
}

#[test]
fn a_task_that_outlives_a_stop_is_killed_and_run_again() {
    let Some(machine) = Machine::new() else {
        return;
    };
    let gate = std::env::temp_dir().join(format!("gate-{}", machine.world.name));
    machine.set_defaults(&format!("STOP_TIMEOUT=1s\nGATE={}", gate.display()));
    machine.run("start");
    machine.world.send(&["gated"]);
    eventually("the task runs", || gate.exists());
    fs::remove_file(&gate).unwrap();
    let stop = ["daemon", "stop", "--timeout", "0s", "--pidfile"];
    let (code, ..) = machine.world.run(&[&stop[..], &["carrot.pid"]].concat());
    assert_eq!(code, 8);
    let (code, said) = machine.script(&["start"]);
    assert_eq!(code, 1, "nothing would run when it has stopped: {said}");
    machine.run("restart");
    eventually("the task runs again", || gate.exists());
    machine.run("stop");
    fs::remove_file(&gate).unwrap();
    assert_eq!(machine.script(&["status"]).0, 3);
}

#[test]
fn a_service_that_was_killed_is_dead_and_can_be_started() {
    let Some(machine) = Machine::new() else {
        return;
    };
    machine.run("start");
    let pid = machine.pid();
    kill_process(pid, Signal::KILL).unwrap();
    eventually("the status is 1", || machine.script(&["status"]).0 == 1);
    machine.run("start");
    assert_ne!(machine.pid(), pid);
}

#[test]
fn errors_have_the_exit_codes_of_lsb() {
    let Some(machine) = Machine::new() else {
        return;
    };
    assert_eq!(machine.script(&[]).0, 2);
    let (code, said) = machine.script(&["dance"]);
    assert_eq!(code, 3);
    assert!(said.contains("Usage"), "{said}");

    // The configuration is invalid.
    machine.world.write("carrot.toml", "nonsense = 1");
    let (code, said) = machine.script(&["start"]);
    assert_eq!(code, 6, "{said}");
    assert!(said.contains("nonsense"), "{said}");
    machine.set_defaults("RUN_AS=no-such-user");
    machine.world.configure(CONFIG);
    assert_eq!(machine.script(&["start"]).0, 6);

    // The options are invalid.
    machine.set_defaults("DAEMON_OPTS=--no-such-option");
    assert_eq!(machine.script(&["start"]).0, 2);

    // It lacks permission: the folder of the pidfile run not exist, or the log can't be written.
    machine.set_defaults("PIDFILE=/nonexistent/carrot.pid");
    assert_eq!(machine.script(&["start"]).0, 4);
    machine.set_defaults("LOGFILE=/nonexistent/carrot.log");
    assert_eq!(machine.script(&["start"]).0, 4);

    // The program is not installed.
    machine.install("/nonexistent/carrot-actors");
    machine.set_defaults("");
    assert_eq!(machine.script(&["start"]).0, 5);
    assert_eq!(machine.script(&["stop"]).0, 0);
    assert_eq!(machine.script(&["status"]).0, 4);
}

#[test]
fn only_root_can_start_it() {
    let Some(machine) = Machine::new() else {
        return;
    };
    if !geteuid().is_root() {
        machine.set_defaults("RUN_AS=daemon");
    }
    let mut command = machine.world.command_of("dash", &["init", "start"]);
    if geteuid().is_root() {
        std::os::unix::process::CommandExt::uid(&mut command, 4242);
    }
    let ended = command.output().unwrap();
    assert_eq!(exit_code(ended.status), 4, "{ended:?}");
}
