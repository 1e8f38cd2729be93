//! The schedules and the default configuration that an app declares.

use std::sync::{Arc, Barrier};
use std::thread;

use carrot_actors::internals::service::{Ended, Service};
use carrot_actors::task::Registry;
use carrot_actors::{App, Args, Schedule, TaskError};
use serde_json::{Value, json};

use crate::support::{Database, World, cases};

cases! { on every_database:
    services_that_start_at_the_same_time_add_a_schedule_once,
    an_existing_schedule_keeps_the_edits_of_its_users,
}

/// A service that declares schedules, and ends when no message waits.
fn service(world: &World, schedules: &[Schedule]) -> Service {
    Service {
        schedules: schedules.to_vec(),
        until_idle: true,
        ..world.service(Registry::new(), world.config())
    }
}

#[track_caller]
fn runs(service: Service) {
    let (_signals, receiver) = crossbeam_channel::unbounded();
    assert_eq!(service.run(&receiver).unwrap(), Ended::Drained);
}

fn rows(world: &World) -> Vec<Value> {
    world.rows(
        "SELECT task_name, task, interval_count, interval_type, task_args, content, queue \
         FROM carrot_scheduledtask ORDER BY id",
    )
}

fn services_that_start_at_the_same_time_add_a_schedule_once(database: Database) {
    const SERVICES: usize = 6;
    let world = World::embedded_on(database, "[[queues]]\nname = \"first\"\n");
    let nightly = Schedule::new("nightly", "build")
        .every("1d")
        .args((2026, "May"))
        .kwargs(json!({"draft": true}));
    let schedules = [nightly, Schedule::new("hourly", "look").cron("@hourly")];
    let together = Arc::new(Barrier::new(SERVICES));
    let services: Vec<_> = (0..SERVICES)
        .map(|_| {
            let (service, together) = (service(&world, &schedules), Arc::clone(&together));
            thread::spawn(move || {
                together.wait();
                runs(service);
            })
        })
        .collect();
    for service in services {
        service.join().unwrap();
    }
    let rows = rows(&world);
    assert_eq!(rows.len(), 2, "{rows:?}");
    let nightly = json!({
        "task_name": "nightly", "task": "build", "interval_count": 1, "interval_type": "days",
        "task_args": "2026, 'May'", "content": "{\"draft\":true}", "queue": "first",
    });
    assert_eq!(rows[0], nightly);
}

fn an_existing_schedule_keeps_the_edits_of_its_users(database: Database) {
    let world = World::embedded_on(database, "[[queues]]\nname = \"default\"\n");
    let tick = [Schedule::new("tick", "clock.tick").every("90s")];
    let without_scheduler = Service {
        scheduler: false,
        ..service(&world, &tick)
    };
    runs(without_scheduler);
    assert_eq!(rows(&world), Vec::<Value>::new());

    runs(service(&world, &tick));
    let (code, _, err) = world.run(&["schedule", "edit", "tick", "--every", "7d"]);
    assert_eq!(code, 0, "{err}");
    let edited = rows(&world);
    assert_eq!(edited[0]["interval_count"], 7, "{edited:?}");
    runs(service(&world, &tick));
    assert_eq!(rows(&world), edited);

    let (code, ..) = world.run(&["schedule", "remove", "tick"]);
    assert_eq!(code, 0);
    runs(service(&world, &tick));
    assert_eq!(rows(&world)[0]["interval_count"], 90);
}

#[test]
fn an_app_whose_schedules_or_defaults_are_wrong_says_so_before_it_starts() {
    let why = |app: App| match app.into_registry() {
        Ok(_) => panic!("it is not refused"),
        Err(error) => error.to_string(),
    };
    let tick = || Schedule::new("tick", "clock.tick");
    let twice = App::new().schedule(tick().every("1s"));
    let twice = why(twice.schedule(tick().every("2s")));
    assert!(
        twice.starts_with("schedule \"tick\": is given twice"),
        "{twice}"
    );
    let never = why(App::new().schedule(tick().cron("0 0 30 2 *")));
    assert!(never.contains("never fires"), "{never}");
    let unknown = why(App::new().defaults("databse_url = 'sqlite://x.db'"));
    assert!(unknown.contains("own defaults are wrong"), "{unknown}");
    assert!(unknown.contains("did you mean database_url?"), "{unknown}");
}

#[test]
fn a_test_of_an_app_has_its_queues() {
    let app = App::new()
        .defaults("[[queues]]\nname = 'images'\nconcurrency = 2")
        .task("queue", |context: carrot_actors::TaskContext| {
            Ok::<_, TaskError>(context.queue)
        })
        .task("echo", |Args((text,)): Args<(String,)>| {
            Ok::<_, TaskError>(text)
        });
    let mut app = app.test().unwrap();
    let outcome = app.run(app.task("queue")).unwrap();
    assert_eq!(outcome.result.unwrap(), "images");
}
