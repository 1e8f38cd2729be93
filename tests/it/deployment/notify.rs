//! What a service tells systemd by the notification socket: when it is up, its status, that it stops, and
//! whether it still works.

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

/// A watchdog period of 2 s. The service tells that it works after half of it, and logs that it does not
/// after three quarters.
const WATCHDOG: &str = "2000000";

/// systemd's end of the socket.
struct Manager {
    socket: UnixDatagram,
    name: String,
    heard: Vec<String>,
}

impl Manager {
    /// With a socket at a path.
    fn in_directory(world: &World) -> Self {
        let path = world.directory().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        Self::on(socket, path.to_str().unwrap().to_owned())
    }

    /// With an abstract socket, as in containers.
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

    /// Starts the service as systemd does.
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

    /// Reads what has been sent so far, and adds each assignment to `heard`.
    fn listen(&mut self) {
        let mut datagram = [0; 4096];
        while let Ok(length) = self.socket.recv(&mut datagram) {
            let text = std::str::from_utf8(&datagram[..length]).unwrap();
            self.heard.extend(text.lines().map(str::to_owned));
        }
    }

    /// Waits for an assignment that begins like this, and returns it with those that came before it.
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

    /// Waits until the service has failed its own check, and fails if it still tells systemd that it works.
    #[track_caller]
    fn assert_not_told_that_it_works(&mut self, service: &Running) {
        let missed = || {
            service
                .log()
                .matches("systemd is not told that it works")
                .count()
        };
        eventually("the service logs that it does not work", || missed() > 0);
        self.listen();
        self.heard.clear();
        let before = missed();
        eventually("the service logs it again", || missed() > before + 3);
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
    eventually("the task runs", || {
        world.directory().join("started").exists()
    });
    service.signal(Signal::TERM);
    let (_, before) = systemd.await_heard("STOPPING=1");
    assert!(!before.contains(&"READY=1".to_owned()), "{before:?}");
    systemd.await_heard("STATUS=Stopping; tasks still running: 1");
    // It tells systemd that it works, as long as the task takes.
    systemd.await_heard("WATCHDOG=1");
    world.write("go", "");
    assert_eq!(service.wait(), 0);
}

#[test]
fn it_is_ready_when_it_waits_for_a_broker_which_it_names_without_the_password() {
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
    // Either the ledger or another part logs this.
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

/// A service that hangs at this failpoint with its first message does not tell systemd any more that it
/// works.
#[track_caller]
fn assert_hang_is_noticed(failpoint: &str) {
    let world = World::new(CONFIG);
    let mut systemd = Manager::abstract_for(&world);
    let service = systemd.launch(&world, failpoint);
    systemd.await_heard("WATCHDOG=1");
    world.enqueue("default", "noop", 1);
    systemd.assert_not_told_that_it_works(&service);
}

#[test]
fn actors_that_hang_are_noticed() {
    assert_hang_is_noticed("set.claimed=hang");
}

/// A service that loses this part with its first message tells systemd, and exits with a code for which
/// systemd starts it again.
#[track_caller]
fn assert_ends(failpoint: &str, what: &str) {
    for world in worlds() {
        assert_ends_in(&world, failpoint, what);
    }
}

/// One world with each broker.
fn worlds() -> [World; 2] {
    [
        World::new(CONFIG),
        World::embedded_on(Database::Sqlite, CONFIG),
    ]
}

#[track_caller]
fn assert_ends_in(world: &World, failpoint: &str, what: &str) {
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
    assert_ends("set.claimed=panic", "the set of consumers of queue default");
}

#[test]
fn a_ledger_that_hangs_is_noticed() {
    assert_hang_is_noticed("ledger.after-commit=hang");
}

#[test]
fn a_ledger_that_has_died_ends_the_service() {
    assert_ends("ledger.after-commit=panic", "the ledger");
}

#[test]
fn a_sweep_and_a_heartbeat_that_have_died_are_restarted() {
    for world in worlds() {
        assert_parts_restart(&world);
    }
}

#[track_caller]
fn assert_parts_restart(world: &World) {
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
fn tasks_can_not_notify_systemd_for_the_service() {
    let world = World::new(CONFIG);
    let mut systemd = Manager::in_directory(&world);
    let mut service = systemd.launch(&world, "");
    systemd.await_heard("READY=1");
    let uuid = world.send(&["tell"]);
    assert_eq!(world.ended(&uuid)["output"], "none");
    assert_eq!(service.terminate(), 0);
}

#[test]
fn a_service_starts_without_a_listening_manager() {
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
