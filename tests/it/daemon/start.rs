//! `daemon start`: its output, and when it returns.

use std::fs;
use std::net::TcpListener;

use crate::support::{World, await_end, lives, outcome};

use super::{Daemon, code};

/// The first line of its output.
const ATTEMPT: &str = "Attempting to start the process\n";

impl World {
    /// How many consumers the queue has.
    fn consumers(&self, queue: &str) -> u32 {
        let mut connection = self.amqp();
        let channel = connection.open_channel(None).unwrap();
        let declared = channel.queue_declare_passive(queue).unwrap();
        declared.declared_consumer_count().unwrap()
    }
}

#[test]
fn it_returns_when_every_queue_is_consumed_and_prints_the_pid() {
    let daemon = Daemon::new();
    let (code, out, err) = daemon.daemon(&["start"]);
    assert_eq!((daemon.consumers("one"), daemon.consumers("two")), (1, 1));
    let pid = daemon.pid().as_raw_nonzero();
    let started = format!("{ATTEMPT}Process started successfully with pid: {pid}\n");
    assert_eq!((code, out, err), (0, started, String::new()));
    let uuid = daemon.send(&["noop", "--queue", "two"]);
    assert_eq!(daemon.ended(&uuid)["status"], "COMPLETED");
    daemon.down();
}

#[test]
fn a_broker_that_is_away_is_named_and_the_start_succeeds() {
    let daemon = Daemon::lonely();
    let (code, out, err) = daemon.daemon(&["start"]);
    assert_eq!((code, err.as_str()), (0, ""));
    assert!(
        out.contains("\nIt waits: the broker amqp://guest:***@127.0.0.1:1/%2f is away: "),
        "{out}"
    );
    assert!(!out.contains("s3cr3t"), "{out}");
    daemon.down();
}

#[test]
fn a_database_that_is_away_is_named_and_the_start_succeeds() {
    let mut daemon = Daemon::new();
    daemon.world.database_url = "postgres://carrot:s3cr3t@127.0.0.1:1/nowhere".to_owned();
    let (code, out, err) = daemon.daemon(&["start"]);
    assert_eq!((code, err.as_str()), (0, ""));
    assert!(
        out.contains("\nIt waits: the database postgres://"),
        "{out}"
    );
    assert!(out.contains("127.0.0.1:1/nowhere is away: "), "{out}");
    assert!(!out.contains("s3cr3t"), "{out}");
    daemon.down();
}

#[test]
fn a_broker_that_does_not_answer_is_named_and_the_start_succeeds() {
    let mut daemon = Daemon::new();
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap();
    daemon.world.broker_url = format!("amqp://guest:guest@{address}/x");
    let (code, out, err) = daemon.daemon(&["start"]);
    assert_eq!((code, err.as_str()), (0, ""));
    let silence = format!("It waits: the broker amqp://guest:***@{address}/x has not answered ");
    assert!(out.contains(&silence), "{out}");
    daemon.down();
}

