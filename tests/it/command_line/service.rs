//! The options of the service, and the commands `migrate` and `check`.

use crate::support::{Database, World, cases, outcome};

cases! { on every_database:
    migrate_creates_the_tables_and_a_second_time_does_nothing,
    migrate_adopts_djangos_tables_with_their_rows,
    migrations_at_the_same_time_do_each_step_once,
}

const TWO: &str = r#"
[[queues]]
name = "default"
concurrency = 2
[[queues]]
name = "reports"
[tasks.noop]
command = ["true"]
"#;

/// No broker listens there.
const CLOSED_BROKER: &str = "amqp://guest:guest@127.0.0.1:1/";

#[test]
fn help_and_version_are_printed_and_exit_0() {
    let world = World::without_tables(TWO);
    let (code, out, err) = world.run(&["--help"]);
    assert_eq!((code, err.as_str()), (0, ""));
    for text in [
        "Exit codes:",
        "64  the command line is wrong",
        "migrate",
        "--testmode",
    ] {
        assert!(out.contains(text), "{text} in {out}");
    }
    let (code, out, _) = world.run(&["--version"]);
    assert_eq!(
        (code, out.as_str()),
        (
            0,
            concat!("carrot-actors ", env!("CARGO_PKG_VERSION"), "\n")
        )
    );
}

#[test]
fn a_wrong_command_line_exits_64_and_says_what_is_wrong() {
    let world = World::without_tables(TWO);
    for (arguments, wrong) in [
        (&["--no-such-option"][..], "--no-such-option"),
        (&["no-such-command"], "no-such-command"),
        (&["--loglevel", "LOUD"], "LOUD"),
        (&["send"], "<TASK>"),
        (&["send", "noop", "--priority", "256"], "256"),
        (&["send", "noop", "text", "--args", "[]"], "--args"),
        (&["requeue"], "UUID"),
    ] {
        let (code, out, err) = world.run(arguments);
        assert_eq!((code, out.as_str()), (64, ""), "{arguments:?}: {err}");
        assert!(err.contains(wrong), "{arguments:?}: {err}");
    }
}

#[test]
fn a_faulty_configuration_exits_78_with_all_its_faults_and_no_password() {
    let world = World::without_tables(
        r#"
        default_broker = "amqp://user:s3cr3t@host:70000/"
        database_url = "oracle://user:s3cr3t@host/db"
        max_crashs = 3
        shutdown_grace = "soon"
        [[queues]]
        name = "default"
        concurrency = 0
        host = "http://user:s3cr3t@host/"
        [tasks.build]
        command = "make s3cr3t"
        "#,
    );
    for arguments in [&[][..], &["check"], &["migrate"], &["send", "noop"]] {
        let mut command = world.command(arguments);
        command
            .env_remove("CARROT_DEFAULT_BROKER")
            .env_remove("CARROT_DATABASE_URL");
        let (code, out, err) = outcome(&mut command);
        assert_eq!(code, 78, "{arguments:?}: {err}");
        let said = out + &err;
        for key in [
            "default_broker",
            "database_url",
            "max_crashs",
            "shutdown_grace",
            "concurrency",
            "host",
            "command",
        ] {
            assert!(said.contains(key), "{key} in {said}");
        }
        assert!(!said.contains("s3cr3t"), "{said}");
    }
}

#[test]
fn the_old_name_of_a_key_is_read_with_a_warning() {
    let world = World::new(&format!("max_attempts = 5\n{TWO}"));
    let told = "max_attempts: is called max_crashes from now on";
    let (code, _, err) = world.run(&["migrate"]);
    assert_eq!(code, 0, "{err}");
    assert!(err.contains(told), "{err}");
    let mut service = world.start(&[]);
    service.await_log(told);
    assert_eq!(service.terminate(), 0);
}

#[test]
fn a_missing_configuration_file_exits_78_and_is_named() {
    let world = World::without_tables(TWO);
    let (code, _, err) = world.run(&["--config", "no-such.toml"]);
    assert_eq!(code, 78, "{err}");
    assert!(err.contains("no-such.toml"), "{err}");
}

fn migrate_creates_the_tables_and_a_second_time_does_nothing(database: Database) {
    let world = World::without_tables_on(database, TWO);
    let (code, out, err) = world.run(&["migrate"]);
    assert_eq!(code, 0, "{err}");
    assert!(
        out.lines().all(|line| line.starts_with("migrated ")) && !out.is_empty(),
        "{out}"
    );
    let tables = world.tables();

    let (code, out, _) = world.run(&["migrate"]);
    assert_eq!(code, 0);
    assert!(out.contains("is up to date"), "{out}");
    assert_eq!(world.tables(), tables);
}

