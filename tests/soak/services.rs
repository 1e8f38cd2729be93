//! The services: this program with functions as tasks, and what happens to them.

use std::fs::OpenOptions;
use std::io::Write;
use std::ops::Range;
use std::process::{Command, ExitCode};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use carrot_actors::task::{Registry, TaskError};
use fastrand::Rng;
use rustix::process::Signal;
use serde_json::Value;

use crate::deck::Deck;
use crate::soak::Soak;
use crate::support::traced_tasks::RUNS;
use crate::support::{Running, World, outcome};

/// Set in the environment where this program is to be a service.
const SERVICE: &str = "CARROT_SOAK_IS_SERVICE";

/// How long a service may take to stop: the database may be away for half a minute.
const PATIENCE: Duration = Duration::from_secs(120);

const COUNT: usize = 2;

/// The time between two blows, in milliseconds.
const PAUSE: Range<u64> = 1000..6000;
/// How long they last, in milliseconds.
const GONE: Range<u64> = 0..3000;
const FROZEN: Range<u64> = 100..6000;

const LAST_LOG: [&str; 2] = ["--logfile", "last.log"];

/// Runs the service, if this program is to be one.
pub fn live() -> Option<ExitCode> {
    std::env::var_os(SERVICE)?;
    let mut tasks = Registry::new();
    tasks
        .register("quick", |context, _| {
            note_run(&context.uuid);
            Ok(Value::from("done"))
        })
        .and_then(|()| {
            tasks.register_async("async", |context, _| async move {
                note_run(&context.uuid);
                Ok(Value::Null)
            })
        })
        .and_then(|()| {
            tasks.register("errs", |context, _| {
                note_run(&context.uuid);
                Err(TaskError::new("as it is meant to"))
            })
        })
        .and_then(|()| {
            tasks.register("panics", |context, _| {
                note_run(&context.uuid);
                panic!("as it is meant to")
            })
        })
        .unwrap();
    Some(carrot_actors::cli::main(tasks))
}

/// Notes a run as the commands do.
fn note_run(uuid: &str) {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let line = format!("{uuid} {}\n", since.as_millis());
    let runs = OpenOptions::new().append(true).create(true).open(RUNS);
    runs.unwrap().write_all(line.as_bytes()).unwrap();
}

/// Declares the queues by a service that runs nothing, so that messages can be sent before there is another.
pub fn declare_queues(world: &World, queues: &[&str]) {
    let mut service = launch(world);
    for queue in queues {
        service.await_log(&format!("consuming queue {queue}"));
    }
    assert_eq!(service.terminate(), 0);
}

fn launch(world: &World) -> Running {
    world.spawn(service(world, &[]))
}

fn service(world: &World, arguments: &[&str]) -> Command {
    let mut command = world.command_of(std::env::current_exe().unwrap(), arguments);
    command.env(SERVICE, "1");
    command
}

/// What happens to a service.
#[derive(Clone, Copy)]
enum Blow {
    Kill,
    Stop,
    /// For a shorter time than others need to take over its messages.
    Freeze,
}

/// The running services.
pub struct Crew(Vec<Running>);

impl Crew {
    pub fn start(soak: &Soak) -> Self {
        Self((0..COUNT).map(|_| launch(&soak.world)).collect())
    }

    /// Kills, stops and freezes services at random, and starts others in place of those that are gone.
    pub fn trouble(&mut self, soak: &Soak, mut random: Rng) {
        let mut deck = Deck::of(&[Blow::Kill, Blow::Stop, Blow::Freeze]);
        loop {
            soak.pause_within(&mut random, PAUSE);
            self.check(soak);
            if !soak.goes_on() {
                return;
            }
            let service = &mut self.0[random.usize(..COUNT)];
            match deck.draw(&mut random) {
                Blow::Kill => {
                    soak.outage("a service killed");
                    service.kill();
                }
                Blow::Stop => {
                    soak.outage("a service stopped");
                    stop(soak, service);
                }
                Blow::Freeze => {
                    soak.outage("a service frozen");
                    service.signal(Signal::STOP);
                    soak.pause_within(&mut random, FROZEN);
                    service.signal(Signal::CONT);
                    continue;
                }
            }
            soak.pause_within(&mut random, GONE);
            *service = launch(&soak.world);
        }
    }

    /// Records a fault for each service that has ended by itself.
    fn check(&mut self, soak: &Soak) {
        for service in &mut self.0 {
            if let Some(code) = service.ended() {
                let log = service.log.display();
                soak.fault(format!("a service ended by itself with {code}: {log}"));
                *service = launch(&soak.world);
            }
        }
    }

    /// Stops all in order. One more service runs what they have returned, and second copies.
    pub fn stop(mut self, soak: &Soak) {
        self.check(soak);
        for service in &mut self.0 {
            stop(soak, service);
        }
        let (code, _, err) = outcome(service(&soak.world, &["--testmode"]).args(LAST_LOG));
        if code != 0 {
            soak.fault(format!("--testmode ended with {code}: {err}"));
        }
    }
}

/// Stops a service in order.
fn stop(soak: &Soak, service: &mut Running) {
    let log = service.log.clone();
    // Once there is a log, it handles signals.
    let deadline = Instant::now() + PATIENCE;
    while !log.exists() {
        assert!(Instant::now() < deadline, "no {}", log.display());
        thread::sleep(Duration::from_millis(5));
    }
    service.signal(Signal::TERM);
    let code = loop {
        match service.ended() {
            None if Instant::now() < deadline => thread::sleep(Duration::from_millis(5)),
            ended => break ended,
        }
    };
    let log = log.display();
    match code {
        Some(0) => {}
        Some(code) => soak.fault(format!("a stopped service ended with {code}: {log}")),
        None => {
            soak.fault(format!("a service did not stop in {PATIENCE:?}: {log}"));
            service.kill();
        }
    }
}
