//! A message in a transaction of the program's own: `cargo run --example transactions`.
//!
//! Whoever signs up is greeted, unless the transaction fails: then there never was a message.
#![expect(clippy::print_stdout, reason = "it says what it did")]

use carrot_actors::transaction::RecordError;
use carrot_actors::{App, Args, Client, TaskError};
use diesel::connection::SimpleConnection;
use diesel::prelude::*;

fn greet(Args((name,)): Args<(String,)>) -> Result<String, TaskError> {
    Ok(format!("Hello {name}"))
}

fn sign_up(db: &mut SqliteConnection, client: &Client, name: &str) -> Result<(), RecordError> {
    // On SQLite, a transaction that will write should begin as a writing one.
    db.immediate_transaction(|db| {
        client.task("customers.greet").args((name,)).record(db)?;
        diesel::sql_query("INSERT INTO customer (name) VALUES (?)")
            .bind::<diesel::sql_types::Text, _>(name)
            .execute(db)?;
        Ok(())
    })
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    // This example uses a temporary database. A real program gets its client from `Client::connect`, and
    // connects to the service's `database_url`.
    let mut app = App::new().task("customers.greet", greet).test()?;
    let file = app.config().database_url.sqlite_file();
    let file = file
        .and_then(|file| file.to_str())
        .ok_or("no SQLite file")?;
    let mut db = SqliteConnection::establish(file)?;
    // A service writes to the same file, and only one connection can write at a time. Diesel's connections do
    // not wait for others unless told to.
    db.batch_execute("PRAGMA busy_timeout = 5000")?;
    diesel::sql_query("CREATE TABLE customer (name TEXT PRIMARY KEY)").execute(&mut db)?;

    sign_up(&mut db, app.client(), "Ada")?;
    let ran = app.run_until_idle()?;
    assert_eq!(ran.len(), 1);
    println!("committed: {:?}", ran[0].result);

    let again = sign_up(&mut db, app.client(), "Ada");
    println!(
        "rolled back: {}",
        again.err().ok_or("she is there already")?
    );
    assert!(app.run_until_idle()?.is_empty());
    println!("and nobody is greeted");
    Ok(())
}
