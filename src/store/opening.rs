//! Opening the database that a URL names.

#[cfg(feature = "mysql")]
use super::mysql::MysqlServer;
use super::postgres::PostgresServer;
use super::sql::SqlStore;
use super::sqlite::SqliteFile;
use super::{Session, Store, StoreError, Tables, TestSession, TestStore};
use crate::config::{Config, DatabaseKind, DatabaseUrl};

/// The store that a configuration names, with the tables that it needs.
///
/// # Errors
/// [`StoreError::Unsupported`] when this build lacks that database; the error says what to do.
pub fn open_for(config: &Config) -> Result<Box<dyn Store>, StoreError> {
    open(&config.database_url, Tables::of(config))
}

/// Connects to a migrated database; a database that nobody else administers is migrated first.
///
/// # Errors
/// When the database is away, or not migrated; the error names the command.
pub fn session(store: &dyn Store) -> Result<Box<dyn Session>, StoreError> {
    let mut session = store.connect()?;
    if session.is_migrated()? {
        return Ok(session);
    }
    if !store.migrates_itself() {
        return Err(StoreError::NotMigrated(store.describe()));
    }
    let steps = store.migrate()?;
    if !steps.is_empty() {
        let steps = steps.join(", ");
        log::info!("made the tables of {}: {steps}", store.describe());
    }
    Ok(session)
}

/// A test's session on the database that a configuration names.
///
/// # Errors
/// When the database is away, or this build lacks it.
pub fn connect_for_tests(config: &Config) -> Result<Box<dyn TestSession>, StoreError> {
    store_at(&config.database_url, Tables::of(config))?.connect_for_tests()
}

/// The store that `url` names.
///
/// # Errors
/// [`StoreError::Unsupported`] when this build lacks that database; the error says what to do.
pub fn open(url: &DatabaseUrl, tables: Tables) -> Result<Box<dyn Store>, StoreError> {
    let store = store_at(url, tables)?;
    Ok(store)
}

fn store_at(url: &DatabaseUrl, tables: Tables) -> Result<Box<dyn TestStore>, StoreError> {
    match url.kind() {
        DatabaseKind::Postgresql => Ok(Box::new(SqlStore(PostgresServer::new(url)?, tables))),
        DatabaseKind::Sqlite => Ok(Box::new(SqlStore(SqliteFile::new(url), tables))),
        #[cfg(feature = "mysql")]
        DatabaseKind::Mysql => Ok(Box::new(SqlStore(MysqlServer::new(url), tables))),
        #[cfg(not(feature = "mysql"))]
        DatabaseKind::Mysql => Err(StoreError::Unsupported(
            "database_url names MySQL, which this build is without: build with `--features mysql` \
             (it needs libmariadb-dev)"
                .to_owned(),
        )),
    }
}
