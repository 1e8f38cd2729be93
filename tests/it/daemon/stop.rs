//! `daemon stop`: what it waits for, and what it does not wait for.

use rustix::process::{Signal, kill_process};

use crate::support::{Proxy, await_end, eventually, lives};

use super::{Daemon, code, kill};

const ATTEMPT: &str = "Attempting to stop the process. Please wait...\n";
const STOPPED: &str = "Process has been stopped\n";

#[test]
fn it_returns_when_the_process_is_gone_and_its_files_are_removed() {
    let daemon = Daemon::lonely();
    let pid = daemon.up();
    let (code, out, err) = daemon.daemon(&["stop"]);
    assert!(!lives(pid));
    assert_eq!((code, out), (0, format!("{ATTEMPT}{STOPPED}")), "{err}");
    let left = |name: &str| daemon.directory().join(name).exists();
    assert!(!left("daemon.pid") && !left("daemon.pid.sock"));
}

#[test]
fn a_service_that_does_not_run_can_not_be_stopped() {
    let daemon = Daemon::lonely();
    let (code, out, err) = daemon.daemon(&["stop"]);
    assert_eq!((code, out.as_str()), (code::NOT_RUNNING, ""));
    assert!(err.contains("Service is NOT running"), "{err}");
    assert!(
        err.contains("daemon.pid") && err.contains("--pidfile"),
        "{err}"
    );
}

#[test]
fn it_says_which_tasks_it_waits_for_and_they_finish() {
    let daemon = Daemon::new();
    let uuids = daemon.enqueue("one", "gated", 2);
    daemon.up();
    daemon.await_running(2);
    let mut stop = daemon.begin(&["stop"]);
    stop.await_output("Waiting for running tasks: 2 (one: 2)\n");
    assert_eq!(daemon.status()["state"], "stopping");
    daemon.write("go", "");
    let (code, out, err) = stop.wait();
    assert_eq!((code, err.as_str()), (0, ""));
    assert!(out.starts_with(ATTEMPT) && out.ends_with(STOPPED), "{out}");
    for uuid in uuids {
        assert_eq!(daemon.find(&uuid).unwrap()["status"], "COMPLETED");
    }
}

#[test]
fn it_gives_up_after_its_timeout_and_a_second_stop_sends_no_second_signal() {
    let daemon = Daemon::new();
    let uuid = daemon.enqueue("one", "gated", 1).remove(0);
    let pid = daemon.up();
    daemon.await_running(1);
    let (code, out, err) = daemon.daemon(&["stop", "--timeout", "300ms"]);
    assert_eq!(code, code::STILL_RUNNING, "{out}");
    assert!(err.contains("is still stopping after --timeout"), "{err}");
    assert!(err.contains("for running tasks: 1 (one: 1)"), "{err}");
    let (code, out, _) = daemon.daemon(&["stop", "--timeout", "0s"]);
    assert_eq!(code, code::STILL_RUNNING);
    assert!(out.contains("It is stopping already\n"), "{out}");
    assert!(lives(pid), "one SIGTERM only");
    daemon.write("go", "");
    await_end(pid);
    assert_eq!(daemon.find(&uuid).unwrap()["status"], "COMPLETED");
}

#[test]
fn several_stops_at_the_same_time_send_one_signal() {
    let daemon = Daemon::new();
    let uuid = daemon.enqueue("one", "gated", 1).remove(0);
    daemon.up();
    daemon.await_running(1);
    let mut stops: Vec<_> = (0..5).map(|_| daemon.begin(&["stop"])).collect();
    for stop in &stops {
        stop.await_output("Waiting for running tasks: 1");
    }
    daemon.write("go", "");
    for stop in &mut stops {
        let (code, out, err) = stop.wait();
        assert_eq!(code, 0, "{out}{err}");
    }
    assert_eq!(daemon.find(&uuid).unwrap()["status"], "COMPLETED");
}

/// A hard stop kills a service and the command that it runs. The next service runs the message again.
fn assert_hard_stop_loses_nothing(arguments: &[&str], said: &str) {
    let daemon = Daemon::new();
    let uuid = daemon.enqueue("one", "endless", 1).remove(0);
    let pid = daemon.up();
    let commands = daemon.endless();
    assert!(commands.iter().all(|command| lives(*command)));

    let (code, out, err) = daemon.daemon(arguments);
    assert_eq!((code, err.as_str()), (0, ""), "{out}");
    assert_eq!(out, format!("{ATTEMPT}{said}{STOPPED}"));
    assert!(!lives(pid));
    commands.into_iter().for_each(await_end);
    assert_eq!(
        daemon.daemon(&["status"]).0,
        code::STOPPED,
        "its files are removed"
    );

    daemon.configure(&super::CONFIG.replace("sleep 1000 &", "true; exit 0 #"));
    daemon.up();
    assert_eq!(daemon.ended(&uuid)["status"], "COMPLETED");
    daemon.down();
    assert_eq!(daemon.ready("one"), 0);
}

