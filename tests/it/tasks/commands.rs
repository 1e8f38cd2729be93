//! Tasks that are external commands.

use std::os::unix::fs::symlink;
use std::os::unix::process::CommandExt;

use carrot_actors::internals::service::{Service, ServiceError};
use carrot_actors::task::Registry;
use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::{Value, json};

use crate::support::{self, Raw, World, await_end, eventually, lives, text};
#[cfg(feature = "mysql")]
use crate::support::{Database, cases};

/// A world in which the task `task` is this command, in TOML.
fn world(command: &str) -> World {
    let world = World::new(&format!(
        "[[queues]]\nname = \"default\"\n[tasks.task]\ncommand = {command}\n"
    ));
    world.declare_queue("default");
    world
}

impl World {
    /// Sends a message for `task` and runs what is queued; the message's row.
    #[track_caller]
    fn once(&self, arguments: &[&str]) -> Value {
        let uuid = self.send(&[&["task"], arguments].concat());
        let (code, _, err) = self.run(&["--testmode", "--logfile", "carrot.log"]);
        assert_eq!(code, 0, "{err}");
        assert_eq!(self.ready("default"), 0);
        self.find(&uuid).unwrap()
    }

    /// Waits until the command has written `count` pids to the file `pids`.
    #[track_caller]
    fn pids(&self, count: usize) -> Vec<Pid> {
        eventually("the command has written its pids", || {
            let noted = self.read("pids");
            let pids = support::pids(&noted);
            (noted.ends_with('\n') && pids.len() == count).then_some(pids)
        })
    }
}

#[test]
fn a_command_that_starts_a_daemon_does_not_hold_its_consumer() {
    let world = World::new(
        "[[queues]]\nname = \"default\"\n[tasks.daemon]\n\
         command = [\"sh\", \"-c\", \"setsid sleep 20 & echo done\"]\n",
    );
    let mut service = world.start(&[]);
    let uuids = [world.send(&["daemon"]), world.send(&["daemon"])];
    for uuid in uuids {
        let row = world.ended(&uuid);
        assert_eq!(row["status"], "COMPLETED", "{row}");
        assert_eq!(row["output"], "done");
    }
    assert_eq!(service.terminate(), 0);
}

