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

const GUIDE: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/django.md"));

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

    /// Runs the binary as this role: exit code, and all that it says.
    fn run(&self, role: &str, arguments: &[&str]) -> (i32, String) {
        let mut command = self.command(role, arguments);
        let (code, out, err) = outcome(&mut command);
        let said = out + &err;
        assert!(!said.contains(PASSWORD), "{said}");
        (code, said)
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

    /// What the guide says that the service's role needs.
    fn grant(&self) {
        let (_, block) = GUIDE.split_once("```sql\n").unwrap();
        let (grants, _) = block.split_once("```").unwrap();
        assert_eq!(grants.matches("TO service;").count(), 3, "{grants}");
        let service = format!("TO {};", self.service);
        self.world.execute(&grants.replace("TO service;", &service));
    }

    fn tables(&self) -> String {
        format!("{:?}", self.world.tables())
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
fn who_may_not_change_djangos_tables_is_told_who_may() {
    let roles = Roles::new();
    let (django, service) = (&roles.django, &roles.service);
    let before = roles.tables();
    let schema = &roles.world.name;
    for grant in [
        format!("GRANT USAGE ON SCHEMA {schema} TO {service}"),
        format!("GRANT CREATE ON SCHEMA {schema} TO {service}"),
    ] {
        roles.world.execute(&grant);
        let (code, said) = roles.run(service, &["migrate"]);
        assert_eq!(code, 69, "{said}");
        let expected = [
            format!("carrot_messagelog belongs to the role {django}"),
            format!("GRANT {django} TO {service}"),
        ];
        assert!(expected.iter().all(|part| said.contains(part)), "{said}");
        assert_eq!(roles.tables(), before, "nothing is left in the owner's way");
    }
    // What it was told helps.
    roles.world.execute(&format!("GRANT {django} TO {service}"));
    let (code, said) = roles.run(service, &["migrate"]);
    assert_eq!(code, 0, "{said}");
}

#[test]
fn who_may_not_create_tables_is_told_so() {
    let roles = Roles::new();
    let schema = &roles.world.name;
    roles.world.execute(&format!(
        "REVOKE CREATE ON SCHEMA {schema} FROM {}",
        roles.django
    ));
    let (code, said) = roles.run(&roles.django, &["migrate"]);
    assert_eq!(code, 69, "{said}");
    assert!(said.contains("GRANT CREATE ON SCHEMA"), "{said}");
    roles.world.execute(&format!(
        "GRANT CREATE ON SCHEMA {schema} TO {}",
        roles.django
    ));
    let (code, said) = roles.run(&roles.django, &["migrate"]);
    assert_eq!(code, 0, "{said}");
}

#[test]
fn a_service_that_does_not_own_the_tables_is_told_what_it_needs() {
    let roles = Roles::new();
    let (code, said) = roles.run(&roles.django, &["migrate"]);
    assert_eq!(code, 0, "{said}");
    let testmode = ["--testmode", "--logfile", "carrot.log"];
    for arguments in [&["check"][..], &testmode, &["send", "app.tasks.hello"]] {
        let (code, said) = roles.run(&roles.service, arguments);
        assert_eq!(code, 69, "{arguments:?}: {said}");
        assert!(
            said.contains("permission denied for") && said.contains("GRANT"),
            "{said}"
        );
    }

    roles.grant();

    let (code, said) = roles.run(&roles.service, &["migrate"]);
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("is up to date"), "{said}");
    let (code, said) = roles.run(&roles.service, &["send", "app.tasks.hello"]);
    assert_eq!(code, 0, "{said}");
    let (code, said) = roles.run(&roles.service, &testmode);
    assert_eq!(code, 0, "{said}");
    assert_eq!(roles.world.count("COMPLETED"), 1);
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