#[test]
fn a_hard_stop_kills_running_commands_at_once_and_loses_nothing() {
    assert_hard_stop_loses_nothing(&["stop", "--hard"], "");
}

#[test]
fn a_hard_stop_with_a_timeout_kills_after_the_timeout() {
    let said = "Waiting for running tasks: 1 (one: 1)\nThe time is over: killing it\n";
    assert_hard_stop_loses_nothing(&["stop", "--hard", "--timeout", "2s"], said);
}

#[test]
fn a_frozen_service_is_given_up_or_killed() {
    let daemon = Daemon::lonely();
    let pid = daemon.up();
    kill_process(pid, Signal::STOP).unwrap();
    let (code, out, _) = daemon.daemon(&["status"]);
    assert_eq!(code, 0);
    assert!(
        out.contains("No more is known: it does not answer"),
        "{out}"
    );
    let (code, _, err) = daemon.daemon(&["stop", "--timeout", "100ms"]);
    assert_eq!(code, code::STILL_RUNNING, "{err}");
    let (code, out, err) = daemon.daemon(&["stop", "--hard"]);
    assert_eq!((code, err.as_str()), (0, ""), "{out}");
    assert!(!lives(pid));
}

#[test]
fn a_dead_service_is_reported_and_its_files_are_removed() {
    let daemon = Daemon::lonely();
    let pid = daemon.up();
    kill(pid);
    let (code, _, err) = daemon.daemon(&["stop"]);
    assert_eq!(code, code::NOT_RUNNING);
    let died = format!(
        "Service is NOT running: it has died before, as pid {}",
        pid.as_raw_nonzero()
    );
    assert!(err.contains(&died), "{err}");
    assert_eq!(daemon.daemon(&["status"]).0, code::STOPPED);
}

#[test]
fn a_start_that_waits_for_its_database_can_be_stopped() {
    let mut daemon = Daemon::new();
    daemon.world.database_url = "postgres://carrot:carrot@127.0.0.1:1/nowhere".to_owned();
    daemon.up();
    daemon.down();
}

#[test]
fn it_says_that_it_waits_for_a_database_to_record_ends() {
    let mut daemon = Daemon::new();
    let uuid = daemon.enqueue("one", "gated", 1).remove(0);
    let direct = daemon.world.database_url.clone();
    let proxy = Proxy::before(&direct);
    daemon.world.database_url = proxy.url(&direct);
    daemon.up();
    daemon.await_running(1);
    proxy.hold_up();
    daemon.write("go", "");
    daemon.await_running(0);
    let mut stop = daemon.begin(&["stop"]);
    stop.await_output("Waiting to record messages: 1 (the database postgres://");
    proxy.let_pass();
    let (code, out, err) = stop.wait();
    assert_eq!((code, err.as_str()), (0, ""), "{out}");
    daemon.world.database_url = direct;
    assert_eq!(daemon.find(&uuid).unwrap()["status"], "COMPLETED");
}

#[test]
fn it_starts_and_stops_when_its_output_can_not_be_written() {
    let daemon = Daemon::lonely();
    let full = || {
        std::fs::File::options()
            .write(true)
            .open("/dev/full")
            .unwrap()
    };
    let mut start = daemon.controller(&["start"]);
    let start = start.stdout(full()).stderr(full()).status().unwrap();
    assert!(start.success());
    let pid = daemon.pid();
    let mut stop = daemon.controller(&["stop"]);
    let stop = stop.stdout(full()).stderr(full()).status().unwrap();
    assert!(stop.success());
    assert!(!lives(pid));
}

#[test]
fn a_service_that_has_just_been_forked_is_stopped_in_order() {
    let daemon = Daemon::lonely();
    for round in 0..30 {
        let mut start = daemon.begin(&["start"]);
        eventually("the pidfile is written", || {
            !daemon.read("daemon.pid").is_empty()
        });
        let (code, out, err) = daemon.daemon(&["stop"]);
        assert_eq!((code, err.as_str()), (0, ""), "in round {round}: {out}");
        let (code, out, err) = start.wait();
        assert_eq!((code, err.as_str()), (0, ""), "in round {round}: {out}");
        assert_eq!(daemon.daemon(&["status"]).0, code::STOPPED);
    }
}