#[test]
fn a_queue_that_the_broker_refuses_is_named_and_the_others_are_consumed() {
    let daemon = Daemon::new();
    daemon.declare_queue_with("one", 3);
    let (code, out, err) = daemon.daemon(&["start"]);
    assert_eq!((code, err.as_str()), (0, ""));
    assert!(
        out.contains(r#"It waits: queue "one" is not consumed: "#),
        "{out}"
    );
    assert_eq!(daemon.consumers("two"), 1);
    daemon.down();
}

#[test]
fn a_second_start_reports_the_running_service_and_harms_nothing() {
    let daemon = Daemon::lonely();
    let pid = daemon.up();
    let (code, out, err) = daemon.daemon(&["start"]);
    assert_eq!((code, out.as_str()), (code::ALREADY_RUNNING, ATTEMPT));
    let running = format!("running already, pid {}", pid.as_raw_nonzero());
    assert!(err.contains(&running) && err.contains("--pidfile"), "{err}");
    assert_eq!(daemon.pid(), pid);
    assert!(lives(pid));
    daemon.down();
}

/// Fails unless the start fails with this exit code and reason, and leaves nothing behind.
#[track_caller]
fn assert_start_fails(daemon: &Daemon, arguments: &[&str], code: i32, why: &str) {
    let (found, _, err) = daemon.daemon(arguments);
    assert_eq!(found, code, "{err}");
    assert!(err.contains(why), "{err}");
    let left = |name: &str| daemon.directory().join(name).exists();
    assert!(!left("daemon.pid") && !left("daemon.pid.sock"));
    let (status, ..) = daemon.daemon(&["status"]);
    assert_eq!(status, code::STOPPED);
}

#[test]
fn a_faulty_configuration_is_reported_by_the_controller() {
    let daemon = Daemon::lonely();
    daemon.configure("max_crashs = 3");
    assert_start_fails(&daemon, &["start"], 78, "did you mean max_crashes?");
}

#[test]
fn a_database_that_is_not_migrated_is_reported_by_the_controller() {
    let daemon = Daemon {
        world: World::without_tables(super::CONFIG),
    };
    assert_start_fails(&daemon, &["start"], 78, "carrot-actors migrate");
    let log = daemon.read("daemon.log");
    assert!(
        log.contains("ERROR:: the database can't be used: postgres://"),
        "{log}"
    );
}

#[test]
fn a_log_file_that_can_not_be_written_is_reported_by_the_controller() {
    let daemon = Daemon::lonely();
    fs::create_dir(daemon.directory().join("daemon.log")).unwrap();
    assert_start_fails(
        &daemon,
        &["start"],
        73,
        "Is a directory (os error 21); give --logfile",
    );
}

#[test]
fn a_database_file_in_a_missing_folder_is_reported_by_the_controller() {
    let daemon = Daemon::lonely();
    daemon.configure("database_url = \"sqlite://no/such/folder/x.db\"");
    assert_start_fails(
        &daemon,
        &["start"],
        78,
        "no/such/folder/x.db does not exist",
    );
}

#[test]
fn a_pidfile_in_a_missing_folder_is_an_error_with_a_remedy() {
    let daemon = Daemon::lonely();
    let mut command = daemon.command(&["daemon", "start", "-p", "no/such/folder/x.pid"]);
    let (code, _, err) = outcome(command.args(["-l", "daemon.log"]));
    assert_eq!(code, code::PIDFILE, "{err}");
    assert!(
        err.contains("no/such/folder/x.pid can't be opened: No such file"),
        "{err}"
    );
    assert!(err.contains("give another one with --pidfile"), "{err}");
}

#[test]
fn options_may_stand_before_or_after_the_command() {
    let daemon = Daemon::lonely();
    for line in [
        &[
            "daemon",
            "--no-scheduler",
            "-p",
            "daemon.pid",
            "start",
            "-l",
            "daemon.log",
        ],
        &[
            "daemon",
            "start",
            "-l",
            "daemon.log",
            "--no-scheduler",
            "-p",
            "daemon.pid",
        ],
        &[
            "--no-scheduler",
            "-l",
            "daemon.log",
            "daemon",
            "-p",
            "daemon.pid",
            "start",
        ],
    ] {
        let (code, _, err) = daemon.run(line);
        assert_eq!(code, 0, "{line:?}: {err}");
        assert_eq!(daemon.status()["scheduler"], false, "{line:?}");
        daemon.down();
    }
}

#[test]
fn an_option_that_the_command_does_not_have_is_refused() {
    let daemon = Daemon::lonely();
    for (arguments, verbs) in [
        (&["start", "--hard"][..], "stop and restart"),
        (&["status", "--timeout", "3s"], "stop and restart"),
        (&["stop", "--json"], "status"),
        (&["stop", "--timeout", "soon"], "soon"),
        (&["begin"], "begin"),
        (&[], "VERB"),
    ] {
        let (code, out, err) = daemon.daemon(arguments);
        assert_eq!((code, out.as_str()), (64, ""), "{arguments:?}");
        assert!(err.contains(verbs), "{arguments:?}: {err}");
    }
}

#[test]
fn it_runs_what_is_queued_and_ends_in_test_mode() {
    let daemon = Daemon::new();
    let uuid = daemon.enqueue("one", "noop", 1).remove(0);
    daemon.declare_queue("two");
    let (code, out, err) = daemon.daemon(&["start", "--testmode"]);
    assert_eq!((code, err.as_str()), (0, ""), "{out}");
    assert_eq!(daemon.ended(&uuid)["status"], "COMPLETED");
    crate::support::eventually("the daemon ends", || {
        daemon.daemon(&["status"]).0 == code::STOPPED
    });
}

#[test]
fn a_start_while_the_service_is_stopping_fails() {
    let daemon = Daemon::new();
    daemon.enqueue("one", "gated", 1);
    let pid = daemon.up();
    daemon.await_running(1);
    let (stopping, ..) = daemon.daemon(&["stop", "--timeout", "0s"]);
    assert_eq!(stopping, code::STILL_RUNNING);
    let (code, out, err) = daemon.daemon(&["start"]);
    assert_eq!((code, out.as_str()), (code::STILL_RUNNING, ATTEMPT));
    let number = pid.as_raw_nonzero();
    assert!(err.contains(&format!("pid {number} (")), "{err}");
    assert!(err.contains("is still stopping; `restart`"), "{err}");
    daemon.write("go", "");
    await_end(pid);
}

#[test]
fn one_of_two_starts_at_the_same_time_succeeds_and_the_other_reports_it() {
    let daemon = Daemon::lonely();
    for round in 0..50 {
        let mut both = [daemon.begin(&["start"]), daemon.begin(&["start"])];
        let mut ended = [both[0].wait(), both[1].wait()];
        ended.sort();
        let [(won, out, _), (lost, _, err)] = ended;
        assert_eq!(
            (won, lost),
            (0, code::ALREADY_RUNNING),
            "in round {round}: {err}"
        );
        let pid = daemon.pid();
        let number = pid.as_raw_nonzero();
        assert!(out.contains(&format!("with pid: {number}\n")), "{out}");
        assert!(
            err.contains(&format!("running already, pid {number} ")),
            "{err}"
        );
        assert!(lives(pid));
        daemon.down();
        assert!(!lives(pid));
    }
}

/// Runs the `daemon` command, which is killed at this failpoint, or whose daemon is.
fn dies(daemon: &Daemon, verb: &str, place: &str) -> (i32, String, String) {
    let mut command = daemon.controller(&[verb]);
    outcome(command.env("CARROT_FAILPOINTS", format!("{place}=kill")))
}

#[test]
fn a_death_anywhere_in_the_start_is_reported_and_the_next_start_succeeds() {
    let daemon = Daemon::lonely();
    for place in ["daemon.forked", "daemon.bound", "daemon.named", "daemon.up"] {
        let (code, _, err) = dies(&daemon, "start", place);
        assert_eq!(code, 70, "{place}: {err}");
        assert!(
            err.contains("the service died during its start"),
            "{place}: {err}"
        );
        assert_eq!(daemon.daemon(&["status"]).0, code::STOPPED, "{place}");
        daemon.up();
        daemon.down();
    }
    // The controller is killed.
    assert_eq!(dies(&daemon, "start", "daemon.claimed").0, -9);
    assert_eq!(daemon.daemon(&["status"]).0, code::STOPPED);
    // The service is killed as the last thing that it does.
    assert_eq!(dies(&daemon, "start", "daemon.over").0, 0);
    daemon.down();
    assert_eq!(daemon.daemon(&["status"]).0, code::STOPPED);
    daemon.up();
    daemon.down();
}
