//! `daemon status`, for people and as JSON.

use serde_json::json;

use super::{Daemon, code, kill};

#[test]
fn it_reports_that_nothing_runs() {
    let daemon = Daemon::lonely();
    let (code, out, err) = daemon.daemon(&["status"]);
    assert_eq!((code, err.as_str()), (code::STOPPED, ""));
    assert!(out.starts_with("Service is NOT running\n"), "{out}");
    assert!(
        out.contains("daemon.pid; if the service was started with a --pidfile"),
        "{out}"
    );
    let (code, out, _) = daemon.daemon(&["status", "--json"]);
    assert_eq!(
        (code, out.as_str()),
        (code::STOPPED, "{\"status\":\"stopped\"}\n")
    );
}

#[test]
fn it_reports_running_tasks() {
    let daemon = Daemon::new();
    daemon.enqueue("one", "gated", 3);
    daemon.enqueue("two", "gated", 1);
    let pid = daemon.up().as_raw_nonzero();
    daemon.await_running(3);
    let (code, out, err) = daemon.daemon(&["status"]);
    assert_eq!((code, err.as_str()), (0, ""));
    let (first, rest) = out.split_once('\n').unwrap();
    assert_eq!(first, format!("Service is running. PID: {pid}"));
    let (since, queues) = rest.split_once('\n').unwrap();
    assert!(
        since.starts_with("Since 20") && since.ends_with(", scheduler on"),
        "{since}"
    );
    assert_eq!(
        queues,
        "Queue one: tasks running: 2 of 2\nQueue two: tasks running: 1 of 1\n"
    );

    let mut status = daemon.status();
    let since = status["since"].take();
    let since = chrono::DateTime::parse_from_rfc3339(since.as_str().unwrap()).unwrap();
    assert!(since <= chrono::Utc::now());
    status.as_object_mut().unwrap().remove("in_hand");
    assert_eq!(
        status,
        json!({
            "status": "running",
            "pid": pid.get(),
            "state": "consuming",
            "since": null,
            "scheduler": true,
            "waiting_for": [],
            "running_tasks": 3,
            "queues": [
                { "name": "one", "consumers": 2, "running_tasks": 2, "consumed": true },
                { "name": "two", "consumers": 1, "running_tasks": 1, "consumed": true },
            ],
        })
    );
    daemon.write("go", "");
    daemon.down();
}

#[test]
fn it_reports_a_broker_that_is_away() {
    let daemon = Daemon::lonely();
    daemon.up();
    let (code, out, _) = daemon.daemon(&["status"]);
    assert_eq!(code, 0);
    assert!(
        out.contains("\nIt waits: the broker amqp://guest:***@127.0.0.1:1/%2f is away"),
        "{out}"
    );
    assert!(
        out.ends_with("\nQueue default: tasks running: 0 of 1, not consumed\n"),
        "{out}"
    );
    assert!(!out.contains("s3cr3t"), "{out}");
    assert_eq!(daemon.status()["state"], "waiting");
    daemon.down();
}

#[test]
fn it_reports_a_killed_service_and_its_successor() {
    let daemon = Daemon::lonely();
    let pid = daemon.up();
    kill(pid);
    let (code, out, err) = daemon.daemon(&["status"]);
    assert_eq!((code, err.as_str()), (code::DEAD, ""));
    let died = format!(
        "Service is NOT running\nIt died as pid {}, and left its pidfile ",
        pid.as_raw_nonzero()
    );
    assert!(out.starts_with(&died), "{out}");
    assert_eq!(
        daemon.status(),
        json!({ "status": "dead", "pid": pid.as_raw_nonzero().get() })
    );
    assert_ne!(daemon.up(), pid);
    assert_eq!(daemon.status()["status"], "running");
    daemon.down();
}
