//! The backends that tests run on, and [`cases`], which lists the tests that run on several of them.

use super::database::Database;
use super::world::World;

/// The database of a test's world, and the broker that delivers its messages.
#[derive(Debug, Clone, Copy)]
pub struct Backend {
    pub database: Database,
    /// Whether the broker is the embedded one, and not RabbitMQ.
    pub is_embedded: bool,
}

/// Declares tests that run on several backends, each the name of a function in the same module:
///
/// ```ignore
/// cases! { on every_database:
///     a_message_is_run_once,
///     a_failed_message_is_kept,
/// }
/// ```
///
/// The functions take a [`Backend`], or a [`Database`] where the broker is always RabbitMQ or does not
/// matter. The paths of the tests are `module::a_message_is_run_once::postgresql` and so on, so
/// `cargo test --test it -- ::sqlite` runs all cases on SQLite, and `-- ::embedded` all on the embedded
/// broker.
///
/// A backend is the name of one of [`Backend`]'s constructors. After `on` stands a list of them, as in
/// `on postgresql, embedded_sqlite:`, or one of these sets:
///
/// | set | backends |
/// |---|---|
/// | `every_server` | `postgresql`, `mariadb`: databases that lock rows, where SQLite has one writer |
/// | `every_database` | `every_server` and `sqlite` |
/// | `every_embedded_database` | `embedded_postgresql`, `embedded_mariadb`, `embedded_sqlite` |
/// | `every_broker` | `rabbitmq` and `every_embedded_database` |
/// | `every_server_and_broker` | `every_server`, each with RabbitMQ and with the embedded broker |
/// | `every_database_and_broker` | `every_database`, each with RabbitMQ and with the embedded broker |
macro_rules! cases {
    (on every_server: $($cases:tt)+) => {
        $crate::support::cases! { on postgresql, mariadb: $($cases)+ }
    };
    (on every_database: $($cases:tt)+) => {
        $crate::support::cases! { on postgresql, mariadb, sqlite: $($cases)+ }
    };
    (on every_embedded_database: $($cases:tt)+) => {
        $crate::support::cases! {
            on embedded_postgresql, embedded_mariadb, embedded_sqlite: $($cases)+
        }
    };
    (on every_broker: $($cases:tt)+) => {
        $crate::support::cases! {
            on rabbitmq, embedded_postgresql, embedded_mariadb, embedded_sqlite: $($cases)+
        }
    };
    (on every_server_and_broker: $($cases:tt)+) => {
        $crate::support::cases! {
            on postgresql, mariadb, embedded_postgresql, embedded_mariadb: $($cases)+
        }
    };
    (on every_database_and_broker: $($cases:tt)+) => {
        $crate::support::cases! {
            on postgresql, mariadb, sqlite,
                embedded_postgresql, embedded_mariadb, embedded_sqlite: $($cases)+
        }
    };
    (on $($backend:ident),+: $($case:ident),+ $(,)?) => {
        $crate::support::cases! { @all [$($backend)+] $($case)+ }
    };
    (@all $backends:tt $($case:ident)+) => {
        $($crate::support::cases! { @case $case $backends })+
    };
    (@case $case:ident [$($backend:ident)+]) => {
        mod $case {
            $($crate::support::cases! { @test $case $backend })+
        }
    };
    (@test $case:ident mariadb) => {
        #[cfg(feature = "mysql")]
        $crate::support::cases! { @function $case mariadb }
    };
    (@test $case:ident embedded_mariadb) => {
        #[cfg(feature = "mysql")]
        $crate::support::cases! { @function $case embedded_mariadb }
    };
    (@test $case:ident $backend:ident) => {
        $crate::support::cases! { @function $case $backend }
    };
    (@function $case:ident $backend:ident) => {
        #[test]
        fn $backend() {
            super::$case($crate::support::Backend::$backend().into());
        }
    };
}
pub(crate) use cases;

impl Backend {
    /// RabbitMQ, for cases that use the database little: it is PostgreSQL.
    pub const fn rabbitmq() -> Self {
        Self::postgresql()
    }

    /// PostgreSQL with RabbitMQ.
    pub const fn postgresql() -> Self {
        Self::with_rabbitmq(Database::Postgresql)
    }

    /// SQLite with RabbitMQ.
    pub const fn sqlite() -> Self {
        Self::with_rabbitmq(Database::Sqlite)
    }

    /// MariaDB with RabbitMQ.
    #[cfg(feature = "mysql")]
    pub const fn mariadb() -> Self {
        Self::with_rabbitmq(Database::Mariadb)
    }

    /// PostgreSQL with the embedded broker.
    pub const fn embedded_postgresql() -> Self {
        Self::embedded(Database::Postgresql)
    }

    /// SQLite with the embedded broker.
    pub const fn embedded_sqlite() -> Self {
        Self::embedded(Database::Sqlite)
    }

    /// MariaDB with the embedded broker.
    #[cfg(feature = "mysql")]
    pub const fn embedded_mariadb() -> Self {
        Self::embedded(Database::Mariadb)
    }

    /// The database with RabbitMQ.
    pub const fn with_rabbitmq(database: Database) -> Self {
        Self {
            database,
            is_embedded: false,
        }
    }

    /// The database with the embedded broker.
    pub const fn embedded(database: Database) -> Self {
        Self {
            database,
            is_embedded: true,
        }
    }

    /// A world with tables as our migrations make them, and `config` as its `carrot.toml`.
    #[track_caller]
    pub fn world(self, config: &str) -> World {
        match self.is_embedded {
            true => World::embedded_on(self.database, config),
            false => World::on(self.database, config),
        }
    }

    /// How many copies of a message are left: RabbitMQ may hold several, while the embedded broker has its
    /// one row, or none if the message was not marked as published.
    pub fn copies(self, in_rabbitmq: u32, in_rows: u32) -> u32 {
        if self.is_embedded {
            in_rows
        } else {
            in_rabbitmq
        }
    }
}

impl From<Database> for Backend {
    fn from(database: Database) -> Self {
        Self::with_rabbitmq(database)
    }
}

impl From<Backend> for Database {
    fn from(backend: Backend) -> Self {
        assert!(
            !backend.is_embedded,
            "a case for the embedded broker takes a Backend"
        );
        backend.database
    }
}
