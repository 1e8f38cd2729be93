//! Log rotation by SIGHUP: the service continues its log in a new file.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::process::Signal;

use super::has;
use crate::support::{Running, World, eventually, outcome};

const QUICK: &str = r#"
[[queues]]
name = "default"
concurrency = 4
[tasks.noop]
command = ["sh", "-c", "echo said by a task >&2"]
"#;

/// What the task logs, once for each message.
const ONCE_A_MESSAGE: &str = "said by a task";

/// The contents of all its log files.
fn all_logs(log: &Path) -> String {
    let name = log.file_name().unwrap().to_string_lossy().into_owned();
    let entries = fs::read_dir(log.parent().unwrap()).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    let is_of_log = |path: &PathBuf| {
        path.file_name()
            .unwrap()
            .to_string_lossy()
            .starts_with(&name)
    };
    let texts = paths
        .filter(is_of_log)
        .map(|path| fs::read_to_string(path).unwrap());
    texts.collect()
}

/// Fails unless the line is `<thread> YYYY-MM-DD HH:MM:SS,mmm LEVEL:: message`, with each part once.
#[track_caller]
fn assert_whole(line: &str) {
    let (head, _) = line.split_once(":: ").unwrap_or_else(|| panic!("{line:?}"));
    let words: Vec<&str> = head.rsplitn(4, ' ').collect();
    let levels = ["DEBUG", "INFO", "WARNING", "ERROR"];
    assert!(words.len() == 4 && levels.contains(&words[0]), "{line:?}");
    assert_eq!(words[1].len(), "HH:MM:SS,mmm".len(), "{line:?}");
    assert_eq!(line.matches(":: ").count(), 1, "{line:?}");
}

fn await_new_log(service: &Running) {
    eventually("the log file is created again", || service.log.exists());
}

#[test]
fn no_line_is_lost_or_split_while_the_log_is_rotated() {
    let world = World::new(QUICK);
    let messages = 300;
    world.enqueue("default", "noop", messages);
    let mut service = world.start(&[]);
    let mut rotations = 0;
    while world.count("COMPLETED") < messages {
        rotations += 1;
        fs::rename(
            &service.log,
            service.log.with_extension(format!("log.{rotations}")),
        )
        .unwrap();
        service.signal(Signal::HUP);
        await_new_log(&service);
    }
    assert_eq!(service.terminate(), 0);

    assert!(
        rotations > 2,
        "all messages had run before the log was rotated"
    );
    let log = all_logs(&service.log);
    log.lines().for_each(assert_whole);
    assert_eq!(log.matches(ONCE_A_MESSAGE).count(), messages);
    assert_eq!(
        log.matches("the log file was opened anew").count(),
        rotations
    );
    assert!(service.log().contains("all consumers have stopped"));
}

#[test]
fn logrotate_rotates_the_log_of_a_running_service() {
    if !has("logrotate") {
        return;
    }
    let world = World::new(QUICK);
    let mut service = world.start(&[]);
    let (log, pid) = (service.log.display(), service.pid().as_raw_nonzero());
    let user = rustix::process::geteuid();
    world.write(
        "rotate",
        &format!(
            "{log} {{\n rotate 3\n create 0640 {user} {group}\n su {user} {group}\n postrotate\n  kill -HUP {pid}\n endscript\n}}\n",
            group = rustix::process::getegid(),
        ),
    );
    fs::set_permissions(
        world.directory().join("rotate"),
        PermissionsExt::from_mode(0o644),
    )
    .unwrap();
    let mut logrotate = Command::new("logrotate");
    logrotate
        .current_dir(world.directory())
        .args(["--force", "--state", "state", "rotate"]);
    let (code, out, err) = outcome(&mut logrotate);
    assert_eq!(code, 0, "{out}{err}");
    service.await_log("the log file was opened anew");

    let old = service.log.with_extension("log.1");
    let before = fs::read_to_string(&old).unwrap();
    assert!(before.contains("consuming queue"), "{before}");
    world.post("default", "noop", 1);
    service.await_log(ONCE_A_MESSAGE);
    assert_eq!(
        fs::read_to_string(&old).unwrap(),
        before,
        "nothing more is written to the old file"
    );
    assert_eq!(service.terminate(), 0);
}

#[test]
fn sighup_does_not_stop_hard_a_service_that_is_stopping() {
    let world = World::new(QUICK);
    world.configure(
        r#"
        [[queues]]
        name = "default"
        [tasks.gated]
        command = ["sh", "-c", "touch started; until test -e go; do sleep 0.02; done"]
        "#,
    );
    let mut service = world.start(&[]);
    let uuid = world.send(&["gated"]);
    let started = world.directory().join("started");
    eventually("the task runs", || started.exists());
    service.signal(Signal::TERM);
    service.await_log("told to stop");
    service.signal(Signal::HUP);
    service.await_log("the log file was opened anew");
    world.write("go", "");
    assert_eq!(service.wait(), 0);
    assert_eq!(world.ended(&uuid)["status"], "COMPLETED");
}

#[test]
fn a_log_that_can_not_be_reopened_goes_on_in_the_old_file() {
    let world = World::new(QUICK);
    let mut service = world.start(&[]);
    let moved = service.log.with_extension("log.1");
    fs::rename(&service.log, &moved).unwrap();
    fs::create_dir(&service.log).unwrap();
    service.signal(Signal::HUP);
    let moved_log = || fs::read_to_string(&moved).unwrap();
    eventually("the old log says why the file can't be opened", || {
        moved_log().contains("can't be opened anew")
    });
    world.enqueue("default", "noop", 1);
    eventually("the task logs to the old file", || {
        moved_log().contains(ONCE_A_MESSAGE)
    });

    fs::remove_dir(&service.log).unwrap();
    service.signal(Signal::HUP);
    service.await_log("the log file was opened anew");
    assert_eq!(service.terminate(), 0);
}
