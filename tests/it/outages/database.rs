//! A database goes away, or does not answer.

use std::time::Duration;

use uuid::Uuid;

use super::trial::{SHORT, Trial, by_a_stranger, while_the_database_is_away};
use crate::support::{
    Backend, Database, Outage, OwnServer, Raw, Server, World, cases, eventually, traced_config,
};

/// Longer than MariaDB's own limit of waiting for a lock.
const A_LOCK: Duration = Duration::from_secs(12);

pub fn own_server(database: Database) -> OwnServer {
    OwnServer::take(match database {
        Database::Postgresql => Server::Postgresql,
        #[cfg(feature = "mysql")]
        Database::Mariadb => Server::Mariadb,
        Database::Sqlite => panic!("SQLite has no server"),
    })
}

/// Two services, neither of which may consider the other dead.
fn begin(world: World) -> Trial {
    let services = vec![world.start(&[]), world.start(&[])];
    Trial::begin(world, services, "the database")
}

/// A task that runs while the database is away, and ends in that time, is run once.
fn assert_survives(backend: Backend, outage: Outage) {
    let database = own_server(backend.database);
    let mut trial = begin(backend.world(&traced_config("", 4)));
    let held = trial.world.send(&["hold"]);
    trial.world.await_runs(&held, 1);
    trial.send_during(while_the_database_is_away(), |trial| {
        trial.take_away(&database, outage, || trial.world.release_tasks());
    });
    assert_eq!(trial.world.ended(&held)["attempts"], 1);
    assert_eq!(trial.world.runs(&held).len(), 1);
    trial.uuids.push(held);
    trial.assert_survived();
}

fn the_service_survives_a_database_that_is_stopped(backend: Backend) {
    assert_survives(backend, Outage::Stop);
}

fn the_service_survives_a_database_that_is_killed(backend: Backend) {
    assert_survives(backend, Outage::Kill);
}

fn the_service_survives_a_database_that_is_frozen_for_longer_than_a_heartbeat_may_be_old(
    backend: Backend,
) {
    assert_survives(backend, Outage::Freeze);
}

fn the_service_survives_a_database_that_is_away_at_the_start(backend: Backend) {
    let database = own_server(backend.database);
    let world = backend.world(&traced_config("", 4));
    world.declare_queue("default");
    let away = database.take_away(Outage::Stop);
    let services = vec![world.launch(&[], "")];
    let mut trial = Trial::of(world, services, "the database");
    trial.send_during(while_the_database_is_away(), |trial| {
        trial.await_away();
        trial.idle_for(SHORT);
        away.end();
    });
    trial.assert_survived();
}

/// Kills every connection of a service, as an administrator can.
pub fn kill_connections(world: &World) {
    match world.database {
        Database::Postgresql => {
            let ours = "application_name = 'carrot-actors'";
            world.rows(&format!(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {ours}"
            ));
        }
        #[cfg(feature = "mysql")]
        Database::Mariadb => {
            let mine = "SELECT id FROM information_schema.processlist \
                WHERE db = database() AND id <> connection_id()";
            for connection in world.rows(mine) {
                // The connection may have ended by itself.
                world.execute(&format!(
                    "BEGIN NOT ATOMIC DECLARE CONTINUE HANDLER FOR SQLEXCEPTION BEGIN END; \
                     KILL {}; END",
                    connection["id"]
                ));
            }
        }
        Database::Sqlite => panic!("SQLite has no connections to kill"),
    }
}

fn the_service_survives_a_database_that_kills_all_connections(backend: Backend) {
    let _database = own_server(backend.database);
    let mut trial = begin(backend.world(&traced_config("", 4)));
    trial.send_during(while_the_database_is_away(), |trial| {
        for nth in 1..=3 {
            kill_connections(&trial.world);
            trial.await_back(nth);
        }
    });
    trial.assert_survived_outages(3);
}

fn the_service_survives_a_lock_in_the_database(backend: Backend) {
    let world = backend.world(&traced_config("", 4));
    let services = vec![world.start(&[])];
    let mut trial = Trial::begin(world, services, "the database");
    let held = trial.world.send(&["hold"]);
    trial.world.await_runs(&held, 1);
    trial.send_during(while_the_database_is_away(), |trial| {
        let mut other = trial.world.client();
        other.execute("BEGIN");
        other.rows("SELECT uuid FROM carrot_messagelog WHERE status = 'IN_PROGRESS' FOR UPDATE");
        trial.world.release_tasks();
        trial.await_away();
        trial.idle_for(A_LOCK);
        other.execute("ROLLBACK");
    });
    trial.uuids.push(held);
    trial.assert_survived();
}

fn messages_survive_a_database_that_is_away_while_the_services_die(backend: Backend) {
    let database = own_server(backend.database);
    let mut trial = begin(backend.world(&traced_config("", 4)));
    let held = trial.world.send(&["hold"]);
    trial.world.await_runs(&held, 1);
    trial.uuids.push(held);
    if backend.is_embedded {
        // Some of these have begun when the database is stopped.
        trial.uuids.extend(trial.world.post("default", "note", 200));
    }
    let away = database.take_away(Outage::Stop);
    trial.await_away();
    if !backend.is_embedded {
        let sent = (0..50).map(|_| by_a_stranger(&trial.world));
        trial.uuids.extend(sent);
    }
    trial.world.release_tasks();
    trial.idle_for(SHORT);
    trial.services.iter_mut().for_each(|service| service.kill());
    trial.services = vec![trial.world.launch(&[], "")];
    trial.await_away();
    away.end();
    trial.assert_survived();
}

cases! { on every_server_and_broker:
    the_service_survives_a_database_that_is_stopped,
    the_service_survives_a_database_that_is_killed,
    the_service_survives_a_database_that_is_frozen_for_longer_than_a_heartbeat_may_be_old,
    the_service_survives_a_database_that_is_away_at_the_start,
    the_service_survives_a_database_that_kills_all_connections,
    the_service_survives_a_lock_in_the_database,
    messages_survive_a_database_that_is_away_while_the_services_die,
}

#[test]
fn messages_wait_in_the_broker_while_the_database_is_away() {
    let database = own_server(Database::Postgresql);
    let config = traced_config("", 1).replace("[[queues]]", "[[queues]]\nprefetch_factor = 25");
    let trial = begin(World::new(&config));
    let _away = database.take_away(Outage::Stop);
    trial.await_away();
    let large = format!("[[\"{}\"], {{}}, {{}}]", "x".repeat(100_000));
    let count = 1000;
    let messages = (0..count).map(|_| {
        let id = Uuid::new_v4().to_string();
        Raw::foreign("note", Some(&id), large.clone())
    });
    trial.world.publish(&messages.collect::<Vec<_>>());
    // There are two services, each with a prefetch of 25.
    eventually("all but the prefetched messages are ready", || {
        trial.world.ready("default") == count - 50
    });
    trial.idle_for(SHORT);
    trial.assert_small();
}
