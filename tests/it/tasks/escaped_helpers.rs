//! A run ends with the process of its command. Helpers that it has started in other sessions, and that keep
//! its pipes open, hold up nothing.

use std::fs;
use std::time::{Duration, Instant, UNIX_EPOCH};

use nix::libc;
use rustix::process::{Pid, Signal, test_kill_process};
use serde_json::{Value, json};

use crate::support::{Database, Running, World, eventually, milliseconds, refuse, text};

/// Far longer than the service needs to notice an exit, and far shorter than helpers live.
const SOON: Duration = Duration::from_secs(10);

/// More bytes than a pipe holds.
const MUCH: usize = 100_000;

fn world(command: &str) -> World {
    World::embedded_on(
        Database::Sqlite,
        &format!("[[queues]]\nname = 'default'\n[tasks.task]\ncommand = {command}\n"),
    )
}

/// A command that starts this helper, in the shell's language, in its own session, and then ends.
fn world_with_helper(helper: &str) -> World {
    world(&format!(
        "['sh', '-c', '''setsid sh -c \"{helper}\" & sleep 0.2; echo done''']"
    ))
}

impl World {
    /// Runs two messages with large arguments one after the other, and stops the service; their rows. Fails
    /// if a helper holds them up.
    #[track_caller]
    fn assert_not_held_up(&self) -> [Value; 2] {
        let arguments = json!(["x".repeat(MUCH)]).to_string();
        let uuids = [(); 2].map(|()| self.send(&["task", "--args", &arguments]));
        let mut service = self.start(&[]);
        let rows = uuids.map(|uuid| self.ended(&uuid));
        for row in &rows {
            assert_eq!(row["status"], "COMPLETED", "{row:.2000}");
        }
        assert_stops_soon(&mut service);
        rows
    }

    /// Runs one message; its row.
    #[track_caller]
    fn run_one(&self) -> Value {
        let uuid = self.send(&["task"]);
        let (code, _, err) = self.run(&["--testmode", "--logfile", "carrot.log"]);
        assert_eq!(code, 0, "{err}");
        self.find(&uuid).unwrap()
    }
}

#[track_caller]
fn assert_stops_soon(service: &mut Running) {
    let began = Instant::now();
    assert_eq!(service.terminate(), 0);
    assert!(began.elapsed() < SOON, "{:?}", began.elapsed());
}

#[test]
fn a_helper_that_writes_every_50_ms_holds_up_nothing() {
    world_with_helper("while echo tick; do sleep 0.05; done").assert_not_held_up();
    let rows = world_with_helper("while echo tick >&2; do sleep 0.05; done").assert_not_held_up();
    assert_eq!(rows[0]["output"], "done");
    assert!(text(&rows[0], "log").contains(" INFO:: tick"));
}

#[test]
fn a_helper_that_writes_as_fast_as_it_can_holds_up_nothing() {
    world_with_helper("exec yes").assert_not_held_up();
    world_with_helper("exec yes >&2").assert_not_held_up();
    world_with_helper("exec cat /dev/zero").assert_not_held_up();
}

#[test]
fn a_helper_that_ends_no_line_holds_up_nothing() {
    let endless = "while printf x >&2; do sleep 0.01; done";
    let rows = world_with_helper(endless).assert_not_held_up();
    assert!(text(&rows[0], "log").contains(" INFO:: xx"));
}

#[test]
fn a_helper_that_keeps_standard_input_open_holds_up_nothing() {
    world_with_helper("exec sleep 100").assert_not_held_up();
    world_with_helper("while test -n \\\"$(head -c 100)\\\"; do sleep 0.05; done")
        .assert_not_held_up();
}

#[test]
fn a_run_ends_when_its_command_does() {
    let world = world(
        "['sh', '-c', '''setsid sh -c \"while echo tick; do sleep 0.05; done\" & \
         sleep 0.2; exec touch ended''']",
    );
    let mut service = world.start(&[]);
    let row = world.ended(&world.send(&["task"]));
    assert_eq!(row["status"], "COMPLETED", "{row}");
    let touched = fs::metadata(world.directory().join("ended")).unwrap();
    let touched = touched.modified().unwrap().duration_since(UNIX_EPOCH);
    let touched = i64::try_from(touched.unwrap().as_millis()).unwrap();
    let took = milliseconds(&row, "completion_time") - touched;
    eprintln!("recorded {took} ms after its last act");
    assert!(took < 5_000, "{took} ms");
    assert_stops_soon(&mut service);
}

