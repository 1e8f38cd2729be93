//! The world of one test: its vhost, its database and its directory.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;

use carrot_actors::config::{Config, Environment};
use carrot_actors::internals::service::{Ended, Service, ServiceError, Signal};
use carrot_actors::task::Registry;
use crossbeam_channel::{Sender, unbounded};
use tempfile::TempDir;

use super::broker::with_few_priorities;
use super::database::Database;
use super::{eventually, server};

/// The embedded broker in the configuration.
const EMBEDDED: &str = "embedded";

/// The vhost, database and directory of one test; deleted with it.
pub struct World {
    pub name: String,
    pub broker_url: String,
    pub database: Database,
    pub database_url: String,
    directory: TempDir,
}

impl World {
    /// On PostgreSQL and RabbitMQ, with the tables of our migrations, and `config` as its `carrot.toml`.
    #[track_caller]
    pub fn new(config: &str) -> Self {
        Self::on(Database::Postgresql, config)
    }

    /// The same on another database.
    #[track_caller]
    pub fn on(database: Database, config: &str) -> Self {
        let world = Self::without_tables_on(database, config);
        world.migrate();
        world
    }

    /// With Django's tables, adopted by `migrate`.
    #[track_caller]
    pub fn of_django(database: Database, config: &str) -> Self {
        let world = Self::without_tables_on(database, config);
        world.execute(&database.django_schema());
        world.migrate();
        world
    }

    /// On PostgreSQL, with an empty schema.
    pub fn without_tables(config: &str) -> Self {
        Self::without_tables_on(Database::Postgresql, config)
    }

    /// With the embedded broker, and the tables of our migrations.
    #[track_caller]
    pub fn embedded_on(database: Database, config: &str) -> Self {
        let world = Self::make(database, config, EMBEDDED);
        world.migrate();
        world
    }

    /// With an empty database.
    pub fn without_tables_on(database: Database, config: &str) -> Self {
        let broker_url = server("CARROT_TEST_AMQP");
        let world = Self::make(database, config, &broker_url);
        Self::rabbitmq_api("PUT", &format!("/api/vhosts/{}", world.name), None);
        world
    }

    fn make(database: Database, config: &str, broker: &str) -> Self {
        let name = format!("t{}", uuid::Uuid::new_v4().simple());
        let directory = TempDir::new().unwrap();
        fs::write(
            directory.path().join("carrot.toml"),
            with_few_priorities(config),
        )
        .unwrap();
        let file = directory.path().join("carrot.db");
        Self {
            broker_url: match broker {
                EMBEDDED => EMBEDDED.to_owned(),
                url => format!("{url}/{name}"),
            },
            database,
            database_url: database.create(&name, file.to_str().unwrap()),
            name,
            directory,
        }
    }

    /// Whether the broker is the embedded one.
    pub fn is_embedded(&self) -> bool {
        self.broker_url == EMBEDDED
    }

    #[track_caller]
    fn migrate(&self) {
        let (code, _, err) = self.run(&["migrate"]);
        assert_eq!(code, 0, "{err}");
    }

    /// Writes a file into the test's directory.
    pub fn write(&self, name: &str, text: &str) {
        let text = match name.ends_with(".toml") {
            true => &with_few_priorities(text),
            false => text,
        };
        fs::write(self.directory().join(name), text).unwrap();
    }

    /// The content of a file in the test's directory; empty if there is none.
    pub fn read(&self, name: &str) -> String {
        fs::read_to_string(self.directory().join(name)).unwrap_or_default()
    }

    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Replaces its `carrot.toml`.
    pub fn configure(&self, config: &str) {
        self.write("carrot.toml", config);
    }

    /// The configuration, loaded as the binary loads it.
    pub fn config(&self) -> Config {
        let environment = Environment::from_pairs([
            ("CARROT_DEFAULT_BROKER", &self.broker_url),
            ("CARROT_DATABASE_URL", &self.database_url),
        ]);
        Config::load(None, &environment, self.directory()).unwrap()
    }

    /// Starts a service in this process, with these functions as tasks.
    pub fn in_process(&self, registry: Registry) -> InProcess {
        self.in_process_with(registry, self.config())
    }

    /// The same with another configuration.
    pub fn in_process_with(&self, registry: Registry, config: Config) -> InProcess {
        let service = self.service(registry, config);
        let (signals, receiver) = unbounded();
        let thread = std::thread::spawn(move || service.run(&receiver));
        InProcess {
            signals,
            thread: Some(thread),
        }
    }

    /// A service with these functions as tasks, not started.
    pub fn service(&self, registry: Registry, config: Config) -> Service {
        Service {
            config: Arc::new(config),
            registry,
            schedules: Vec::new(),
            scheduler: true,
            until_idle: false,
            announce: Arc::new(|_| {}),
            logs: String::new(),
            service_status: carrot_actors::internals::service_status::ServiceStatus::new(),
            predecessors: Vec::new(),
        }
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if !self.is_embedded() {
            Self::rabbitmq_api("DELETE", &format!("/api/vhosts/{}", self.name), None);
        }
        self.database.remove(&self.name);
    }
}

/// A service in this process; stopped with the test.
pub struct InProcess {
    pub signals: Sender<Signal>,
    thread: Option<JoinHandle<Result<Ended, ServiceError>>>,
}

impl InProcess {
    /// Stops it in order.
    pub fn stop(mut self) -> Ended {
        self.signals.send(Signal::Stop).unwrap();
        self.thread.take().unwrap().join().unwrap().unwrap()
    }

    /// Stops it hard.
    pub fn halt(mut self) -> Ended {
        self.signals.send(Signal::Halt).unwrap();
        self.thread.take().unwrap().join().unwrap().unwrap()
    }

    /// Whether it has ended by itself.
    pub fn is_over(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }
}

impl Drop for InProcess {
    fn drop(&mut self) {
        if self.thread.is_some() && self.signals.send(Signal::Halt).is_ok() {
            eventually("the service ends", || self.is_over());
        }
    }
}
