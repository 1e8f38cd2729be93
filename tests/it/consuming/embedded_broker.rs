//! The embedded broker as a user sees it, without any RabbitMQ.

use serde_json::json;

use crate::support::traced_tasks::traced_task;
use crate::support::{
    Backend, Database, Proxy, Raw, World, cases, eventually, text, traced_config,
};

cases! { on every_database:
    the_command_line_works_without_a_broker,
    a_database_serves_rabbitmq_then_the_embedded_broker_and_rabbitmq_again,
    a_message_for_a_queue_that_is_not_configured_is_failed_with_the_reason,
    higher_priorities_are_run_first_and_then_the_oldest,
    one_queue_may_be_embedded_and_another_in_rabbitmq,
    messages_that_a_killed_service_took_are_run_by_another,
    a_row_that_can_not_be_read_is_failed_and_its_neighbours_are_run,
    queues_whose_names_differ_in_a_letter_case_or_blank_are_different_queues,
    services_share_a_queue_and_each_message_runs_once,
    a_service_that_stops_leaves_the_messages_that_it_took_to_others,
}

cases! { on every_server: messages_survive_connections_to_the_database_that_are_cut }

fn world(database: Database) -> World {
    World::embedded_on(database, &traced_config("", 1))
}

fn the_command_line_works_without_a_broker(database: Database) {
    let config = format!("{}{}", traced_config("", 1), traced_task("bad", "exit 3"));
    let world = World::embedded_on(database, &config);
    let (code, out, err) = world.run(&["check"]);
    assert_eq!(code, 0, "{out}{err}");
    assert!(
        out.contains("\nbroker embedded: ok (messages wait in the database)\n"),
        "{out}"
    );

    let failed = world.send(&["bad"]);
    let (code, _, err) = world.run(&["--testmode", "--logfile", "first.log"]);
    assert_eq!(code, 0, "{err}");
    assert_eq!(world.find(&failed).unwrap()["status"], "FAILED");
    let (code, out, err) = world.run(&["requeue", "--failed"]);
    assert_eq!(code, 0, "{err}");
    let again = out.trim().rsplit(' ').next().unwrap();
    assert_eq!(world.find(again).unwrap()["status"], "PUBLISHED");

    let service = world.start(&[]);
    assert_eq!(world.ended(again)["status"], "FAILED");
    let uuid = world.send(&["note"]);
    assert_eq!(world.ended(&uuid)["status"], "COMPLETED");
    assert_eq!(world.runs(again).len(), 1);
    world.execute("DELETE FROM carrot_messagelog WHERE status = 'FAILED'");
    world.assert_all_well(vec![service], &[uuid]);
}

/// Switching is a change of one setting, and on servers one more step of the migration.
fn a_database_serves_rabbitmq_then_the_embedded_broker_and_rabbitmq_again(database: Database) {
    let mut world = World::on(database, &traced_config("", 1));
    let run = |world: &World| {
        let uuid = world.send(&["note"]);
        let mut service = world.start(&[]);
        assert_eq!(world.ended(&uuid)["status"], "COMPLETED");
        assert_eq!(service.terminate(), 0);
    };
    run(&world);
    let rabbitmq = std::mem::replace(&mut world.broker_url, "embedded".to_owned());
    // An SQLite file is migrated automatically. On servers, the message says to run `migrate`.
    if database != Database::Sqlite {
        for arguments in [
            &["--logfile", "carrot.log"][..],
            &["send", "note"],
            &["check"],
        ] {
            let (code, out, err) = world.run(arguments);
            assert_eq!(code, 78, "{arguments:?}: {out}{err}");
            assert!((out + &err).contains("carrot-actors migrate"), "{err}");
        }
    }
    let steps: usize = std::thread::scope(|scope| {
        let migrate = || {
            let (code, out, err) = world.run(&["migrate"]);
            assert_eq!(code, 0, "{err}");
            out.matches("migrated ").count()
        };
        let threads: Vec<_> = (0..3).map(|_| scope.spawn(migrate)).collect();
        let steps = threads.into_iter().map(|thread| thread.join().unwrap());
        steps.sum()
    });
    assert_eq!(steps, 1);
    run(&world);
    world.broker_url = rabbitmq;
    assert!(world.run(&["migrate"]).1.contains("is up to date"));
    run(&world);
    assert_eq!(world.count("COMPLETED"), 3);
}