/// Stops a service in order and then hard while its command runs, and fails unless the command is killed.
#[track_caller]
fn assert_stops_hard(world: &World) {
    let uuid = world.send(&["task"]);
    let mut service = world.start(&[]);
    let pid = eventually("the command has written its pid", || {
        let noted = world.read("pid");
        Pid::from_raw(noted.strip_suffix('\n')?.parse().ok()?)
    });
    service.signal(Signal::TERM);
    service.await_log("waiting for 1 running tasks");
    let began = Instant::now();
    service.signal(Signal::TERM);
    assert_eq!(service.wait(), 75);
    assert!(began.elapsed() < SOON, "{:?}", began.elapsed());
    eventually("the command is dead", || test_kill_process(pid).is_err());
    assert_eq!(world.find(&uuid).unwrap()["status"], "IN_PROGRESS");
}

#[test]
fn a_running_command_with_a_talkative_helper_is_stopped_hard_as_any_other() {
    let talkative = "setsid sh -c \"while echo tick; do sleep 0.05; done\"";
    assert_stops_hard(&world(&format!(
        "['sh', '-c', '''{talkative} & echo $$ > pid; exec sleep 1000''']"
    )));
}

#[test]
fn a_command_that_has_left_its_process_group_is_stopped_hard_as_any_other() {
    let leaves = "setpgrp(0, getpgrp(getppid())) or die; \
                  open(F, q(>), q(pid)); print F qq($$\\n); close F; sleep 1000";
    assert_stops_hard(&world(&format!("['perl', '-e', '{leaves}']")));
}

/// A kernel before 5.3 has no pidfds, and a seccomp filter may refuse them.
#[test]
fn a_command_is_run_without_pidfds_as_with_them() {
    let world = world_with_helper("while echo tick; do sleep 0.05; done");
    let arguments = json!(["x".repeat(MUCH)]).to_string();
    for error in [libc::ENOSYS, libc::EPERM] {
        let uuid = world.send(&["task", "--args", &arguments]);
        let mut command = world.command(&[]);
        refuse(&mut command, libc::SYS_pidfd_open, error);
        let mut service = world.spawn(command);
        assert_eq!(world.ended(&uuid)["status"], "COMPLETED");
        assert_stops_soon(&mut service);
    }
}

#[test]
fn a_command_that_closes_its_streams_is_waited_for() {
    let world = world("['sh', '-c', 'exec <&- >&- 2>&-; sleep 1; touch over; exit 3']");
    let row = world.run_one();
    assert_eq!(row["exception"], "the command exited with status 3");
    assert!(world.directory().join("over").exists());
}

#[test]
fn a_command_that_reads_its_message_late_gets_all_of_it() {
    let world = world("['sh', '-c', 'sleep 0.5; wc -c']");
    let arguments = json!(["x".repeat(MUCH)]).to_string();
    let uuid = world.send(&["task", "--args", &arguments]);
    let (code, _, err) = world.run(&["--testmode", "--logfile", "carrot.log"]);
    assert_eq!(code, 0, "{err}");
    let row = world.find(&uuid).unwrap();
    let read: usize = text(&row, "output").trim().parse().unwrap();
    let around = json!({"task": "task", "uuid": uuid, "args": [""], "kwargs": {}, "attempt": 1});
    assert_eq!(read, around.to_string().len() + MUCH + 1, "{row:.2000}");
}

#[test]
fn output_that_a_command_wrote_before_it_exits_is_kept_to_the_last_byte() {
    for size in [1, 65_535, 65_536, 65_537, 1 << 20] {
        let world = world("['sh', '-c', 'cat said; exec cat logged >&2']");
        world.write("said", &"x".repeat(size));
        world.write("logged", &("y\n".repeat(16_000) + "the last"));
        let row = world.run_one();
        assert_eq!(text(&row, "output").len(), size, "{row:.2000}");
        assert!(
            text(&row, "log").contains(" INFO:: the last\n"),
            "{row:.2000}"
        );
    }
}

#[test]
fn the_output_of_children_ends_with_the_command() {
    let world = world("['sh', '-c', 'yes & yes >&2 & echo done; sleep 0.2; echo $! > pid']");
    let row = world.run_one();
    assert_eq!(row["status"], "COMPLETED", "{row:.2000}");
    let pid = Pid::from_raw(world.read("pid").trim().parse().unwrap()).unwrap();
    eventually("the child is dead", || test_kill_process(pid).is_err());
}
