//! The command `check`.

use crate::support::{Database, World, cases, outcome};

cases! { on every_server:
    check_reports_on_each_part,
    check_says_which_server_is_away_or_refuses_the_connection,
}

const CONFIG: &str = "[[queues]]\nname = \"default\"\n";

/// No broker listens there.
const CLOSED_BROKER: &str = "amqp://guest:guest@127.0.0.1:1/";

fn check_reports_on_each_part(database: Database) {
    let world = World::on(database, CONFIG);
    let (code, out, err) = world.run(&["check"]);
    assert_eq!(code, 0, "{out}{err}");
    let lines: Vec<&str> = out.lines().collect();
    assert_eq!(lines.len(), 3, "{out}");
    assert!(lines[0].starts_with("configuration: ok ("), "{out}");
    assert!(lines[0].contains("carrot.toml"), "{out}");
    assert!(
        lines[1].starts_with("broker amqp://") && lines[1].contains(": ok (RabbitMQ "),
        "{out}"
    );
    let name = match database {
        Database::Postgresql => "PostgreSQL",
        _ => "MariaDB",
    };
    assert!(
        lines[2].starts_with("database: ok (") && lines[2].contains(name),
        "{out}"
    );
}

fn check_says_which_server_is_away_or_refuses_the_connection(database: Database) {
    let world = World::on(database, CONFIG);
    let wrong = |url: &str, password: &str| url.replace(password, ":wr0ng@");
    let broker = wrong(&world.broker_url, ":guest@");
    let refused = wrong(&world.database_url, ":carrot@");
    let (scheme, refusal, closed) = match database {
        Database::Postgresql => ("postgres", "password authentication failed", "refused"),
        _ => (
            "mysql",
            "Access denied",
            "Can't connect to server on '127.0.0.1'",
        ),
    };
    let nobodys = format!("{scheme}://carrot:s3cr3t@127.0.0.1:1/carrot");
    for (variable, value, faulty, reason) in [
        ("CARROT_DEFAULT_BROKER", CLOSED_BROKER, "broker", "refused"),
        (
            "CARROT_DEFAULT_BROKER",
            &broker,
            "broker",
            "refuses the user name or the password",
        ),
        ("CARROT_DATABASE_URL", &nobodys, "database", closed),
        ("CARROT_DATABASE_URL", &refused, "database", refusal),
    ] {
        let (code, out, err) = outcome(world.command(&["check"]).env(variable, value));
        assert_eq!(code, 69, "{value}: {out}{err}");
        assert_eq!(out.lines().count(), 3, "{out}");
        for line in out.lines() {
            assert_eq!(
                line.contains(": FAULTY: "),
                line.starts_with(faulty),
                "{out}"
            );
        }
        assert!(out.contains(reason), "{reason:?} in {out}");
        assert!(!out.contains("wr0ng") && !out.contains("s3cr3t"), "{out}");
    }
}
