//! One test's vhost, schema and directory.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;

use carrot_actors::config::{Config, Environment};
use carrot_actors::service::{Ended, Service, ServiceError, Signal};
use carrot_actors::task::Registry;
use crossbeam_channel::{Sender, unbounded};
use tempfile::TempDir;

use super::database::administer;
use super::{eventually, server};

/// The tables as Django makes them.
pub const DJANGO_SCHEMA: &str = include_str!("../../fixtures/django-carrot/schema.postgresql.sql");

/// A world of its own for one test; gone with it.
pub struct World {
    pub name: String,
    pub broker_url: String,
    pub database_url: String,
    directory: TempDir,
}

impl World {
    /// With tables as our migrations make them, and `config` as its `carrot.toml`.
    #[track_caller]
    pub fn new(config: &str) -> Self {
        let world = Self::without_tables(config);
        let (code, _, err) = world.run(&["migrate"]);
        assert_eq!(code, 0, "{err}");
        world
    }

    /// With Django's own tables, adopted by `migrate`.
    #[track_caller]
    pub fn of_django(config: &str) -> Self {
        let world = Self::without_tables(config);
        world.execute(&DJANGO_SCHEMA.replace("public.", ""));
        let (code, _, err) = world.run(&["migrate"]);
        assert_eq!(code, 0, "{err}");
        world
    }

    /// With an empty schema.
    pub fn without_tables(config: &str) -> Self {
        let name = format!("t{}", uuid::Uuid::new_v4().simple());
        Self::rabbitmq_api("PUT", &format!("/api/vhosts/{name}"), None);
        administer(&format!("CREATE SCHEMA {name}"));
        let directory = TempDir::new().unwrap();
        fs::write(directory.path().join("carrot.toml"), config).unwrap();
        Self {
            broker_url: format!("{}/{name}", server("CARROT_TEST_AMQP")),
            database_url: format!(
                "{}?options=-csearch_path%3D{name}",
                server("CARROT_TEST_POSTGRES")
            ),
            name,
            directory,
        }
    }

    /// Writes a file into the test's directory.
    pub fn write(&self, name: &str, text: &str) {
        fs::write(self.directory().join(name), text).unwrap();
    }

    /// What a file in the test's directory holds; nothing if it is not there.
    pub fn read(&self, name: &str) -> String {
        fs::read_to_string(self.directory().join(name)).unwrap_or_default()
    }

    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Replaces its `carrot.toml`.
    pub fn configure(&self, config: &str) {
        fs::write(self.directory.path().join("carrot.toml"), config).unwrap();
    }

    /// The configuration as the binary would read it.
    pub fn config(&self) -> Config {
        let environment = Environment::from_pairs([
            ("CARROT_DEFAULT_BROKER", &self.broker_url),
            ("CARROT_DATABASE_URL", &self.database_url),
        ]);
        Config::load(None, &environment, self.directory()).unwrap()
    }

    /// Starts a service with these functions as tasks, in this process.
    pub fn in_process(&self, registry: Registry) -> InProcess {
        self.in_process_with(registry, self.config())
    }

    /// The same with a configuration of the test's own.
    pub fn in_process_with(&self, registry: Registry, config: Config) -> InProcess {
        let service = Service {
            config: Arc::new(config),
            registry,
            scheduler: true,
            until_idle: false,
            announce: Arc::new(|_| {}),
            logs: String::new(),
        };
        let (signals, receiver) = unbounded();
        let thread = std::thread::spawn(move || service.run(&receiver));
        InProcess {
            signals,
            thread: Some(thread),
        }
    }
}

impl Drop for World {
    fn drop(&mut self) {
        Self::rabbitmq_api("DELETE", &format!("/api/vhosts/{}", self.name), None);
        administer(&format!("DROP SCHEMA {} CASCADE", self.name));
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
            eventually("the end of the service", || self.is_over().then_some(()));
        }
    }
}
