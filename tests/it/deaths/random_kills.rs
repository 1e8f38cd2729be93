//! Services are killed and connections are cut at random moments.

use std::time::{Duration, Instant};

use carrot_actors::internals::service::Ended;

use crate::support::{
    Backend, Database, Running, Runs, World, cases, eventually, random, traced_config,
};

cases! { on every_database_and_broker:
    messages_survive_services_that_are_killed_at_random,
    the_message_of_a_killed_service_is_taken_over_on_its_host_at_once,
}

cases! { on every_database:
    each_message_of_two_services_whose_connections_are_cut_runs_once,
    many_short_tasks_on_connections_that_are_cut_run_once_each,
}

/// How long services are killed or connections are cut.
const SPELL: Duration = Duration::from_secs(10);

/// Waits until `more` messages have been COMPLETED, or all, or the time is over.
fn await_progress(world: &World, more: usize, all: usize, end: Instant) {
    let before = world.count("COMPLETED");
    eventually("more messages are COMPLETED", || {
        let completed = world.count("COMPLETED");
        completed >= (before + more).min(all) || Instant::now() > end
    });
}

fn messages_survive_services_that_are_killed_at_random(backend: Backend) {
    let mut random = random();
    // No limit of crashes: a message may be running at four kills by chance.
    let world = backend.world(&traced_config("max_crashes = 1000", 3));
    world.declare_queue("default");
    let mut uuids = Vec::new();
    let mut services: Vec<Running> = (0..3).map(|_| world.start(&[])).collect();
    let end = Instant::now() + SPELL;
    let mut kills = 0;
    while Instant::now() < end {
        uuids.extend(world.post("default", "note", random.usize(10..60)));
        await_progress(&world, random.usize(1..30), uuids.len(), end);
        let victim = random.usize(..services.len());
        services[victim].kill();
        services[victim] = world.launch(&[], "");
        kills += 1;
    }
    eprintln!("{kills} kills, {} messages", uuids.len());
    assert!(kills > 1);
    world.await_completed(uuids.len());
    services
        .iter()
        .for_each(|service| service.await_log("consuming queue"));
    for service in &services {
        assert!(
            service
                .output()
                .contains("All queues consumer sets started successfully")
        );
    }
    world.assert_all_well(services, &uuids);
}

fn each_message_of_two_services_whose_connections_are_cut_runs_once(database: Database) {
    let mut random = random();
    let mut world = World::on(database, &traced_config("", 3));
    let proxy = world.proxy_broker();
    world.declare_queue("default");
    let services = vec![world.start(&[]), world.start(&[])];
    let mut uuids = Vec::new();
    let mut cuts = 0;
    let end = Instant::now() + SPELL;
    while Instant::now() < end {
        uuids.extend(world.post("default", "note", random.usize(10..60)));
        await_progress(&world, random.usize(1..30), uuids.len(), end);
        // Cut the TCP connections, or let the broker close them, which lists a connection only after a while.
        cuts += match random.bool() {
            true => proxy.cut_connections(),
            false => world.cut_connections(),
        };
    }
    eprintln!("{cuts} cuts, {} messages", uuids.len());
    assert!(cuts > 1);
    world.await_completed(uuids.len());
    world.assert_all_well(services, &uuids);
    for uuid in &uuids {
        assert_eq!(world.runs(uuid).len(), 1, "{uuid}");
    }
}

fn many_short_tasks_on_connections_that_are_cut_run_once_each(database: Database) {
    let mut random = random();
    let mut world = World::on(database, "[[queues]]\nname = 'default'\nconcurrency = 4\n");
    let proxy = world.proxy_broker();
    world.declare_queue("default");
    let runs = Runs::default();
    let registry = runs.registry(|| ());
    let services = [
        world.in_process(registry.clone()),
        world.in_process(registry),
    ];
    let mut uuids = Vec::new();
    let mut cuts = 0;
    let end = Instant::now() + SPELL;
    while Instant::now() < end {
        uuids.extend(world.post("default", "count", random.usize(500..2000)));
        await_progress(&world, random.usize(1..1000), uuids.len(), end);
        cuts += proxy.cut_connections();
    }
    eprintln!("{cuts} cuts, {} messages", uuids.len());
    assert!(cuts > 1);
    world.await_completed(uuids.len());
    for service in services {
        assert_eq!(service.stop(), Ended::Drained);
    }
    // A message whose connection was cut between the commit of its end and its acknowledgement may be
    // redelivered.
    let (code, _, err) = world.run(&["--testmode", "--logfile", "last.log"]);
    assert_eq!(code, 0, "{err}");
    assert_eq!(world.ready("default"), 0);
    assert_eq!(world.count("COMPLETED"), uuids.len());
    runs.assert_once_each(&uuids);
}

fn the_message_of_a_killed_service_is_taken_over_on_its_host_at_once(backend: Backend) {
    let world = backend.world(&traced_config("", 1));
    let uuid = world.send(&["hold"]);
    let mut first = world.start(&[]);
    world.await_runs(&uuid, 1);
    let second = world.start(&[]);
    let killed = Instant::now();
    first.kill();
    world.await_runs(&uuid, 2);
    // A heartbeat is too old after 20 s.
    assert!(killed.elapsed() < Duration::from_secs(15));
    second.await_log("died without signing off");
    world.release_tasks();
    world.assert_all_well(vec![second], &[&uuid]);
}
