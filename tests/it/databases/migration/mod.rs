//! `migrate` while other connections use the tables: it does not block them, continues where it was killed,
//! and says what it does and for whom it waits.

mod beside;
mod indexes;
mod killed;
mod waits;

use std::fs::File;
use std::ops::Deref;
use std::process::Child;

use crate::support::{Database, World, eventually, exit_code};

const TASKS: &str = "[[queues]]\nname = 'default'\n[tasks.noop]\ncommand = ['true']\n";

const TABLES: [&str; 3] = ["carrot_messagelog", "carrot_scheduledtask", "carrot_worker"];

/// A world with its own database on PostgreSQL. There, migrations take a lock of their database, and wait for
/// all transactions in it.
struct Apart(World);

impl Deref for Apart {
    type Target = World;

    fn deref(&self) -> &World {
        &self.0
    }
}

impl Apart {
    /// With Django's tables, in which `messages` messages have ended.
    fn of_django(database: Database, messages: usize) -> Self {
        let mut world = World::without_tables_on(database, TASKS);
        if database == Database::Postgresql {
            database.administer(&format!("CREATE DATABASE {}", world.name));
            let (server, _) = world.database_url.rsplit_once("/carrot?").unwrap();
            world.database_url = format!("{server}/{}", world.name);
        }
        let world = Self(world);
        world.execute(&database.django_schema());
        world.fill_with(messages);
        world
    }

    /// With a configuration for which every step is run and every index is built.
    fn with_queues(database: Database, messages: usize) -> Self {
        let world = Self::of_django(database, messages);
        world.configure(&format!(
            "{TASKS}[[queues]]\nname = 'rows'\nhost = 'embedded'\n"
        ));
        world
    }

    fn fill_with(&self, messages: usize) {
        let (series, nth) = match self.database {
            Database::Postgresql => (format!("generate_series(1, {messages}) AS s(n)"), "n"),
            Database::Sqlite => (
                format!(
                    "(WITH RECURSIVE s(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM s WHERE n < {messages}) \
                     SELECT n FROM s)"
                ),
                "n",
            ),
            #[cfg(feature = "mysql")]
            Database::Mariadb => (format!("seq_1_to_{messages}"), "seq"),
        };
        let uuid = match self.database {
            Database::Sqlite => format!("'old-' || {nth}"),
            _ => format!("concat('old-', {nth})"),
        };
        self.execute(&format!(
            "INSERT INTO carrot_messagelog (status, exchange, queue, routing_key, uuid, priority, \
                 task, task_args, content, publish_time, completion_time, output) \
             SELECT 'COMPLETED', '', 'default', 'default', {uuid}, 0, 'app.tasks.noop', \
                 '()', '{{}}', '2026-01-01 00:00:00', '2026-01-01 00:00:00', \
                 'what it has written to its standard output' FROM {series}"
        ));
    }

    /// The definitions of all tables.
    fn definitions(&self) -> Vec<String> {
        self.catalogue(&TABLES)
    }

    #[track_caller]
    fn migrates(&self) -> (String, String) {
        let (code, out, err) = self.run(&["migrate"]);
        assert_eq!(code, 0, "{out}{err}");
        let (_, again, _) = self.run(&["migrate"]);
        assert!(again.contains("is up to date"), "{again}");
        assert_eq!(self.run(&["check"]).0, 0);
        (out, err)
    }

    /// Fails unless a service refuses to start. An SQLite file is migrated by any service.
    #[track_caller]
    fn assert_refused(&self) {
        if self.database == Database::Sqlite {
            return;
        }
        for arguments in [&["check"][..], &["send", "noop"]] {
            let (code, out, err) = self.run(arguments);
            assert_eq!(code, 78, "{arguments:?}: {out}{err}");
            assert!((out + &err).contains("carrot-actors migrate"), "{err}");
        }
    }

    /// Starts a migration in the background.
    fn begin(&self) -> Begun<'_> {
        let nth = std::fs::read_dir(self.directory()).unwrap().count();
        let name = format!("migration-{nth}.err");
        let file = |name: &str| File::create(self.directory().join(name)).unwrap();
        let child = self
            .command(&["migrate"])
            .stderr(file(&name))
            .stdout(file(&format!("migration-{nth}.out")))
            .spawn();
        Begun {
            child: child.unwrap(),
            name,
            world: self,
        }
    }
}

impl Drop for Apart {
    fn drop(&mut self) {
        if self.database == Database::Postgresql {
            self.database
                .administer(&format!("DROP DATABASE {} WITH (FORCE)", self.name));
        }
    }
}

/// A migration that runs in the background.
struct Begun<'a> {
    child: Child,
    name: String,
    world: &'a Apart,
}

impl Begun<'_> {
    fn said(&self) -> String {
        self.world.read(&self.name)
    }

    #[track_caller]
    fn says(&self, what: &str) {
        eventually(&format!("{what} in {}", self.said()), || {
            self.said().contains(what)
        });
    }

    #[track_caller]
    fn ends_well(&mut self) {
        let code = exit_code(self.child.wait().unwrap());
        assert_eq!(code, 0, "{}", self.said());
    }

    fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Begun<'_> {
    fn drop(&mut self) {
        // It may have ended.
        self.child.kill().unwrap_or_default();
        self.child.wait().unwrap();
    }
}