fn migrate_adopts_djangos_tables_with_their_rows(database: Database) {
    let world = World::without_tables_on(database, TWO);
    world.execute(&database.django_schema());
    world.insert_published("default", "noop", &["before".to_owned()]);
    let before = world.find("before").unwrap();

    assert_eq!(world.run(&["migrate"]).0, 0);

    let after = world.find("before").unwrap();
    for (column, value) in before.as_object().unwrap() {
        assert_eq!(&after[column], value, "{column}");
    }
    world.insert_published("default", "noop", &["after".to_owned()]);
    assert!(world.run(&["migrate"]).1.contains("is up to date"));
    assert_eq!(world.run(&["check"]).0, 0);
}

fn migrations_at_the_same_time_do_each_step_once(database: Database) {
    let world = World::without_tables_on(database, TWO);
    let outcomes: Vec<_> = std::thread::scope(|scope| {
        let migrate = || world.run(&["migrate"]);
        let threads: Vec<_> = (0..5).map(|_| scope.spawn(migrate)).collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .collect()
    });

    let mut steps = Vec::new();
    for (code, out, err) in &outcomes {
        assert_eq!(*code, 0, "{err}");
        steps.extend(out.lines().filter(|line| line.starts_with("migrated ")));
    }
    let done = steps.len();
    steps.dedup();
    assert!(done > 0 && steps.len() == done, "{outcomes:?}");
    assert_eq!(world.run(&["check"]).0, 0);
}

#[test]
fn a_database_that_is_not_migrated_exits_78_and_names_the_command() {
    let world = World::without_tables(TWO);
    for arguments in [
        &["--logfile", "carrot.log"][..],
        &["send", "noop"],
        &["requeue", "--failed"],
        &["check"],
    ] {
        let (code, out, err) = world.run(arguments);
        assert_eq!(code, 78, "{arguments:?}: {err}");
        assert!(
            (out + &err).contains("carrot-actors migrate"),
            "{arguments:?}: {err}"
        );
    }
}

#[test]
fn without_a_database_messages_are_kept_in_a_file_beside_the_configuration() {
    let world = World::without_tables(TWO);
    let mut command = world.command(&["send", "noop"]);
    let (code, out, err) = outcome(command.env_remove("CARROT_DATABASE_URL"));
    assert_eq!(code, 0, "{out}{err}");
    assert!(world.directory().join("carrot.db").is_file());
}

#[test]
fn a_database_file_without_a_directory_exits_78_and_says_what_to_do() {
    let world = World::without_tables(TWO);
    for arguments in [
        &["--logfile", "carrot.log"][..],
        &["send", "noop"],
        &["migrate"],
    ] {
        let mut command = world.command(arguments);
        let (code, _, err) =
            outcome(command.env("CARROT_DATABASE_URL", "sqlite://nowhere/carrot.db"));
        assert_eq!(code, 78, "{err}");
        assert!(
            err.contains("nowhere") && err.contains("create it"),
            "{err}"
        );
    }
}

#[test]
fn a_log_file_that_can_not_be_written_exits_73_and_names_the_option() {
    let world = World::new(TWO);
    let (code, _, err) = world.run(&["--logfile", "no-such-directory/carrot.log"]);
    assert_eq!(code, 73, "{err}");
    assert!(
        err.contains("no-such-directory/carrot.log") && err.contains("--logfile"),
        "{err}"
    );
}

#[test]
fn test_mode_exits_0_when_all_messages_have_run_and_69_while_the_broker_is_away() {
    let world = World::new(TWO);
    let sent: Vec<_> = ["default", "reports"]
        .map(|queue| world.send(&["noop", "--queue", queue]))
        .into();
    let arguments = ["--testmode", "--logfile", "carrot.log"];
    let (code, _, err) = world.run(&arguments);
    assert_eq!(code, 0, "{err}");
    for uuid in &sent {
        assert_eq!(world.find(uuid).unwrap()["status"], "COMPLETED");
    }
    assert_eq!(world.run(&arguments).0, 0);

    let mut command = world.command(&arguments);
    let (code, _, err) = outcome(command.env("CARROT_DEFAULT_BROKER", CLOSED_BROKER));
    assert_eq!(code, 69, "{err}");
    assert!(err.contains("refused"), "{err}");
}

#[test]
fn the_start_up_lines_are_django_carrots() {
    let world = World::new(TWO);
    let mut running = world.start(&[]);
    assert_eq!(running.terminate(), 0);
    let log = running.log.display();
    let output = running.output();
    let lines: Vec<&str> = output.lines().collect();
    let last = format!("All queues consumer sets started successfully. Full logs are at {log}.");
    assert_eq!(
        lines,
        [
            "found 0 scheduled tasks to run",
            "Successfully started scheduler",
            "Successfully started 2 consumers for queue default",
            "Successfully started 1 consumers for queue reports",
            last.as_str(),
        ]
    );

    let (_, out, _) = world.run(&["--no-scheduler", "--testmode", "--logfile", "carrot.log"]);
    assert!(out.starts_with("Successfully started 2 consumers"), "{out}");
}
