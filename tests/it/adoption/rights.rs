//! PostgreSQL where Django's tables are not in the first schema, or belong to somebody else.

use std::process::Command;

use super::django::{Django, MESSAGE_LOG};
use super::{TASKS, message_rows};
use crate::support::{Database, World, outcome};

/// A world with two roles: Django's, which owns its tables, and the service's.
struct Roles {
    world: World,
    django: String,
    service: String,
}

const PASSWORD: &str = "Sup3rS3cr3t";

impl Roles {
    fn new() -> Self {
        let world = World::without_tables_on(Database::Postgresql, TASKS);
        let name = &world.name;
        let (django, service) = (format!("{name}_django"), format!("{name}_service"));
        world.execute(&format!(
            "CREATE ROLE {django} LOGIN PASSWORD '{PASSWORD}'; \
             CREATE ROLE {service} LOGIN PASSWORD '{PASSWORD}'; \
             GRANT ALL ON SCHEMA {name} TO {django}; \
             GRANT USAGE ON SCHEMA {name} TO {service}; \
             SET ROLE {django}; {}",
            Database::Postgresql.django_schema()
        ));
        Django::on(&world).create(MESSAGE_LOG, &message_rows());
        Self {
            world,
            django,
            service,
        }
    }

    fn command(&self, role: &str, arguments: &[&str]) -> Command {
        let mut command = self.world.command(arguments);
        let url = self
            .world
            .database_url
            .replace("//carrot:carrot@", &format!("//{role}:{PASSWORD}@"));
        command.env("CARROT_DATABASE_URL", url);
        command
    }
}

impl Drop for Roles {
    fn drop(&mut self) {
        let (django, service) = (&self.django, &self.service);
        self.world.database.administer(&format!(
            "DROP OWNED BY {django}, {service}; DROP ROLE {django}, {service}"
        ));
    }
}

#[test]
fn djangos_tables_are_adopted_where_they_are() {
    let roles = Roles::new();
    let name = &roles.world.name;
    let first = format!("{name}_first");
    roles.world.execute(&format!(
        "CREATE SCHEMA {first} AUTHORIZATION {}",
        roles.django
    ));
    let path = |command: &mut Command| {
        let url = command
            .get_envs()
            .find(|(key, _)| *key == "CARROT_DATABASE_URL");
        let url = url.unwrap().1.unwrap().to_str().unwrap();
        let url = url.replace(
            &format!("search_path%3D{name}"),
            &format!("search_path%3D{first},{name}"),
        );
        outcome(command.env("CARROT_DATABASE_URL", url))
    };

    let (code, _, err) = path(&mut roles.command(&roles.django, &["migrate"]));

    assert_eq!(code, 0, "{err}");
    let (code, out, err) = path(&mut roles.command(&roles.django, &["send", "app.tasks.hello"]));
    assert_eq!(code, 0, "{err}");
    let testmode = ["--testmode", "--logfile", "carrot.log"];
    let (code, _, err) = path(&mut roles.command(&roles.django, &testmode));
    assert_eq!(code, 0, "{err}");
    assert_eq!(roles.world.find(out.trim()).unwrap()["status"], "COMPLETED");
    let others = format!("SELECT tablename FROM pg_tables WHERE schemaname = '{first}'");
    assert_eq!(roles.world.rows(&others), [] as [serde_json::Value; 0]);
    assert_eq!(
        Django::on(&roles.world).filter(MESSAGE_LOG, "1 = 1").len(),
        message_rows().len() + 1
    );
}
