//! TLS to both servers, with a CA that only the test trusts.

use std::net::TcpListener;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use diesel::pg::PgConnection;
use diesel::prelude::*;
use diesel::sql_types::{Bool, Nullable};
use serde_json::Value;

use crate::support::{World, eventually, exit_code, server};

/// The task `wait` runs until the file `go` exists.
const TASKS: &str = r#"
[[queues]]
name = "default"
[tasks.wait]
command = ["sh", "-c", "until [ -e go ]; do sleep 0.05; done; cat"]
"#;

/// The connect timeout is 10 s.
const AT_MOST: Duration = Duration::from_secs(20);

/// A world that uses only TLS and verifies both servers.
fn world() -> World {
    let mut world = World::new(TASKS);
    world.broker_url = format!("{}/{}", server("CARROT_TEST_AMQPS"), world.name);
    world.database_url = format!(
        "{}&sslmode=verify-full&sslrootcert={}",
        world.database_url,
        server("CARROT_TEST_CA")
    );
    world
}

/// The port of the server whose URL is in `variable`.
fn port(variable: &str) -> u16 {
    let url = url::Url::parse(&server(variable)).unwrap();
    url.port().unwrap()
}

/// The binary, which trusts only the system's CAs.
fn distrusting(world: &World, arguments: &[&str]) -> Command {
    let mut command = world.command(arguments);
    command.env_remove("SSL_CERT_FILE");
    command.env_remove("SSL_CERT_DIR");
    command
}

/// The binary, which trusts the test's CA.
fn trusting(world: &World, arguments: &[&str]) -> Command {
    let mut command = distrusting(world, arguments);
    command.env("SSL_CERT_FILE", server("CARROT_TEST_CA"));
    command
}

