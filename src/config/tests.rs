//! Tests that load whole configuration files.

use super::{BrokerHost, Config, ConfigError, Defaults, Environment, Fault};
use crate::config::locate::ConfigFile;
use std::path::{Path, PathBuf};
use std::time::Duration;

const NONE: [(&str, &str); 0] = [];

fn load<const N: usize>(text: &str, env: [(&str, &str); N]) -> Result<Config, ConfigError> {
    let source = ConfigFile {
        path: "/etc/carrot/test.toml".into(),
        text: text.to_owned(),
    };
    Config::from_source(
        Some(&source),
        &Defaults::default(),
        &Environment::from_pairs(env),
        Path::new("/home/me"),
    )
}

fn faults(error: ConfigError) -> Vec<Fault> {
    match error {
        ConfigError::Faulty { faults, .. } => faults,
        other => panic!("{other}"),
    }
}

#[test]
fn without_a_file_the_defaults_apply() {
    let (none, env) = (Defaults::default(), Environment::default());
    let config = Config::from_source(None, &none, &env, Path::new("/home/me")).unwrap();
    assert_eq!(config.database_url.expose(), "sqlite:///home/me/carrot.db");
    let elsewhere = Config {
        database_url: Config::default().database_url,
        ..config.clone()
    };
    assert_eq!(elsewhere, Config::default());
    let queue = config.queue("default").unwrap();
    assert_eq!(
        queue.host.to_string(),
        "amqp://guest:***@localhost:5672/%2f"
    );
    assert_eq!(
        (
            config.max_crashes,
            config.shutdown_grace,
            config.queue("other")
        ),
        (3, None, None)
    );
}

#[test]
fn an_empty_file_is_the_defaults_too() {
    let config = load("", NONE).unwrap();
    assert_eq!(config.file, Some(PathBuf::from("/etc/carrot/test.toml")));
    assert_eq!(
        Config {
            file: None,
            database_url: Config::default().database_url,
            ..config
        },
        Config::default()
    );
}

#[test]
fn every_key_is_read() {
    let text = r#"
            default_broker = "amqp://user:secret@host:5672/vhost"
            database_url = "sqlite://carrot.db"
            max_crashes = 5
            shutdown_grace = "5m"
            history = { completed = "7d" }
            [[queues]]
            name = "a"
            [[queues]]
            name = "b"
            host = "embedded"
            [tasks."reports.build"]
            command = ["python3", "build.py", "--fast"]
        "#;
    let config = load(text, NONE).unwrap();
    assert_eq!(config.queue("a").unwrap().host, config.default_broker);
    let url = config.default_broker.rabbitmq().unwrap();
    assert_eq!(url.password.expose(), "secret");
    assert_eq!(config.queue("b").unwrap().host, BrokerHost::Embedded);
    assert_eq!(
        config.database_url.expose(),
        "sqlite:///etc/carrot/carrot.db"
    );
    assert_eq!(config.shutdown_grace, Some(Duration::from_mins(5)));
    let week = Duration::from_hours(7 * 24);
    assert_eq!(config.history.as_ref().unwrap().completed, Some(week));
    assert_eq!(
        (
            config.max_crashes,
            config.tasks["reports.build"].command.len()
        ),
        (5, 3)
    );
    assert!(!format!("{config:?}").contains("secret"));
}

#[test]
fn the_environment_overrides_the_file() {
    let text =
        "default_broker = 'amqp://file'\ndatabase_url = 'mysql://file/d'\n[[queues]]\nname = 'q'";
    let config = load(
        text,
        [
            ("CARROT_DEFAULT_BROKER", "amqp://env/v"),
            ("DATABASE_URL", "sqlite://x.db"),
        ],
    )
    .unwrap();
    assert_eq!(config.default_broker.rabbitmq().unwrap().host, "env");
    assert_eq!(config.queue("q").unwrap().host, config.default_broker);
    assert_eq!(config.database_url.expose(), "sqlite:///home/me/x.db");
}

#[test]
fn every_fault_is_reported_at_once() {
    let text = r#"
            default_broker = "embeded"
            database_url = 5
            max_crashes = 0
            shutdown_grace = "soon"
            max_crashs = 3
            [[queues]]
            name = "a"
            concurrency = "four"
            host = { port = "secret", passwort = "secret" }
            [[queues]]
            consumer_class = "x"
            [tasks.t]
            command = "run secret"
        "#;
    let error = load(text, [("DATABASE_URL", "postgres://u:secret@h:x/")]).unwrap_err();
    let told = error.to_string();
    assert!(!told.contains("secret"), "{told}");
    assert!(
        told.starts_with("configuration file /etc/carrot/test.toml has faults:\n  "),
        "{told}"
    );
    let keys: Vec<String> = faults(error).into_iter().map(|fault| fault.key).collect();
    assert_eq!(
        keys,
        [
            "default_broker",
            "database_url",
            "queues[0].host.port",
            "queues[0].host.passwort",
            "queues[0].concurrency",
            "queues[1].name",
            "queues[1].consumer_class",
            "DATABASE_URL",
            "max_crashes",
            "shutdown_grace",
            "tasks.t.command",
            "max_crashs",
        ]
    );
    assert!(told.contains(
        "\n  queues[0].concurrency: must be a whole number from 1 to 1000, not \"four\""
    ));
    assert!(told.contains("\n  max_crashs: is not a known key; did you mean max_crashes?"));
}

#[test]
fn a_grace_time_is_a_duration_that_clocks_can_add() {
    let grace = |text: &str| load(&format!("shutdown_grace = {text}"), NONE);
    assert_eq!(grace("'0s'").unwrap().shutdown_grace, Some(Duration::ZERO));
    for text in ["300", "'2 years'"] {
        let told = grace(text).unwrap_err().to_string();
        assert!(
            told.contains("shutdown_grace: must be a duration of at most a year"),
            "{told}"
        );
    }
}

#[test]
fn the_error_of_a_broken_file_shows_no_line_of_it() {
    for text in [
        "password = \"hunter2",
        "password = hunter2",
        "password = 'hunter2' 'hunter2'",
        "password = [\"hunter2\"",
        "password = { x = \"hunter2\"",
        "password hunter2",
        "password = \"hunter2\\q\"",
        "password = 1hunter2",
        "password = 2020-hunter2",
        "password = truhunter2",
        "a = 1\na = \"hunter2\"",
        "[a]\nb = 1\n[a.b]\nc = \"hunter2\"",
        "a = 99999999999999999999999 # hunter2",
    ] {
        let told = load(text, NONE).unwrap_err().to_string();
        assert!(
            told.contains(", line ") && !told.contains("hunter2"),
            "{told}"
        );
    }
}
