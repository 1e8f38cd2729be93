//! A daemon that loses an essential part by a panic executes itself again: the same process with all that it
//! had from its start, and nothing of what was in flight.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use rustix::process::{Pid, Signal, geteuid, kill_process};
use serde_json::{Value, json};

use super::{Daemon, code};
use crate::support::{
    Backend, Database, Proxy, World, await_end, cases, eventually, outcome, recovers, traced_config,
};

cases! { on postgresql, embedded_sqlite:
    a_daemon_that_loses_its_ledger_restarts,
    a_daemon_that_loses_a_set_of_consumers_restarts,
    a_daemon_goes_on_while_parts_that_can_be_restarted_are_restarted,
}

fn on(backend: Backend) -> Daemon {
    Daemon {
        world: backend.world(&traced_config("", 2)),
    }
}

impl Daemon {
    /// Starts it with failpoints; its pid.
    #[track_caller]
    fn up_with(&self, failpoints: &str) -> Pid {
        let mut start = self.controller(&["start"]);
        self.up_by(start.env("CARROT_FAILPOINTS", failpoints))
    }

    /// Waits until the daemon has restarted `count` times and consumes; its status then.
    #[track_caller]
    fn await_restarts(&self, count: u64) -> Value {
        eventually("the daemon has restarted and consumes", || {
            let status = self.status();
            let counted = status["restarts"]["count"].as_u64().unwrap_or_default();
            (counted >= count && status["state"] == "consuming").then_some(status)
        })
    }
}

/// The daemon restarts after a panic at `failpoint`, with one long task running and many short ones waiting.
#[track_caller]
fn assert_restarts(backend: Backend, failpoint: &str, what: &str) {
    let daemon = on(backend);
    let pid = daemon.up_with(failpoint);
    let log = || daemon.read("daemon.log");
    let held = daemon.send(&["hold"]);
    daemon.await_runs(&held, 1);
    let mut uuids = daemon.post("default", "note", 30);
    eventually("the daemon logs the death", || {
        log().contains(" died, and the service ends with that")
    });
    let status = recovers(|| daemon.await_restarts(1));
    assert_eq!(status["restarts"]["count"], 1);
    assert_eq!(status["restarts"]["cause"], json!(what));
    assert_eq!(daemon.pid(), pid);
    assert_eq!(daemon.daemon(&["start"]).0, code::ALREADY_RUNNING);
    // Its old worker would seem alive, as the process is. Only the daemon itself can remove it.
    assert_eq!(daemon.rows("SELECT * FROM carrot_worker").len(), 1);
    let (_, out, _) = daemon.daemon(&["status"]);
    let told = format!("{what} had died\n");
    assert!(
        out.contains("It has started again by itself 1 time, ") && out.contains(&told),
        "{out}"
    );

    daemon.await_runs(&held, 2);
    daemon.release_tasks();
    uuids.push(held);
    daemon.await_completed(uuids.len());
    daemon.down();
    daemon.assert_all_well(Vec::new(), &uuids);
}

fn a_daemon_that_loses_its_ledger_restarts(backend: Backend) {
    assert_restarts(backend, "ledger.after-commit=panic@4", "the ledger");
}

fn a_daemon_that_loses_a_set_of_consumers_restarts(backend: Backend) {
    assert_restarts(
        backend,
        "set.claimed=panic@3",
        "the set of consumers of queue default",
    );
}

fn a_daemon_goes_on_while_parts_that_can_be_restarted_are_restarted(backend: Backend) {
    let daemon = on(backend);
    let pid = daemon.up_with(
        "sweep.looks=panic@3; heartbeat.beats=panic@2; schedule.looks=panic@2; \
         subscription.event=panic@2",
    );
    let mut uuids = daemon.post("default", "note", 10);
    let deaths = [
        "the sweep died",
        "the heartbeat died",
        "the scheduler died",
        "the subscription of queue default died",
    ];
    eventually("all parts have died", || {
        let log = daemon.read("daemon.log");
        deaths.iter().all(|death| log.contains(death))
    });
    recovers(|| {
        uuids.push(daemon.send_and_die("note", "publish.recorded"));
        daemon.await_completed(uuids.len());
    });
    let status = daemon.status();
    assert_eq!(
        (&status["state"], &status["restarts"]),
        (&json!("consuming"), &Value::Null)
    );
    assert_eq!(daemon.pid(), pid);
    daemon.down();
    daemon.assert_all_well(Vec::new(), &uuids);
}