#[test]
fn a_command_gets_its_message_as_one_line_of_json() {
    let world = world(r#"["sh", "-c", "tee input"]"#);

    let row = world.once(&[
        "--args",
        "[1, \"a\\nb\", 2.50]",
        "--kwargs",
        "{\"k\": null}",
    ]);

    assert_eq!(row["status"], "COMPLETED", "{row}");
    let input = world.read("input");
    assert!(
        input.ends_with('\n') && input.lines().count() == 1,
        "{input}"
    );
    let expected = format!(
        "{{\"task\":\"task\",\"uuid\":{},\"args\":[1,\"a\\nb\",2.50],\"kwargs\":{{\"k\":null}},\"attempt\":1}}\n",
        row["uuid"]
    );
    assert_eq!(input, expected);
    assert_eq!(text(&row, "output"), input.trim_end());
}

#[test]
fn standard_output_is_the_output_and_standard_error_the_log() {
    let world = world(r#"["sh", "-c", "echo one; echo careful >&2; echo two; printf end >&2"]"#);

    let row = world.once(&[]);

    assert_eq!(row["status"], "COMPLETED", "{row}");
    assert_eq!(row["output"], "one\ntwo");
    let lines: Vec<&str> = text(&row, "log").lines().collect();
    assert!(
        lines[0].ends_with(" INFO:: Starting task task"),
        "{lines:?}"
    );
    assert!(lines[1].starts_with("default-consumer-1 ") && lines[1].ends_with(" INFO:: careful"));
    assert!(lines[2].ends_with(" INFO:: end"), "{lines:?}");
    assert!(
        lines[3].contains("Task task completed successfully with response one"),
        "{lines:?}"
    );
    assert!(world.read("carrot.log").contains(" INFO:: careful\n"));
}

#[test]
fn a_command_that_exits_with_a_status_or_by_a_signal_is_failed() {
    let world_of_status = world(r#"["sh", "-c", "echo so far; echo why >&2; exit 3"]"#);
    let row = world_of_status.once(&[]);
    assert_eq!(row["status"], "FAILED", "{row}");
    assert_eq!(row["exception"], "the command exited with status 3");
    assert_eq!(row["output"], "so far");
    assert!(text(&row, "log").contains(" INFO:: why\n"), "{row}");

    let world_of_signal = world(r#"["sh", "-c", "kill -SEGV $$"]"#);
    let row = world_of_signal.once(&[]);
    assert_eq!(row["status"], "FAILED", "{row}");
    assert_eq!(row["exception"], "the command was ended by signal 11");
    assert_eq!(row["output"], Value::Null);
}

#[test]
fn a_missing_program_fails_the_message_and_is_named() {
    let world = world(r#"["no-such-program", "--fast"]"#);

    let row = world.once(&[]);

    assert_eq!(row["status"], "FAILED", "{row}");
    let exception = text(&row, "exception");
    assert!(exception.contains("\"no-such-program\""), "{exception}");
    assert!(
        exception.contains("No such file or directory"),
        "{exception}"
    );
}

#[test]
fn a_relative_program_and_directory_start_from_the_configuration_file() {
    let world = world("[\"true\"]");
    for directory in ["etc", "etc/bin", "etc/work"] {
        std::fs::create_dir(world.directory().join(directory)).unwrap();
    }
    symlink("/bin/sh", world.directory().join("etc/bin/tool")).unwrap();
    world.write(
        "etc/carrot.toml",
        "[[queues]]\nname = \"default\"\n\
         [tasks.task]\ncommand = [\"bin/tool\", \"-c\", \"pwd\"]\ndirectory = \"work\"\n\
         [tasks.here]\ncommand = [\"bin/tool\", \"-c\", \"pwd\"]\n",
    );
    let uuids = ["task", "here"].map(|task| world.send(&[task]));

    let options = [
        "--config",
        "etc/carrot.toml",
        "--testmode",
        "--logfile",
        "carrot.log",
    ];
    assert_eq!(world.run(&options).0, 0);

    let base = world.directory().canonicalize().unwrap().join("etc");
    for (uuid, directory) in uuids.iter().zip([base.join("work"), base]) {
        let row = world.find(uuid).unwrap();
        assert_eq!(row["status"], "COMPLETED", "{row}");
        assert_eq!(row["output"], directory.to_str().unwrap());
    }
}

#[test]
fn a_command_is_run_without_a_shell() {
    let world = world(r#"["echo", "$HOME `id` * > file; exit 1", "a  b"]"#);

    let row = world.once(&["$(id)"]);

    assert_eq!(row["output"], "$HOME `id` * > file; exit 1 a  b");
    assert!(!world.directory().join("file").exists());
}

#[test]
fn a_command_need_not_read_megabytes_of_arguments() {
    let world = world(r#"["echo", "done"]"#);
    let body = json!({"args": ["x".repeat(4 << 20)]}).to_string();
    world.publish(&[Raw::foreign("task", Some("long"), body)]);

    let (code, _, err) = world.run(&["--testmode", "--logfile", "carrot.log"]);

    assert_eq!(code, 0, "{err}");
    let row = world.find("long").unwrap();
    assert_eq!(row["status"], "COMPLETED", "{}", row["exception"]);
    assert_eq!(row["output"], "done");
}

#[test]
fn megabytes_of_output_are_kept_and_more_than_16_mib_are_cut() {
    let world_of_much = world(r#"["sh", "-c", "head -c 5000000 /dev/zero | tr '\\0' x"]"#);
    let row = world_of_much.once(&[]);
    assert_eq!(row["status"], "COMPLETED", "{}", row["exception"]);
    let output = text(&row, "output");
    assert!(output.len() == 5_000_000 && output.bytes().all(|byte| byte == b'x'));

    let world_of_more = world(r#"["sh", "-c", "head -c 20000000 /dev/zero | tr '\\0' y"]"#);
    let row = world_of_more.once(&[]);
    assert_eq!(row["status"], "COMPLETED", "{}", row["exception"]);
    let output = text(&row, "output");
    assert!(output.ends_with("y\n[the rest of the output is left out]"));
    assert!(output.len() > 16 << 20 && output.len() < 17 << 20);
}

#[cfg(feature = "mysql")]
cases! { on mariadb: an_output_that_is_longer_than_the_server_takes_fails_its_message }

#[cfg(feature = "mysql")]
fn an_output_that_is_longer_than_the_server_takes_fails_its_message(database: Database) {
    let config = "[[queues]]\nname = \"default\"\n[tasks.short]\ncommand = [\"echo\", \"done\"]\n\
         [tasks.long]\ncommand = [\"head\", \"-c\", \"17000000\", \"/dev/zero\"]\n";
    let world = World::on(database, config);
    let [long, short] = ["long", "short"].map(|task| world.send(&[task]));
    let (code, _, err) = world.run(&["--testmode", "--logfile", "carrot.log"]);
    assert_eq!(code, 0, "{err}");
    let row = world.find(&long).unwrap();
    assert_eq!(row["status"], "FAILED", "{row:.1000}");
    assert!(
        text(&row, "exception").contains("max_allowed_packet"),
        "{row:.1000}"
    );
    assert_eq!(world.find(&short).unwrap()["status"], "COMPLETED");
}

#[test]
fn output_that_is_not_text_is_made_storable() {
    let world = world(r#"["printf", "a\\000b\\377c"]"#);

    let row = world.once(&[]);

    assert_eq!(row["status"], "COMPLETED", "{row}");
    assert_eq!(row["output"], "a\u{fffd}b\u{fffd}c");
}

#[test]
fn background_processes_of_a_command_end_with_it() {
    let world = world(r#"["sh", "-c", "sleep 1000 & echo $! > pids; echo done"]"#);
    let mut running = world.start(&[]);
    let uuid = world.send(&["task"]);

    let row = world.ended(&uuid);

    assert_eq!(
        (&row["status"], &row["output"]),
        (&json!("COMPLETED"), &json!("done"))
    );
    world.pids(1).into_iter().for_each(await_end);
    running.stop_with_empty(&world, &["default"]);
}

#[test]
fn a_killed_service_takes_its_commands_and_their_children_with_it() {
    let world = world(r#"["sh", "-c", "(sleep 1000 & echo $$ $! > pids; wait); true"]"#);
    let mut running = world.start(&[]);
    world.send(&["task"]);
    let pids = world.pids(2);
    assert!(pids.iter().all(|pid| lives(*pid)));

    running.kill();

    pids.into_iter().for_each(await_end);
}

#[test]
fn ctrl_c_lets_a_running_command_finish() {
    let world = world(
        r#"["sh", "-c", "echo $$ > pids; while [ ! -e go ]; do sleep 0.02; done; echo finished"]"#,
    );
    let mut command = world.command(&[]);
    // In its own process group, as a shell starts a job: a terminal sends Ctrl+C to the whole group.
    command.process_group(0);
    let mut running = world.spawn(command);
    running.await_log("consuming queue");
    let uuid = world.send(&["task"]);
    let pids = world.pids(1);

    kill_process_group(running.pid(), Signal::INT).unwrap();
    running.await_log("waiting for 1 running tasks");
    assert!(lives(pids[0]));
    assert_eq!(world.find(&uuid).unwrap()["status"], "IN_PROGRESS");
    world.write("go", "");

    assert_eq!(running.wait(), 0);
    let row = world.find(&uuid).unwrap();
    assert_eq!(
        (&row["status"], &row["output"]),
        (&json!("COMPLETED"), &json!("finished"))
    );
    assert_eq!(world.ready("default"), 0);
}

#[test]
fn a_task_that_is_registered_twice_is_refused_by_its_name() {
    let mut registry = Registry::new();
    registry.register("twice", |_, _| Ok(Value::Null)).unwrap();
    let again = registry.register_async("twice", |_, _| async { Ok(Value::Null) });
    assert!(again.unwrap_err().to_string().contains("\"twice\""));

    let world = World::new("[tasks.twice]\ncommand = [\"true\"]\n");
    let service = Service {
        config: world.config().into(),
        registry,
        schedules: Vec::new(),
        scheduler: true,
        until_idle: false,
        announce: std::sync::Arc::new(|_| {}),
        logs: String::new(),
        service_status: carrot_actors::internals::service_status::ServiceStatus::new(),
        predecessors: Vec::new(),
    };
    let (_signals, receiver) = crossbeam_channel::unbounded();
    let error = service.run(&receiver).unwrap_err();
    assert!(matches!(error, ServiceError::DuplicateTask(_)), "{error}");
    assert!(error.to_string().contains("\"twice\""), "{error}");
}

#[test]
fn a_command_is_told_that_its_run_may_not_be_the_first() {
    let world = World::new(
        "[[queues]]\nname = 'default'\n[tasks.twice]\ncommand = ['sh', '-c', '''\
         cat; test -e began || { touch began; kill -9 $PPID; sleep 60; }''']\n",
    );
    let uuid = world.send(&["twice"]);
    let mut first = world.launch(&[], "");
    assert_eq!(first.wait(), -9);
    let mut second = world.start(&[]);
    let row = world.ended(&uuid);
    let told: Value = serde_json::from_str(row["output"].as_str().unwrap()).unwrap();
    assert_eq!(told["attempt"], 2, "{row}");
    assert_eq!(row["attempts"], 1, "the run was not counted: {row}");
    assert_eq!(second.terminate(), 0);
}