fn a_message_for_a_queue_that_is_not_configured_is_failed_with_the_reason(database: Database) {
    let world = world(database);
    let (code, out, err) = world.run(&["send", "note", "--queue", "unknown"]);
    assert_eq!(code, 65, "{err}");
    assert!(
        err.contains("add [[queues]] with name = \"unknown\""),
        "{err}"
    );
    let row = world.find(out.trim()).unwrap();
    assert_eq!(row["status"], "FAILED", "{row}");
}

fn higher_priorities_are_run_first_and_then_the_oldest(database: Database) {
    // A row that another statement has locked is skipped, and MariaDB's scans lock rows that they do not
    // return. So only PostgreSQL keeps the order every time.
    let tries = if database == Database::Postgresql {
        1
    } else {
        5
    };
    assert!((0..tries).any(|_| are_run_in_order(database)));
}

/// Whether messages are run by priority, and then the oldest first.
fn are_run_in_order(database: Database) -> bool {
    let world = world(database);
    let send = |priority: &str| world.send(&["note", "--priority", priority]);
    let [third, first, fourth, second] = ["5", "255", "0", "255"].map(send);
    let last = send("0");
    let (code, _, err) = world.run(&["--testmode", "--logfile", "service.log"]);
    assert_eq!(code, 0, "{err}");
    let runs = world.read("runs");
    let order: Vec<&str> = runs
        .lines()
        .map(|line| line.split(' ').next().unwrap())
        .collect();
    order == [first, second, third, fourth, last]
}

fn one_queue_may_be_embedded_and_another_in_rabbitmq(database: Database) {
    let config = format!(
        "{}[[queues]]\nname = 'rows'\nhost = 'embedded'\n",
        traced_config("", 1)
    );
    let world = World::on(database, &config);
    world.declare_queue("default");
    let (code, out, err) = world.run(&["check"]);
    assert_eq!(
        (code, out.matches("\nbroker ").count()),
        (0, 2),
        "{out}{err}"
    );
    let here = world.send(&["note", "--queue", "rows"]);
    let there = world.send(&["note", "--queue", "default"]);
    assert_eq!(world.ready("default"), 1);
    let mut service = world.start(&[]);
    for uuid in [here, there] {
        assert_eq!(world.ended(&uuid)["status"], "COMPLETED");
        assert_eq!(world.runs(&uuid).len(), 1);
    }
    // A message that another program publishes to RabbitMQ is adopted as well.
    world.publish(&[Raw::foreign("note", Some("foreign"), "{}")]);
    assert_eq!(world.ended("foreign")["status"], "COMPLETED");
    service.stop_with_empty(&world, &["default"]);
}

fn messages_that_a_killed_service_took_are_run_by_another(database: Database) {
    let world = world(database);
    let uuids = world.post("default", "hold", 2);
    let mut first = world.start(&[]);
    let running = one_that_runs(&world, &uuids);
    world.await_ready("default", 0);
    let other = uuids.iter().find(|uuid| *uuid != running).unwrap();
    assert_eq!(world.find(other).unwrap()["status"], "PUBLISHED");
    let second = world.start(&[]);
    first.kill();
    world.release_tasks();
    assert_eq!(world.assert_all_well(vec![second], &uuids), 0);
    assert_eq!(world.runs(other).len(), 1);
}

/// The message that a service runs. It is not always the oldest, see `are_run_in_order`.
fn one_that_runs<'a>(world: &World, uuids: &'a [String]) -> &'a String {
    eventually("a task runs", || {
        uuids.iter().find(|uuid| world.runs(uuid).len() == 1)
    })
}

