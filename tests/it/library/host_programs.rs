//! Apps in programs that have a runtime or a logger themselves, and more to do than to run the app.

use serde_json::{Value, json};

use crate::quickstart::built;
use crate::support::{Database, World, outcome, text};

const QUEUES: &str =
    "unknown_tasks = 'fail'\n[[queues]]\nname = 'default'\n[[queues]]\nname = 'other'\n";

const DAEMON_START: [&str; 6] = [
    "daemon",
    "start",
    "--pidfile",
    "x.pid",
    "--logfile",
    "x.log",
];

fn world() -> World {
    World::embedded_on(Database::Sqlite, QUEUES)
}

/// `tests/guest`, in a world's directory.
fn guest(world: &World, variables: &[(&str, &str)], arguments: &[&str]) -> (i32, String, String) {
    let mut command = world.command_of(built("guest"), arguments);
    outcome(command.envs(variables.iter().copied()))
}

#[test]
fn an_app_runs_in_a_program_with_its_own_runtime() {
    for flavor in ["current_thread", "multi_thread"] {
        let world = world();
        let variables = [("GUEST_RUNTIME", flavor)];
        let run = |arguments: &[&str]| {
            let (code, out, err) = guest(&world, &variables, arguments);
            assert_eq!(code, 0, "{flavor}: {err}");
            out.trim().to_owned()
        };
        let uuid = run(&["send", "double", "--args", "[21]"]);
        run(&["--testmode", "--logfile", "-"]);
        let row = world.ended(&uuid);
        assert_eq!(row["output"], "42", "{row}");
        let line = "double runs on default-consumer-1";
        assert!(text(&row, "log").contains(line), "{row}");

        let (code, _, err) = guest(&world, &variables, &DAEMON_START);
        assert_eq!(code, 70, "{err}");
        assert!(
            err.contains("call `App::run` before any is started"),
            "{err}"
        );
    }
}

#[test]
fn a_service_whose_program_has_another_logger_does_not_start_and_says_what_to_do() {
    let world = world();
    let variables = [("GUEST_LOGGER", "env_logger")];
    let (code, _, err) = guest(&world, &variables, &["--testmode", "--logfile", "x.log"]);
    assert_eq!(code, 78, "{err}");
    assert!(
        err.contains("this program has set a logger before"),
        "{err}"
    );
    let (code, _, err) = guest(&world, &variables, &DAEMON_START);
    assert_eq!(code, 78, "{err}");
    assert!(
        err.contains("this program has set a logger before"),
        "{err}"
    );
    // What is no service goes on.
    let (code, _, err) = guest(&world, &variables, &["send", "double", "21"]);
    assert_eq!(code, 0, "{err}");
}

#[test]
fn an_app_can_be_tested_in_a_program_with_another_logger() {
    let world = world();
    let variables = [
        ("GUEST_LOGGER", "env_logger"),
        ("GUEST_RUNTIME", "current_thread"),
        ("GUEST_TRIES", "21"),
        ("RUST_LOG", "info"),
    ];
    let (code, out, err) = guest(&world, &variables, &[]);
    assert_eq!(code, 0, "{err}");
    let told: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(told["result"], json!(42));
    assert!(!text(&told, "log").contains("double runs"), "{told}");
    assert!(err.contains("double runs on"), "{err}");
}