#[test]
fn a_daemon_that_dies_again_and_again_pauses_and_still_obeys_its_commands() {
    let daemon = on(Backend::embedded(Database::Sqlite));
    let pid = daemon.up_with("ledger.before-commit=panic@1+");
    let uuid = daemon.send(&["note"]);
    // The pauses between restarts grow: the fifth takes at least 800 ms.
    let status = eventually("the daemon pauses before a restart", || {
        let status = daemon.status();
        let count = status["restarts"]["count"].as_u64().unwrap_or_default();
        (count >= 5 && status["state"] == "restarting").then_some(status)
    });
    assert_eq!(status["failure"], "the ledger");
    // SIGHUP, as logrotate sends it, must not hit the process while it starts again.
    for _ in 0..50 {
        kill_process(pid, Signal::HUP).unwrap();
        std::thread::sleep(Duration::from_millis(20));
    }
    eventually("the daemon pauses again", || {
        let status = daemon.status();
        assert_eq!(status["pid"], pid.as_raw_nonzero().get());
        status["state"] == "restarting"
    });
    assert_eq!(status["pid"], pid.as_raw_nonzero().get());
    assert_eq!(daemon.daemon(&["start"]).0, code::ALREADY_RUNNING);
    recovers(|| daemon.down());
    await_end(pid);
    assert_eq!(daemon.daemon(&["status"]).0, code::STOPPED);
    let left = fs::read_dir(daemon.directory()).unwrap();
    let left = left.filter(|entry| {
        let name = entry.as_ref().unwrap().file_name();
        name.to_string_lossy().starts_with("daemon.pid")
    });
    assert_eq!(left.count(), 0);

    daemon.up();
    daemon.await_runs(&uuid, 1);
    daemon.down();
    daemon.assert_all_well(Vec::new(), &[uuid]);
}

#[test]
fn a_daemon_that_loses_its_supervisor_while_it_starts_does_not_start() {
    let daemon = Daemon::lonely();
    let mut start = daemon.controller(&["start"]);
    let (code, _, err) = outcome(start.env("CARROT_FAILPOINTS", "supervisor.started=panic"));
    assert_eq!(code, 70);
    assert!(err.contains("the supervisor died"), "{err}");
    assert_eq!(daemon.daemon(&["status"]).0, code::STOPPED);
}

/// A task that prints what it has inherited and where it runs.
const SURROUNDINGS: &str = r#"
[[queues]]
name = "default"
[tasks.look]
command = ["sh", "-c", "id -u; pwd; umask; ulimit -Sn; ls -l /proc/self/fd; env; grep SigIgn /proc/self/status"]
"#;

/// The output of `look` without what differs from one command to the next.
fn surroundings(world: &World) -> Vec<String> {
    let uuid = world.send(&["look"]);
    let row = world.ended(&uuid);
    let output = row["output"].as_str().unwrap_or_else(|| panic!("{row}"));
    let differs = ["pipe:", "/proc/", "CARROT_FAILPOINTS"];
    let stays = |line: &&str| !differs.iter().any(|part| line.contains(part));
    let lines = output.lines().filter(stays);
    lines.map(str::to_owned).collect()
}

/// The files that the process has open, without those that have no path.
fn files(pid: Pid) -> Vec<String> {
    let list = fs::read_dir(format!("/proc/{}/fd", pid.as_raw_nonzero())).unwrap();
    let links = list.filter_map(|entry| fs::read_link(entry.unwrap().path()).ok());
    let names = links.map(|link| link.to_string_lossy().into_owned());
    let mut names: Vec<String> = names.filter(|name| name.starts_with('/')).collect();
    names.sort();
    names
}

