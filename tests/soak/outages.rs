//! The outages, at random.

use std::ops::Range;
use std::process::Command;

use fastrand::Rng;

use crate::SERVICES;
use crate::deck::Deck;
use crate::soak::Soak;
use crate::support::database::Client;
use crate::support::{Database, World, outcome, server};

/// What happens to a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Trouble {
    Stopped,
    Killed,
    Frozen,
    /// Longer than the heartbeats of its clients allow, and than a worker may be silent.
    FrozenForLong,
    /// The server closes every connection.
    Disconnected,
}

const TROUBLES: [Trouble; 5] = [
    Trouble::Stopped,
    Trouble::Killed,
    Trouble::Frozen,
    Trouble::Disconnected,
    // The last, since it is left out where there is no time for it.
    Trouble::FrozenForLong,
];

/// The time between two outages of a server, in milliseconds.
const PAUSE: Range<u64> = 1000..7000;
/// How long an outage lasts.
const SHORT: Range<u64> = 100..6000;
const LONG: Range<u64> = 22_000..32_000;

pub fn of_the_broker(soak: &Soak, random: Rng) {
    of_a_server(soak, random, "rabbitmq", || {
        soak.world.cut_connections();
    });
}

pub fn of_the_database(soak: &Soak, random: Rng) {
    match soak.world.database {
        Database::Postgresql => of_a_server(soak, random, "postgresql", || {
            end_connections(
                Database::Postgresql,
                &server("CARROT_TEST_POSTGRES"),
                "SELECT pid AS id FROM pg_stat_activity \
                 WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()",
                |id| format!("SELECT pg_terminate_backend({id})"),
            );
        }),
        #[cfg(feature = "mysql")]
        Database::Mariadb => of_a_server(soak, random, "mariadb", || {
            end_connections(
                Database::Mariadb,
                &server("CARROT_TEST_MYSQL"),
                "SELECT id FROM information_schema.processlist WHERE id <> connection_id()",
                |id| format!("KILL {id}"),
            );
        }),
        Database::Sqlite => of_the_file(soak, random),
    }
}

fn of_a_server(soak: &Soak, mut random: Rng, name: &str, disconnect: impl Fn()) {
    let count = TROUBLES.len() - usize::from(!soak.is_long());
    let mut deck = Deck::of(&TROUBLES[..count]);
    loop {
        soak.pause_within(&mut random, PAUSE);
        if !soak.goes_on() {
            return;
        }
        let (what, blow, cure, time) = match deck.draw(&mut random) {
            Trouble::Stopped => ("stopped", "stop", "start", SHORT),
            Trouble::Killed => ("killed", "kill", "start", SHORT),
            Trouble::Frozen => ("frozen", "freeze", "thaw", SHORT),
            Trouble::FrozenForLong => ("frozen for long", "freeze", "thaw", LONG),
            Trouble::Disconnected => {
                soak.outage(&format!("{name} disconnected"));
                disconnect();
                continue;
            }
        };
        soak.outage(&format!("{name} {what}"));
        tell(blow, name);
        soak.pause_within(&mut random, time);
        tell(cure, name);
        soak.say(&format!("{name} is back"));
    }
}

fn tell(verb: &str, name: &str) {
    let (code, out, err) = outcome(Command::new(SERVICES).args([verb, name]));
    assert_eq!(code, 0, "scripts/services {verb} {name}: {out}{err}");
}

fn end_connections(database: Database, url: &str, list: &str, end: impl Fn(&str) -> String) {
    let mut client = Client::try_connect(database, url).unwrap();
    for connection in client.rows(list) {
        // The connection may have ended by itself.
        let end = end(&connection["id"].to_string());
        client.try_execute(&end).unwrap_or_default();
    }
}

/// A file does not go away, but another process may write to it, also for longer than SQLite waits for the
/// lock.
fn of_the_file(soak: &Soak, mut random: Rng) {
    const LOCKED: (&str, Range<u64>) = ("sqlite locked", 100..4000);
    const FOR_LONG: (&str, Range<u64>) = ("sqlite locked for long", 5500..9000);
    let mut deck = Deck::of(&[LOCKED, LOCKED, FOR_LONG]);
    loop {
        soak.pause_within(&mut random, PAUSE);
        if !soak.goes_on() {
            return;
        }
        let (what, time) = deck.draw(&mut random);
        soak.outage(what);
        locked(&soak.world, || soak.pause_within(&mut random, time));
        soak.say("sqlite unlocked");
    }
}

fn locked(world: &World, work: impl FnOnce()) {
    let mut writer = world.client();
    writer.execute("BEGIN IMMEDIATE");
    work();
    writer.execute("COMMIT");
}
