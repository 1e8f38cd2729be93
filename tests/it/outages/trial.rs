//! Services at work whose server goes away, and the checks of what their user sees.

use std::collections::HashSet;
use std::fs;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use carrot_actors::Client;
use uuid::Uuid;

use crate::support::{Outage, OwnServer, Raw, Running, World, eventually, text};

/// Longer than the broker's heartbeats allow, and than a worker's heartbeat may be old.
const LONG: Duration = Duration::from_secs(24);

/// Long enough to see whether a service is busy for nothing.
pub const SHORT: Duration = Duration::from_secs(3);

/// How the log says that a server is away, and that it is back.
const AWAY: [&str; 4] = [
    " is away: ",
    " has not answered ",
    " waits: ",
    " is not consumed: ",
];
const BACK: [&str; 4] = [
    " is back after ",
    " answers again after ",
    " goes on after ",
    " is consumed again after ",
];

/// Services that must survive an outage, in a world with the tasks of `traced_config`.
pub struct Trial {
    pub services: Vec<Running>,
    pub world: World,
    /// All messages that were sent.
    pub uuids: Vec<String>,
    /// What the log calls the server that goes away.
    pub server: &'static str,
    /// The memory of each service before the outage, in KiB.
    memory: Vec<u64>,
}

/// Sends a message by the command line, which needs the database.
pub fn by_command(world: &World) -> String {
    world.send(&["note"])
}

/// Publishes a message to RabbitMQ without a row, which needs no database.
pub fn by_a_stranger(world: &World) -> String {
    let uuid = Uuid::new_v4().to_string();
    world.publish(&[Raw::foreign("note", Some(&uuid), "{}")]);
    uuid
}

/// Sends messages while the database is away: to RabbitMQ, or, with the embedded broker, by a program that
/// retries until it has its receipt.
pub fn while_the_database_is_away() -> impl Fn(&World) -> String + Sync {
    let client = OnceLock::new();
    move |world| match world.is_embedded() {
        false => by_a_stranger(world),
        true => eventually("the program has a receipt", || by_a_program(world, &client)),
    }
}

/// Sends a message by a client, which connects when the database is up.
fn by_a_program(world: &World, client: &OnceLock<Client>) -> Option<String> {
    if client.get().is_none() {
        let connected = Client::connect(world.config()).ok()?;
        client.get_or_init(|| connected);
    }
    let receipt = client.get()?.task("note").publish();
    receipt.ok().map(|receipt| receipt.uuid)
}

impl Trial {
    /// For services that may not be at work yet.
    pub fn of(world: World, services: Vec<Running>, server: &'static str) -> Self {
        Self {
            memory: services.iter().map(memory).collect(),
            uuids: Vec::new(),
            services,
            world,
            server,
        }
    }

    /// Waits until the services are at work with all their connections.
    #[track_caller]
    pub fn begin(world: World, services: Vec<Running>, server: &'static str) -> Self {
        for service in &services {
            service.await_log("consuming queue");
        }
        let uuids: Vec<String> = (0..4 * services.len())
            .map(|_| world.send(&["note"]))
            .collect();
        world.await_completed(uuids.len());
        Self {
            uuids,
            ..Self::of(world, services, server)
        }
    }

    /// Keeps sending messages during `outage`, and until some more messages are COMPLETED.
    #[track_caller]
    pub fn send_during(
        &mut self,
        send: impl Fn(&World) -> String + Sync,
        outage: impl FnOnce(&Self),
    ) {
        let sent = self.sent_during(send, outage);
        self.uuids.extend(sent);
    }

