//! What systemd hears of a service, on a socket as systemd's: when it is up, what it is at, that it
//! stops, and whether it still works.

use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::process::Command;

use rustix::process::Signal;

use crate::support::{Database, Proxy, Running, World, eventually};

const CONFIG: &str = r#"
[[queues]]
name = "default"
[tasks.gated]
command = ["sh", "-c", "touch started; until test -e go; do sleep 0.02; done"]
[tasks.noop]
command = ["true"]
[tasks.tell]
command = ["sh", "-c", "echo ${NOTIFY_SOCKET-} ${WATCHDOG_USEC-} ${WATCHDOG_PID-} none"]
"#;

/// A period of 2 s; half of it goes by between two signs of life, a quarter before one is missed.
const WATCHDOG: &str = "2000000";

/// systemd's end.
struct Manager {
    socket: UnixDatagram,
    name: String,
    heard: Vec<String>,
}

impl Manager {
    /// At a path.
    fn in_directory(world: &World) -> Self {
        let path = world.directory().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        Self::on(socket, path.to_str().unwrap().to_owned())
    }

    /// With a name that is no path, as in containers.
    fn abstract_for(world: &World) -> Self {
        let name = format!("carrot/{}", world.name);
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let socket = UnixDatagram::bind_addr(&address).unwrap();
        Self::on(socket, format!("@{name}"))
    }

    fn on(socket: UnixDatagram, name: String) -> Self {
        socket.set_nonblocking(true).unwrap();
        let heard = Vec::new();
        Self {
            socket,
            name,
            heard,
        }
    }

    /// The service as this manager would start it.
    fn launch(&self, world: &World, failpoints: &str) -> Running {
        let mut command = self.command(world);
        command.env("CARROT_FAILPOINTS", failpoints);
        world.spawn(command)
    }

    fn command(&self, world: &World) -> Command {
        let mut command = world.command(&[]);
        command
            .env("NOTIFY_SOCKET", &self.name)
            .env("WATCHDOG_USEC", WATCHDOG);
        command
    }

    /// Takes what has been said up to now; it is in `heard` then, an assignment each.
    fn listen(&mut self) {
        let mut datagram = [0; 4096];
        while let Ok(length) = self.socket.recv(&mut datagram) {
            let text = std::str::from_utf8(&datagram[..length]).unwrap();
            self.heard.extend(text.lines().map(str::to_owned));
        }
    }

    /// Waits until an assignment begins so, and returns it with what was heard before it.
    #[track_caller]
    fn await_heard(&mut self, beginning: &str) -> (String, Vec<String>) {
        let position = eventually(beginning, || {
            self.listen();
            self.heard
                .iter()
                .position(|line| line.starts_with(beginning))
        });
        let before: Vec<String> = self.heard.drain(..position).collect();
        (self.heard.remove(0), before)
    }

    /// Waits until the service has been found not to work, and sees that it is not said to ever since.
    #[track_caller]
    fn hears_no_more_of(&mut self, service: &Running) {
        let missed = || {
            service
                .log()
                .matches("systemd is not told that it works")
                .count()
        };
        eventually("a missed sign of life", || missed() > 0);
        self.listen();
        self.heard.clear();
        let before = missed();
        eventually("more of them", || missed() > before + 3);
        self.listen();
        assert!(
            !self.heard.contains(&"WATCHDOG=1".to_owned()),
            "{:?}",
            self.heard
        );
    }
}

#[test]
fn it_is_ready_when_it_consumes_and_says_what_a_stop_waits_for() {
    let world = World::new(CONFIG);
    let mut systemd = Manager::in_directory(&world);
    let mut service = systemd.launch(&world, "");
    let (_, before) = systemd.await_heard("READY=1");
    assert!(
        before.iter().all(|line| !line.contains("Consuming")),
        "{before:?}"
    );
    assert!(
        service.log().contains("consuming queue"),
        "{}",
        service.log()
    );
    systemd.await_heard("STATUS=Consuming default");

    world.send(&["gated"]);
    eventually("a running task", || {
        world.directory().join("started").exists()
    });
    service.signal(Signal::TERM);
    let (_, before) = systemd.await_heard("STOPPING=1");
    assert!(!before.contains(&"READY=1".to_owned()), "{before:?}");
    systemd.await_heard("STATUS=Stopping; tasks still running: 1");
    // It works, as long as that takes.
    systemd.await_heard("WATCHDOG=1");
    world.write("go", "");
    assert_eq!(service.wait(), 0);
}

#[test]
fn it_is_ready_when_it_waits_for_a_broker_and_names_that_without_its_password() {
    let mut world = World::new(CONFIG);
    world.broker_url = "amqp://guest:s3cr3t@127.0.0.1:1/".to_owned();
    let mut systemd = Manager::abstract_for(&world);
    let mut service = systemd.launch(&world, "");
    systemd.await_heard("READY=1");
    let (status, _) = systemd.await_heard("STATUS=Waiting");
    assert!(
        status.contains("127.0.0.1:1") && !status.contains("s3cr3t"),
        "{status}"
    );
    systemd.await_heard("WATCHDOG=1");
    assert_eq!(service.terminate(), 0);
    systemd.await_heard("STOPPING=1");
}

