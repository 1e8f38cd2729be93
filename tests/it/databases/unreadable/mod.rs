//! Rows with values that can't be read: each is named in the log, and holds up no other.

mod messages;
mod schedules;
mod workers_and_pruning;

use std::ops::Deref;

use serde_json::Value;

use crate::support::{Backend, Database, World, server, traced_config};

/// A world whose database accepts invalid bytes and dates.
struct Loose {
    world: World,
    _of_bytes: Option<OfBytes>,
}

impl Deref for Loose {
    type Target = World;

    fn deref(&self) -> &World {
        &self.world
    }
}

/// A PostgreSQL database that does not check encodings; dropped with the test.
struct OfBytes(String);

impl OfBytes {
    /// Creates the database; its URL.
    fn create(name: &str) -> (Self, String) {
        let name = format!("{name}_bytes");
        Database::Postgresql.administer(&format!(
            "CREATE DATABASE {name} ENCODING 'SQL_ASCII' TEMPLATE template0 \
             LC_COLLATE 'C' LC_CTYPE 'C'"
        ));
        let server = server("CARROT_TEST_POSTGRES");
        let url = format!("{}/{name}", server.strip_suffix("/carrot").unwrap());
        (Self(name), url)
    }
}

impl Drop for OfBytes {
    fn drop(&mut self) {
        Database::Postgresql.administer(&format!("DROP DATABASE {} WITH (FORCE)", self.0));
    }
}

/// Changes the columns to bytes on MariaDB, where a text column accepts no invalid bytes.
#[cfg(feature = "mysql")]
const COLUMNS_OF_BYTES: &str = "ALTER TABLE carrot_messagelog \
        MODIFY uuid varbinary(200) NOT NULL, MODIFY task varbinary(200) NOT NULL, \
        MODIFY task_args longblob, MODIFY content longblob; \
    ALTER TABLE carrot_scheduledtask MODIFY task varbinary(200) NOT NULL, \
        MODIFY task_name varbinary(200), MODIFY task_args longblob, MODIFY content longblob";

fn loose(backend: Backend) -> Loose {
    let mut world = backend.world(&traced_config("", 2));
    let mut of_bytes = None;
    match backend.database {
        Database::Postgresql => {
            let (database, url) = OfBytes::create(&world.name);
            of_bytes = Some(database);
            world.database_url = url;
            let (code, _, err) = world.run(&["migrate"]);
            assert_eq!(code, 0, "{err}");
        }
        Database::Sqlite => {}
        #[cfg(feature = "mysql")]
        Database::Mariadb => world.execute(COLUMNS_OF_BYTES),
    }
    Loose {
        world,
        _of_bytes: of_bytes,
    }
}

impl Loose {
    /// SQL for the invalid text `caf\xe9`.
    fn stray(&self) -> &'static str {
        match self.database {
            Database::Postgresql => "convert_from('\\x636166e9', 'SQL_ASCII')",
            Database::Sqlite => "CAST(x'636166e9' AS text)",
            #[cfg(feature = "mysql")]
            Database::Mariadb => "x'636166e9'",
        }
    }

    /// SQL for the bytes of a column in hexadecimal digits.
    fn bytes_of(&self, column: &str) -> String {
        match self.database {
            Database::Postgresql => {
                format!("encode(convert_to({column}, 'SQL_ASCII'), 'hex')")
            }
            _ => format!("lower(hex({column}))"),
        }
    }

    /// Sets columns to values that a server may refuse by default.
    fn set(&self, table: &str, set: &str, condition: &str) {
        let first = match self.database {
            #[cfg(feature = "mysql")]
            Database::Mariadb => "SET SESSION sql_mode = 'ALLOW_INVALID_DATES';",
            _ => "",
        };
        self.execute(&format!(
            "{first} UPDATE {table} SET {set} WHERE {condition}"
        ));
    }

    /// The given columns of a row, which must be readable.
    fn brief(&self, table: &str, columns: &str, id: i64) -> Value {
        self.rows(&format!("SELECT {columns} FROM {table} WHERE id = {id}"))
            .remove(0)
    }
}

/// SQL for next runs that are no times. The database compares them as before all times, as after them, and in
/// between.
fn no_times(database: Database) -> [&'static str; 3] {
    match database {
        Database::Postgresql => ["'-infinity'", "'infinity'", "'0044-03-15 12:00:00+00 BC'"],
        Database::Sqlite => ["1764255600", "x'ff00'", "'soon'"],
        #[cfg(feature = "mysql")]
        Database::Mariadb => [
            "'0000-00-00 00:00:00'",
            "'2026-02-31 00:00:00'",
            "'2025-11-31 00:00:00'",
        ],
    }
}