    /// The same; returns the messages that were sent.
    #[track_caller]
    pub fn sent_during(
        &self,
        send: impl Fn(&World) -> String + Sync,
        outage: impl FnOnce(&Self),
    ) -> Vec<String> {
        /// Stops the sender when `outage` returns or panics.
        struct Over<'a>(&'a AtomicBool);
        impl Drop for Over<'_> {
            fn drop(&mut self) {
                self.0.store(true, Ordering::Relaxed);
            }
        }
        let over = AtomicBool::new(false);
        thread::scope(|scope| {
            let sender = scope.spawn(|| {
                let mut sent = Vec::new();
                while !over.load(Ordering::Relaxed) {
                    sent.push(send(&self.world));
                    thread::sleep(Duration::from_millis(20));
                }
                sent
            });
            {
                let _over = Over(&over);
                outage(self);
                let completed = self.world.count("COMPLETED");
                self.world.await_completed(completed + 10);
            }
            sender.join().unwrap()
        })
    }

    /// Waits until each service has logged that its server is away.
    #[track_caller]
    pub fn await_away(&self) {
        for service in &self.services {
            eventually("the service logs the outage", || {
                !self.news(service).away.is_empty()
            });
        }
    }

    /// Lets some time pass, and fails if the services were busy in it.
    #[track_caller]
    pub fn idle_for(&self, time: Duration) {
        let before: Vec<_> = self.services.iter().map(processor_time).collect();
        thread::sleep(time);
        for (service, before) in self.services.iter().zip(before) {
            let busy = processor_time(service) - before;
            assert!(busy < time / 5, "{busy:?} of processor time in {time:?}");
        }
    }

    /// Takes the server away until all services have noticed and were idle for a while. `meanwhile` is called
    /// when they have noticed.
    #[track_caller]
    pub fn take_away(&self, server: &OwnServer, outage: Outage, meanwhile: impl FnOnce()) {
        let began = Instant::now();
        let away = server.take_away(outage);
        self.await_away();
        meanwhile();
        let rest = match outage {
            Outage::Freeze => LONG.saturating_sub(began.elapsed()).max(SHORT),
            Outage::Stop | Outage::Kill => SHORT,
        };
        self.idle_for(rest);
        away.end();
    }

    /// Fails if a service uses more memory than before, apart from what its prefetch allows.
    #[track_caller]
    pub fn assert_small(&self) {
        for (service, before) in self.services.iter().zip(&self.memory) {
            let grown = memory(service).saturating_sub(*before);
            assert!(grown < 30 * 1024, "it has grown by {grown} KiB");
        }
    }

    /// Waits until each service has logged `count` times that its server is back.
    #[track_caller]
    pub fn await_back(&self, count: usize) {
        for service in &self.services {
            eventually("the service logs the end of the outage", || {
                self.news(service).back.len() >= count
            });
        }
    }

    /// Checks what must hold after an outage.
    #[track_caller]
    pub fn assert_survived(self) {
        self.assert_survived_outages(1);
    }

    /// Checks what must hold after `count` outages.
    #[track_caller]
    pub fn assert_survived_outages(mut self, count: usize) {
        self.add_what_has_no_receipt();
        for uuid in &self.uuids {
            let row = self.world.ended(uuid);
            assert_eq!(row["status"], "COMPLETED", "{row}");
        }
        self.await_back(count);
        self.assert_small();
        let logs: Vec<_> = self
            .services
            .iter()
            .map(|service| service.log.clone())
            .collect();
        let services = std::mem::take(&mut self.services);
        self.world.assert_all_well(services, &self.uuids);
        for log in logs {
            let log = fs::read_to_string(log).unwrap();
            let News { away, back } = self.news_in(&log);
            let said = (away.len(), back.len());
            assert_eq!(said, (count, count), "{away:#?} {back:#?}");
            let errors = log.lines().filter(|line| line.contains(" ERROR:: "));
            assert_eq!(errors.collect::<Vec<_>>(), away);
        }
    }

    /// Adds messages that were recorded just when the database went away, so that their program got no
    /// receipt. They are run as well.
    fn add_what_has_no_receipt(&mut self) {
        if !self.world.is_embedded() {
            return;
        }
        let rows = self.world.rows("SELECT uuid FROM carrot_messagelog");
        let recorded: HashSet<_> = rows
            .iter()
            .map(|row| text(row, "uuid").to_owned())
            .collect();
        for uuid in &self.uuids {
            assert!(recorded.contains(uuid), "{uuid} is lost");
        }
        self.uuids = recorded.into_iter().collect();
    }

    /// What the service has logged so far.
    pub fn news(&self, service: &Running) -> News {
        self.news_in(&service.log())
    }

    fn news_in(&self, log: &str) -> News {
        let lines = |level: &str, said: &[&str]| {
            let start = format!(" {level}:: {} ", self.server);
            log.lines()
                .filter(|line| line.contains(&start))
                .filter(|line| said.iter().any(|said| line.contains(said)))
                .map(str::to_owned)
                .collect()
        };
        News {
            away: lines("ERROR", &AWAY),
            back: lines("WARNING", &BACK),
        }
    }
}

/// What a log says of a server.
pub struct News {
    pub away: Vec<String>,
    pub back: Vec<String>,
}

/// The processor time that a process itself has used: fields 14 and 15 of proc(5)'s `stat`, in ticks of 10
/// ms.
fn processor_time(service: &Running) -> Duration {
    let pid = service.pid().as_raw_nonzero();
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let after_name = stat.rsplit_once(')').unwrap().1;
    let fields = after_name.split_whitespace().skip(11).take(2);
    let ticks: u64 = fields.map(|field| field.parse::<u64>().unwrap()).sum();
    Duration::from_millis(10 * ticks)
}

/// The resident memory of a process, in KiB.
fn memory(service: &Running) -> u64 {
    let pid = service.pid().as_raw_nonzero();
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let number = line.unwrap().trim().strip_suffix(" kB").unwrap();
    number.parse().unwrap()
}