#[test]
fn it_is_ready_when_it_waits_for_its_database() {
    let mut world = World::new(CONFIG);
    world.database_url = "postgres://carrot:s3cr3t@127.0.0.1:1/nowhere".to_owned();
    let mut systemd = Manager::abstract_for(&world);
    let mut service = systemd.launch(&world, "");
    systemd.await_heard("READY=1");
    systemd.await_heard("STATUS=Waiting: the database");
    for _ in 0..3 {
        systemd.await_heard("WATCHDOG=1");
    }
    assert_eq!(service.terminate(), 0);
}

#[test]
fn it_works_while_its_database_does_not_answer() {
    let world = World::new(CONFIG);
    let proxy = Proxy::before(&world.database_url);
    let mut systemd = Manager::abstract_for(&world);
    let mut command = systemd.command(&world);
    command.env("CARROT_DATABASE_URL", proxy.url(&world.database_url));
    let mut service = world.spawn(command);
    systemd.await_heard("STATUS=Consuming");
    proxy.hold_up();
    world.enqueue("default", "noop", 1);
    // Whoever asks it first: the ledger or another.
    service.await_log("has not answered the ");
    systemd.listen();
    systemd.heard.clear();
    for _ in 0..3 {
        systemd.await_heard("WATCHDOG=1");
    }
    proxy.let_pass();
    assert_eq!(service.terminate(), 0);
    assert!(
        !service.log().contains("systemd is not told"),
        "{}",
        service.log()
    );
}

/// A service in which that comes about with the first message is not said to work any more.
#[track_caller]
fn is_noticed(failpoint: &str) {
    let world = World::new(CONFIG);
    let mut systemd = Manager::abstract_for(&world);
    let service = systemd.launch(&world, failpoint);
    systemd.await_heard("WATCHDOG=1");
    world.enqueue("default", "noop", 1);
    systemd.hears_no_more_of(&service);
}

#[test]
fn actors_that_stand_still_are_noticed() {
    is_noticed("set.claimed=hang");
}

/// A service that loses that with its first message says so, and exits as one that is to be started again.
#[track_caller]
fn ends(failpoint: &str, what: &str) {
    for world in worlds() {
        ends_in(&world, failpoint, what);
    }
}

/// One of each broker.
fn worlds() -> [World; 2] {
    [
        World::new(CONFIG),
        World::embedded_on(Database::Sqlite, CONFIG),
    ]
}

#[track_caller]
fn ends_in(world: &World, failpoint: &str, what: &str) {
    let mut systemd = Manager::abstract_for(world);
    let mut service = systemd.launch(world, failpoint);
    systemd.await_heard("STATUS=Consuming");
    let uuid = world.send(&["noop"]);
    systemd.await_heard("STOPPING=1");
    let (status, _) = systemd.await_heard("STATUS=Failed");
    assert!(status.contains(what), "{status}");
    assert_eq!(service.wait(), 70);
    systemd.listen();
    assert!(
        systemd
            .heard
            .iter()
            .all(|line| line != "READY=1" && !line.contains("Consuming"))
    );

    let mut next = systemd.launch(world, "");
    systemd.await_heard("STATUS=Consuming");
    assert_eq!(world.ended(&uuid)["status"], "COMPLETED");
    assert_eq!(next.terminate(), 0);
}

#[test]
fn a_set_of_consumers_that_has_died_ends_the_service() {
    ends("set.claimed=panic", "the set of consumers of queue default");
}

#[test]
fn a_ledger_that_stands_still_is_noticed() {
    is_noticed("ledger.after-commit=hang");
}

#[test]
fn a_ledger_that_has_died_ends_the_service() {
    ends("ledger.after-commit=panic", "the ledger");
}

#[test]
fn a_sweep_and_a_heartbeat_that_have_died_are_at_work_again() {
    for world in worlds() {
        are_at_work_again(&world);
    }
}

#[track_caller]
fn are_at_work_again(world: &World) {
    let mut systemd = Manager::abstract_for(world);
    let failpoints = "sweep.looks=panic@2; heartbeat.beats=panic@2";
    let mut service = systemd.launch(world, failpoints);
    systemd.await_heard("STATUS=Consuming");
    service.await_log("the sweep died");
    service.await_log("the heartbeat died");
    systemd.listen();
    systemd.heard.clear();
    for _ in 0..3 {
        systemd.await_heard("WATCHDOG=1");
    }
    let uuid = world.send(&["noop"]);
    assert_eq!(world.ended(&uuid)["status"], "COMPLETED");
    assert_eq!(service.terminate(), 0);
    assert!(
        !service.log().contains("systemd is not told"),
        "{}",
        service.log()
    );
}

#[test]
fn tasks_are_not_taken_for_the_service() {
    let world = World::new(CONFIG);
    let mut systemd = Manager::in_directory(&world);
    let mut service = systemd.launch(&world, "");
    systemd.await_heard("READY=1");
    let uuid = world.send(&["tell"]);
    assert_eq!(world.ended(&uuid)["output"], "none");
    assert_eq!(service.terminate(), 0);
}

#[test]
fn a_manager_that_is_not_there_keeps_nothing_from_starting() {
    let world = World::new(CONFIG);
    let mut command = world.command(&[]);
    command.env("NOTIFY_SOCKET", world.directory().join("nobody"));
    let mut service = world.spawn(command);
    service.await_log("consuming queue");
    assert!(
        service.log().contains("systemd can't be told"),
        "{}",
        service.log()
    );
    assert_eq!(service.terminate(), 0);
}