/// How many of its children are zombies.
fn zombies(pid: Pid) -> usize {
    let number = pid.as_raw_nonzero();
    let children = fs::read_to_string(format!("/proc/{number}/task/{number}/children"));
    let children = children.unwrap_or_default();
    let is_dead = |child: &&str| {
        let stat = fs::read_to_string(format!("/proc/{child}/stat")).unwrap_or_default();
        stat.contains(") Z ")
    };
    children.split_whitespace().filter(is_dead).count()
}

#[test]
fn a_restarted_daemon_keeps_its_surroundings_and_does_not_read_its_configuration_again() {
    let world = World::new(SURROUNDINGS);
    let daemon = Daemon { world };
    fs::set_permissions(daemon.directory(), PermissionsExt::from_mode(0o755)).unwrap();
    let config = daemon.directory().join("carrot.toml");
    fs::set_permissions(&config, PermissionsExt::from_mode(0o600)).unwrap();
    let mut start = daemon.controller(&["start"]);
    if geteuid().is_root() {
        start.args(["--user", "nobody"]);
    } else {
        eprintln!("not as another user: only root can become one");
    }
    // A claim and an end are one commit each, so it dies with its second message.
    start.env("CARROT_FAILPOINTS", "ledger.after-commit=panic@3");
    let pid = daemon.up_by(&mut start);
    let before = (surroundings(&daemon), files(pid));
    // It can't read its configuration again.
    fs::remove_file(config).unwrap();
    let uuid = daemon.send(&["look", "--queue", "default"]);
    daemon.await_restarts(1);
    assert_eq!(daemon.ended(&uuid)["status"], "COMPLETED");
    assert_eq!((surroundings(&daemon), files(pid)), before);
    assert!(!before.0.iter().any(|line| line.contains("CARROT_RESUMED")));
    assert_eq!(zombies(pid), 0);
    daemon.down();
}

#[test]
fn a_daemon_that_could_not_sign_off_removes_its_old_worker_after_the_restart() {
    let daemon = on(Backend::from(Database::Postgresql));
    let proxy = Proxy::before(&daemon.database_url);
    let mut start = daemon.controller(&["start"]);
    start
        .env("CARROT_DATABASE_URL", proxy.url(&daemon.database_url))
        .env("CARROT_FAILPOINTS", "ledger.before-commit=panic");
    daemon.up_by(&mut start);
    let workers = || daemon.rows("SELECT id FROM carrot_worker");
    let before = workers();
    assert_eq!(before.len(), 1);

    proxy.hold_up();
    let uuids = daemon.post("default", "note", 1);
    eventually("the daemon has executed itself again", || {
        daemon.read("daemon.log").contains("executed again")
    });
    assert_eq!(workers(), before);
    // These statements of the old worker have not reached the database.
    proxy.cut_connections();
    proxy.let_pass();
    recovers(|| {
        daemon.await_restarts(1);
        daemon.await_completed(1);
    });
    let after = workers();
    assert!(after.len() == 1 && after != before, "{after:?}");
    daemon.down();
    daemon.assert_all_well(Vec::new(), &uuids);
}

#[test]
fn a_daemon_whose_program_was_replaced_restarts_with_the_old_program() {
    let daemon = on(Backend::embedded(Database::Sqlite));
    let program = daemon.directory().join("own-actors");
    fs::copy(env!("CARGO_BIN_EXE_carrot-actors"), &program).unwrap();
    let controller = daemon.controller(&["start"]);
    let arguments = controller
        .get_args()
        .map(|argument| argument.to_str().unwrap());
    let mut start = daemon.command_of(&program, &arguments.collect::<Vec<_>>());
    start.env("CARROT_FAILPOINTS", "ledger.after-commit=panic");
    let pid = daemon.up_by(&mut start);
    fs::remove_file(&program).unwrap();
    fs::write(&program, "another").unwrap();

    let uuids = vec![daemon.send(&["note"])];
    daemon.await_restarts(1);
    let name = fs::read_to_string(format!("/proc/{}/comm", pid.as_raw_nonzero())).unwrap();
    assert_eq!(name, "own-actors\n");
    daemon.await_completed(1);
    daemon.down();
    daemon.assert_all_well(Vec::new(), &uuids);
}