/// Runs a process that must end soon: exit code, standard output, standard error.
#[track_caller]
fn run(mut command: Command) -> (i32, String, String) {
    let started = Instant::now();
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    while child.try_wait().unwrap().is_none() {
        if started.elapsed() > AT_MOST {
            child.kill().unwrap();
            panic!("it hangs: {:?}", child.wait_with_output().unwrap());
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    let output = child.wait_with_output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    let code = exit_code(output.status);
    (code, text(output.stdout), text(output.stderr))
}

/// Fails unless `check` reports the broker as faulty for this reason, and the database as fine.
#[track_caller]
fn assert_broker_faulty(command: Command, reasons: &[&str]) {
    let (code, out, err) = run(command);
    assert_eq!(code, 69, "{out}{err}");
    let verdict = |what: &str| out.lines().find(|line| line.starts_with(what)).unwrap();
    let broker = verdict("broker ");
    assert!(broker.contains("FAULTY"), "{broker}");
    assert!(verdict("database: ").contains("ok ("), "{out}");
    for reason in reasons {
        assert!(broker.contains(reason), "{reason:?} in {broker}");
    }
}

/// For each connection to the test's vhost, whether it uses TLS.
fn connections(world: &World) -> Vec<bool> {
    let all = World::rabbitmq_api("GET", "/api/connections", None).unwrap();
    let ours = all.as_array().unwrap().iter();
    ours.filter(|connection| connection["vhost"] == world.name.as_str())
        .map(|connection| connection["ssl"] == Value::Bool(true))
        .collect()
}

#[test]
fn a_message_is_sent_and_run_over_tls() {
    let world = world();
    // More than fits into a TLS record.
    let long = "x".repeat(100_000);
    let (code, uuid, err) = run(trusting(&world, &["send", "wait", &long]));
    assert_eq!((code, err.as_str()), (0, ""));
    let uuid = uuid.trim();
    let sent = world.find(uuid).unwrap();
    assert_eq!(sent["status"], "PUBLISHED", "{}", sent["status"]);

    let service = trusting(&world, &["--testmode", "--logfile", "carrot.log"]);
    let service = std::thread::spawn(move || run(service));
    let secure = eventually("a connection of the service", || {
        let found = connections(&world);
        (!found.is_empty()).then_some(found)
    });
    std::fs::write(world.directory().join("go"), "").unwrap();
    let (code, _, err) = service.join().unwrap();

    assert_eq!(code, 0, "{err}");
    assert!(secure.iter().all(|&tls| tls), "{secure:?}");
    let row = world.find(uuid).unwrap();
    assert_eq!(row["status"], "COMPLETED", "{}", row["status"]);
    let output: Value = serde_json::from_str(row["output"].as_str().unwrap()).unwrap();
    assert_eq!(output["args"], serde_json::json!([long]));
}

#[test]
fn libpq_speaks_tls_when_the_url_asks_for_it() {
    #[derive(QueryableByName)]
    struct Answer {
        #[diesel(sql_type = Nullable<Bool>)]
        tls: Option<bool>,
    }
    let query = "SELECT ssl AS tls FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
    for mode in ["require", "verify-full"] {
        let url = world().database_url.replace("verify-full", mode);
        let mut connection = PgConnection::establish(&url).unwrap();
        let answer: Answer = diesel::sql_query(query)
            .get_result(&mut connection)
            .unwrap();
        assert_eq!(answer.tls, Some(true), "{mode}");
    }
}

#[test]
fn check_succeeds_with_tls() {
    let world = world();
    let (code, out, err) = run(trusting(&world, &["check"]));
    assert_eq!(code, 0, "{out}{err}");
    assert!(out.contains("broker amqps://guest:***@localhost:"), "{out}");
}

#[test]
fn a_broker_with_an_unknown_ca_is_refused() {
    let world = world();
    let check = distrusting(&world, &["check"]);
    assert_broker_faulty(
        check,
        &["TLS", "SSL_CERT_FILE", "certificate verify failed"],
    );
    assert!(connections(&world).is_empty());
}

#[test]
fn a_message_waits_while_the_ca_is_unknown() {
    let world = world();
    let (code, uuid, err) = run(distrusting(&world, &["send", "wait"]));
    assert_eq!(code, 0, "{err}");
    assert!(err.contains("certificate verify failed"), "{err}");
    assert_eq!(world.find(uuid.trim()).unwrap()["status"], "PENDING");

    let service = distrusting(&world, &["--testmode", "--logfile", "carrot.log"]);
    let (code, _, err) = run(service);
    assert_eq!(code, 69, "{err}");
    assert!(err.contains("certificate verify failed"), "{err}");
    assert_eq!(world.find(uuid.trim()).unwrap()["status"], "PENDING");
}

#[test]
fn a_broker_with_a_certificate_of_another_name_is_refused() {
    let mut world = world();
    // The address is the same, but the certificate is for another name.
    world.broker_url = world.broker_url.replace("@localhost:", "@127.1:");
    let check = trusting(&world, &["check"]);
    assert_broker_faulty(check, &["TLS", "the certificate is for another host"]);
}

#[test]
fn a_database_that_cannot_be_verified_is_refused() {
    let mut world = world();
    let url = world.database_url.clone();
    let root = server("CARROT_TEST_CA");
    for (wrong, reason) in [
        (url.replace(&root, "/nowhere/ca.pem"), "root certificate"),
        (
            url.replace("@127.0.0.1:", "@wrong.test:") + "&hostaddr=127.0.0.1",
            "does not match host name \"wrong.test\"",
        ),
    ] {
        world.database_url = wrong;
        let (code, out, err) = run(trusting(&world, &["check"]));
        assert_eq!(code, 69, "{out}{err}");
        assert!(out.contains(reason), "{out}");
    }
}

#[test]
fn tls_to_a_plain_port_and_plain_to_a_tls_port_are_errors() {
    let mut world = world();
    let secure = world.broker_url.clone();
    let (plain, tls) = (port("CARROT_TEST_AMQP"), port("CARROT_TEST_AMQPS"));
    world.broker_url = secure.replace(&format!(":{tls}/"), &format!(":{plain}/"));
    assert_broker_faulty(
        trusting(&world, &["check"]),
        &["TLS handshake failed (does this port speak TLS?)"],
    );

    world.broker_url = secure.replace("amqps:", "amqp:");
    assert_broker_faulty(trusting(&world, &["check"]), &[]);
}

#[test]
fn a_broker_that_never_answers_a_tls_handshake_is_given_up() {
    let mut world = world();
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = silent.local_addr().unwrap().port();
    world.broker_url = format!("amqps://guest:guest@localhost:{port}/");
    assert_broker_faulty(trusting(&world, &["check"]), &[]);
}
