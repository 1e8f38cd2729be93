//! Connections are cut, half-open or held up, while the servers are up.

use std::time::Duration;

use super::trial::{SHORT, Trial, by_command, while_the_database_is_away};
use crate::support::{Backend, Proxy, World, cases, traced_config};

/// A service that connects to the broker through a proxy.
fn with_proxy_to_broker() -> (Proxy, Trial) {
    let config = format!("{}\n[[queues]]\nname = 'other'\n", traced_config("", 4));
    let world = World::new(&config);
    let proxy = Proxy::start();
    let mut command = world.command(&[]);
    command.env("CARROT_DEFAULT_BROKER", proxy.url(&world.broker_url));
    let service = world.spawn(command);
    service.await_log("consuming queue other");
    (proxy, Trial::begin(world, vec![service], "the broker"))
}

/// A service that connects to the database through a proxy.
fn with_proxy_to_database(backend: Backend) -> (Proxy, Trial) {
    let world = backend.world(&traced_config("", 4));
    let proxy = Proxy::before(&world.database_url);
    let mut command = world.command(&[]);
    command.env("CARROT_DATABASE_URL", proxy.url(&world.database_url));
    let service = world.spawn(command);
    (proxy, Trial::begin(world, vec![service], "the database"))
}

#[test]
fn the_service_survives_the_cut_of_all_connections_to_the_broker() {
    let (proxy, mut trial) = with_proxy_to_broker();
    trial.send_during(by_command, |trial| {
        for nth in 1..=3 {
            assert_ne!(proxy.cut_connections(), 0);
            trial.await_back(nth);
        }
    });
    trial.assert_survived_outages(3);
}

#[test]
fn the_service_survives_half_open_connections_to_the_broker() {
    let (proxy, mut trial) = with_proxy_to_broker();
    trial.send_during(by_command, |trial| {
        proxy.leave_half_open();
        trial.await_away();
    });
    trial.assert_survived();
}

#[test]
fn short_delays_of_connections_to_the_broker_are_no_outage() {
    let (proxy, mut trial) = with_proxy_to_broker();
    trial.send_during(by_command, |trial| {
        proxy.hold_up();
        trial.idle_for(Duration::from_secs(3));
        proxy.let_pass();
    });
    trial.assert_survived_outages(0);
}

fn the_service_survives_the_cut_of_all_connections_to_the_database(backend: Backend) {
    let (proxy, mut trial) = with_proxy_to_database(backend);
    trial.send_during(while_the_database_is_away(), |trial| {
        for nth in 1..=3 {
            assert_ne!(proxy.cut_connections(), 0);
            trial.await_back(nth);
        }
    });
    trial.assert_survived_outages(3);
}

fn the_service_survives_half_open_connections_to_the_database(backend: Backend) {
    let (proxy, mut trial) = with_proxy_to_database(backend);
    trial.send_during(while_the_database_is_away(), |trial| {
        proxy.leave_half_open();
        trial.await_away();
        trial.idle_for(SHORT);
        proxy.cut_connections();
    });
    trial.assert_survived();
}

fn the_service_survives_connections_to_the_database_that_are_held_up(backend: Backend) {
    let (proxy, mut trial) = with_proxy_to_database(backend);
    trial.send_during(while_the_database_is_away(), |trial| {
        proxy.hold_up();
        trial.await_away();
        trial.idle_for(SHORT);
        proxy.let_pass();
    });
    trial.assert_survived();
}

cases! { on every_server_and_broker:
    the_service_survives_the_cut_of_all_connections_to_the_database,
    the_service_survives_half_open_connections_to_the_database,
    the_service_survives_connections_to_the_database_that_are_held_up,
}