fn a_row_that_can_not_be_read_is_failed_and_its_neighbours_are_run(database: Database) {
    let world = world(database);
    let uuids = world.post("default", "note", 3);
    world.execute(&format!(
        "UPDATE carrot_messagelog SET task_args = '(open(' WHERE uuid = {}",
        database.literal(&json!(uuids[1]))
    ));
    let service = world.start(&[]);
    let row = world.ended(&uuids[1]);
    assert_eq!(row["status"], "FAILED", "{row}");
    assert!(
        text(&row, "exception").contains("task_args can't be read"),
        "{row}"
    );
    world.assert_all_well(vec![service], &[uuids[0].clone(), uuids[2].clone()]);
}

fn queues_whose_names_differ_in_a_letter_case_or_blank_are_different_queues(database: Database) {
    let config = format!(
        "{}[[queues]]\nname = 'Default'\nconsumable = false\n\
         [[queues]]\nname = 'default '\nconsumable = false\n",
        traced_config("", 1)
    );
    let world = World::embedded_on(database, &config);
    let others = ["Default", "default "].map(|queue| world.send(&["note", "--queue", queue]));
    let ours = world.send(&["note", "--queue", "default"]);
    let (code, _, err) = world.run(&["--testmode", "--logfile", "service.log"]);
    assert_eq!(code, 0, "{err}");
    assert_eq!(world.find(&ours).unwrap()["status"], "COMPLETED");
    for other in others {
        assert_eq!(world.find(&other).unwrap()["status"], "PUBLISHED");
    }
}

fn services_share_a_queue_and_each_message_runs_once(database: Database) {
    let world = World::embedded_on(database, &traced_config("", 2));
    let mut uuids = world.post("default", "hold", 8);
    let services = vec![world.start(&[]), world.start(&[])];
    // Each service has taken twice as many messages as it has consumers, and left the others.
    eventually("four tasks run", || world.all_runs().len() == 4);
    uuids.extend(world.post("default", "note", 300));
    world.release_tasks();
    world.await_completed(uuids.len());
    let rows = world.rows("SELECT output FROM carrot_messagelog");
    let mut who: Vec<&str> = rows.iter().map(|row| text(row, "output")).collect();
    who.sort_unstable();
    who.dedup();
    assert_eq!(who.len(), 2, "both services have run messages");
    assert_eq!(world.assert_all_well(services, &uuids), 0);
    assert!(uuids.iter().all(|uuid| world.runs(uuid).len() == 1));
}

fn a_service_that_stops_leaves_the_messages_that_it_took_to_others(database: Database) {
    let world = world(database);
    let uuids = world.post("default", "hold", 3);
    let mut first = world.start(&[]);
    let running = one_that_runs(&world, &uuids);
    let second = world.start(&[]);
    first.signal(rustix::process::Signal::TERM);
    first.await_log("messages go back");
    // The first service still runs its message. The others do not wait for it.
    world.release_tasks_of(&second);
    for uuid in uuids.iter().filter(|uuid| *uuid != running) {
        assert_eq!(world.ended(uuid)["status"], "COMPLETED");
    }
    world.release_tasks();
    assert_eq!(first.wait(), 0);
    assert_eq!(world.assert_all_well(vec![second], &uuids), 0);
    assert!(uuids.iter().all(|uuid| world.runs(uuid).len() == 1));
}

fn messages_survive_connections_to_the_database_that_are_cut(database: Database) {
    let world = Backend::embedded(database).world(&traced_config("", 3));
    let proxy = Proxy::before(&world.database_url);
    let launch = || {
        let mut command = world.command(&[]);
        command.env("CARROT_DATABASE_URL", proxy.url(&world.database_url));
        world.spawn(command)
    };
    let services = vec![launch(), launch()];
    services
        .iter()
        .for_each(|service| service.await_log("consuming queue"));
    let mut uuids = Vec::new();
    for _ in 0..5 {
        uuids.extend(world.post("default", "note", 60));
        eventually("some messages are COMPLETED", || {
            world.count("COMPLETED") + 40 > uuids.len()
        });
        assert_ne!(proxy.cut_connections(), 0);
    }
    world.await_completed(uuids.len());
    let log = services[0].log();
    assert!(log.contains("the database"), "{log}");
    assert!(!log.contains("the broker embedded"), "{log}");
    assert_eq!(world.assert_all_well(services, &uuids), 0);
    assert!(uuids.iter().all(|uuid| world.runs(uuid).len() == 1));
}
