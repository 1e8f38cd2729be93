//! `daemon restart`.

use super::{Daemon, code, kill};
use crate::support::{await_end, lives};

/// The output of a restart of a running service.
fn words(pid: rustix::process::Pid) -> String {
    format!(
        "Attempting to stop the process. Please wait...\n\
         Process has been stopped\n\
         Attempting to start the process\n\
         Process started successfully with pid: {}\n",
        pid.as_raw_nonzero()
    )
}

#[test]
fn it_stops_the_running_service_and_starts_another() {
    let daemon = Daemon::new();
    let first = daemon.up();
    let (code, out, err) = daemon.daemon(&["restart", "--no-scheduler"]);
    assert_eq!((code, err.as_str()), (0, ""), "{out}");
    let second = daemon.pid();
    assert_eq!(out, words(second) + "Process restarted successfully\n");
    assert!(!lives(first) && lives(second));
    assert_eq!(
        daemon.status()["scheduler"],
        false,
        "it has the options of the restart"
    );
    daemon.down();
}

#[test]
fn a_restart_starts_a_service_that_does_not_run() {
    let daemon = Daemon::lonely();
    let (code, out, err) = daemon.daemon(&["restart"]);
    assert_eq!((code, err.as_str()), (0, ""), "{out}");
    assert!(
        out.starts_with("Service is NOT running\n(no process holds "),
        "{out}"
    );
    assert!(
        out.contains("--pidfile, give the same here)\nAttempting to start"),
        "{out}"
    );
    assert!(out.ends_with("Process restarted successfully\n"), "{out}");
    kill(daemon.pid());
    let (code, out, err) = daemon.daemon(&["restart"]);
    assert_eq!((code, err.as_str()), (0, ""), "{out}");
    daemon.down();
}

#[test]
fn a_restart_that_can_not_succeed_never_stops_the_running_service() {
    let daemon = Daemon::lonely();
    let pid = daemon.up();
    let config = daemon.read("carrot.toml");
    daemon.configure("max_crashs = 3");
    let (code, out, err) = daemon.daemon(&["restart"]);
    assert_eq!((code, out.as_str()), (78, ""));
    assert!(err.contains("did you mean max_crashes?"), "{err}");
    daemon.configure(&config);
    let mut command = daemon.command(&["daemon", "restart", "-p", "daemon.pid", "-l", "/"]);
    let (code, _, err) = crate::support::outcome(&mut command);
    assert_eq!(code, 73, "{err}");
    assert!(lives(pid));
    assert_eq!(daemon.pid(), pid);
    daemon.down();
}

#[test]
fn it_waits_for_a_service_that_is_already_stopping() {
    let daemon = Daemon::new();
    let uuid = daemon.enqueue("one", "gated", 1).remove(0);
    let first = daemon.up();
    daemon.await_running(1);
    let (code, _, _) = daemon.daemon(&["stop", "--timeout", "0s"]);
    assert_eq!(code, code::STILL_RUNNING);
    let (code, out, _) = daemon.daemon(&["status"]);
    assert_eq!(code, 0);
    assert!(out.contains("\nIt is stopping\n"), "{out}");

    let (code, out, err) = daemon.daemon(&["restart", "--timeout", "0s"]);
    assert_eq!(code, code::STILL_RUNNING, "{out}");
    assert!(err.contains("is still stopping after --timeout"), "{err}");
    assert!(
        lives(first) && daemon.pid() == first,
        "no second service was started"
    );

    let mut restart = daemon.begin(&["restart"]);
    restart.await_output("It is stopping already\n");
    daemon.write("go", "");
    let (code, out, err) = restart.wait();
    assert_eq!((code, err.as_str()), (0, ""), "{out}");
    assert!(out.ends_with("Process restarted successfully\n"), "{out}");
    assert!(!lives(first));
    assert_eq!(daemon.find(&uuid).unwrap()["status"], "COMPLETED");
    daemon.down();
}

#[test]
fn a_hard_restart_kills_the_service_and_the_message_is_run_again() {
    let daemon = Daemon::new();
    let uuid = daemon.enqueue("one", "endless", 1).remove(0);
    let first = daemon.up();
    let commands = daemon.endless();
    daemon.configure(&super::CONFIG.replace("sleep 1000 &", "true; exit 0 #"));
    let (code, out, err) = daemon.daemon(&["restart", "--hard"]);
    assert_eq!((code, err.as_str()), (0, ""), "{out}");
    assert!(!lives(first));
    commands.into_iter().for_each(await_end);
    assert_eq!(daemon.ended(&uuid)["status"], "COMPLETED");
    daemon.down();
}
