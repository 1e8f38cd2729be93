//! How long other connections wait while a migration works on a large table.
//!
//! `CARROT_TEST_ROWS=5000000` sets the number of its rows.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::Apart;
use crate::support::{Client, Database, cases};

cases! { on every_server: nobody_waits_long_for_a_migration }

/// How long a transaction that has used the table stays idle.
const IDLE: Duration = Duration::from_secs(5);

fn rows() -> usize {
    let given = std::env::var("CARROT_TEST_ROWS").ok();
    given.map_or(200_000, |rows| rows.parse().unwrap())
}

/// Runs these statements one after another until `over` is set; how long the slowest took.
fn longest(world: &Apart, over: &AtomicBool, statement: impl Fn(usize) -> String) -> Duration {
    let mut client = world.client();
    if world.database == Database::Postgresql {
        // A statement that waits longer for a lock fails, and the test with it. The measured time also
        // includes how busy the machine is.
        client.execute("SET lock_timeout = '1s'");
    }
    let mut longest = Duration::ZERO;
    for nth in 0.. {
        let statement = statement(nth);
        let began = Instant::now();
        match statement.starts_with("SELECT") {
            true => drop(client.rows(&statement)),
            false => client.execute(&statement),
        }
        longest = longest.max(began.elapsed());
        if over.load(Ordering::Relaxed) {
            break;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    longest
}

fn nobody_waits_long_for_a_migration(database: Database) {
    let rows = rows();
    let world = Apart::with_queues(database, rows);
    let over = AtomicBool::new(false);
    let began = Instant::now();
    let (longest_waits, said) = std::thread::scope(|scope| {
        // Any row but the first, which the idle transaction has locked.
        let nth = |nth: usize| nth * 7919 % (rows - 1) + 2;
        let (world, over) = (&world, &over);
        let read = move |n| format!("SELECT uuid FROM carrot_messagelog WHERE id = {}", nth(n));
        let update = move |n| {
            let id = nth(n);
            format!("UPDATE carrot_messagelog SET output = 'run again' WHERE id = {id}")
        };
        let insert = |n| {
            format!(
                "INSERT INTO carrot_messagelog (status, uuid, priority, task) \
                 VALUES ('PUBLISHED', 'new-{n}', 0, 'noop')"
            )
        };
        let threads = [
            scope.spawn(move || longest(world, over, read)),
            scope.spawn(move || longest(world, over, update)),
            scope.spawn(move || longest(world, over, insert)),
        ];
        let mut migration = world.begin();
        // Other transactions come and stay idle for a while, as long as the migration works.
        while migration.child.try_wait().unwrap().is_none() {
            let mut idle = world.client();
            stay(&mut idle, &mut migration);
        }
        migration.ends_well();
        over.store(true, Ordering::Relaxed);
        let longest = threads.map(|thread| thread.join().unwrap());
        (longest, migration.said())
    });
    let took = began.elapsed();
    let [read, update, insert] = longest_waits;
    eprintln!(
        "{database:?}, {rows} rows: migrated in {took:.1?}; the longest read took {read:.0?}, update \
         {update:.0?}, insert {insert:.0?}\n{said}"
    );
    if database == Database::Postgresql && std::env::var_os("CARROT_TEST_ROWS").is_some() {
        let longest = longest_waits.into_iter().max().unwrap();
        assert!(longest < Duration::from_secs(1), "{longest:?}\n{said}");
    }
    assert!(world.run(&["migrate"]).1.contains("is up to date"));
}

/// Uses the table in a transaction that then is idle for a while, and pauses after it.
fn stay(client: &mut Client, migration: &mut super::Begun<'_>) {
    client.execute("BEGIN");
    client.rows("SELECT id FROM carrot_messagelog WHERE id = 1");
    client.execute("UPDATE carrot_messagelog SET log = 'x' WHERE id = 1");
    wait(IDLE, migration);
    client.execute("COMMIT");
    wait(8 * IDLE, migration);
}

/// Waits for this time or for the end of the migration, whichever comes first.
fn wait(time: Duration, migration: &mut super::Begun<'_>) {
    let until = Instant::now() + time;
    while Instant::now() < until && migration.child.try_wait().unwrap().is_none() {
        std::thread::sleep(Duration::from_millis(10));
    }
}
