//! Passwords are in no output, no log and no row.

use std::process::Command;

use crate::support::{Database, Raw, World, cases, outcome};

cases! { on every_server: no_password_is_in_any_output_or_log }

const CONFIG: &str = r#"
[[queues]]
name = "default"
[tasks.noop]
command = ["true"]
"#;

/// A user on both servers, with a password that appears nowhere else by chance.
struct Secretive(World);

const PASSWORD: &str = "Sup3rS3cr3t";

impl Secretive {
    fn new(database: Database) -> Self {
        let mut world = World::without_tables_on(database, CONFIG);
        let name = &world.name;
        let user = serde_json::json!({"password": PASSWORD, "tags": ""});
        World::rabbitmq_api("PUT", &format!("/api/users/{name}"), Some(&user));
        let all = serde_json::json!({"configure": ".*", "write": ".*", "read": ".*"});
        World::rabbitmq_api(
            "PUT",
            &format!("/api/permissions/{name}/{name}"),
            Some(&all),
        );
        database.administer(&match database {
            #[cfg(feature = "mysql")]
            Database::Mariadb => format!(
                "CREATE USER {name} IDENTIFIED BY '{PASSWORD}'; GRANT ALL ON {name}.* TO {name}"
            ),
            _ => format!(
                "CREATE ROLE {name} LOGIN PASSWORD '{PASSWORD}'; GRANT ALL ON SCHEMA {name} TO {name}"
            ),
        });
        let credentials = format!("//{name}:{PASSWORD}@");
        world.broker_url = world.broker_url.replace("//guest:guest@", &credentials);
        world.database_url = world.database_url.replace("//carrot:carrot@", &credentials);
        assert!(world.broker_url.contains(PASSWORD));
        assert!(world.database_url.contains(PASSWORD));
        Self(world)
    }
}

impl Drop for Secretive {
    fn drop(&mut self) {
        let name = &self.0.name;
        World::rabbitmq_api("DELETE", &format!("/api/users/{name}"), None);
        self.0.database.administer(&match self.0.database {
            #[cfg(feature = "mysql")]
            Database::Mariadb => format!("DROP USER {name}"),
            _ => format!("DROP OWNED BY {name}; DROP ROLE {name}"),
        });
    }
}

fn no_password_is_in_any_output_or_log(database: Database) {
    let secretive = Secretive::new(database);
    let world = &secretive.0;
    // Errors of the server, or of its client library, may quote the URL.
    let fault = match database {
        Database::Postgresql => "&nonsense=1",
        _ => "-not-there",
    };
    let (scheme, _) = world.database_url.split_once("//").unwrap();
    let database_url = |rest: &str| format!("{scheme}//{rest}");
    let elsewhere = |url: &str, part: &str, other: &str| url.replace(part, other);
    let mut said = String::new();
    let mut say = |command: &mut Command, expected: i32| {
        let (code, out, err) = outcome(command);
        assert_eq!(code, expected, "{out}{err}");
        said += &(out + &err);
    };
    let testmode = ["--testmode", "--logfile", "carrot.log"];
    say(&mut world.command(&["check"]), 78);
    say(&mut world.command(&["migrate"]), 0);
    say(&mut world.command(&["check"]), 0);
    say(&mut world.command(&["send", "noop"]), 0);
    world.publish(&[Raw::foreign("unknown", Some("x"), "{}")]);
    say(&mut world.command(&testmode), 0);
    for (variable, url) in [
        (
            "CARROT_DEFAULT_BROKER",
            elsewhere(&world.broker_url, PASSWORD, "Sup3rS3cr3tNot"),
        ),
        (
            "CARROT_DEFAULT_BROKER",
            format!("amqp://user:{PASSWORD}@127.0.0.1:1/"),
        ),
        (
            "CARROT_DEFAULT_BROKER",
            format!("{}-not-there", world.broker_url),
        ),
        (
            "CARROT_DATABASE_URL",
            elsewhere(&world.database_url, PASSWORD, "Sup3rS3cr3tNot"),
        ),
        (
            "CARROT_DATABASE_URL",
            database_url(&format!("user:{PASSWORD}@127.0.0.1:1/db")),
        ),
        (
            "CARROT_DATABASE_URL",
            format!("{}{fault}", world.database_url),
        ),
    ] {
        say(world.command(&["check"]).env(variable, &url), 69);
        say(world.command(&testmode).env(variable, &url), 69);
        let sends = if variable == "CARROT_DEFAULT_BROKER" {
            0
        } else {
            69
        };
        say(world.command(&["send", "noop"]).env(variable, &url), sends);
    }
    said += &world.read("carrot.log");

    assert!(
        said.contains("this is worker") && said.contains(&world.name),
        "{said}"
    );
    assert!(!said.contains(PASSWORD), "{said}");
}
