//! Statements to a database that goes away.

use std::thread;
use std::time::Duration;

use diesel::QueryResult;
use serde_json::Value;

use crate::support::World;
use crate::support::database::Client;

/// A connection to the database, opened again when it is lost.
pub struct Link<'a> {
    world: &'a World,
    client: Option<Client>,
}

impl<'a> Link<'a> {
    pub const fn new(world: &'a World) -> Self {
        Self {
            world,
            client: None,
        }
    }

    /// The rows that `query` selects, if the database is up.
    pub fn rows(&mut self, query: &str) -> Option<Vec<Value>> {
        self.once(|client| client.try_rows(query)).ok()
    }

    /// Inserts rows as django-carrot does, each once, however long it takes.
    pub fn insert(&mut self, rows: &[Value]) {
        let keys: Vec<String> = rows.iter().map(|row| row["uuid"].to_string()).collect();
        let keys = keys.join(", ").replace('"', "'");
        let there = format!("SELECT uuid FROM carrot_messagelog WHERE uuid IN ({keys})");
        let insert = self.world.database.django_insert(rows);
        loop {
            // The failed statement may have been committed.
            let inserted = self.once(|client| {
                if client.try_rows(&there)?.is_empty() {
                    client.try_execute(&insert)?;
                }
                Ok(())
            });
            if inserted.is_ok() {
                return;
            }
            thread::sleep(Duration::from_millis(200));
        }
    }

    fn once<T>(&mut self, work: impl FnOnce(&mut Client) -> QueryResult<T>) -> QueryResult<T> {
        let mut client = match self.client.take() {
            Some(client) => client,
            None => Client::try_connect(self.world.database, &self.world.database_url)?,
        };
        let done = work(&mut client)?;
        self.client = Some(client);
        Ok(done)
    }
}
