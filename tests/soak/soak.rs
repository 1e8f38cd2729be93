//! One soak, shared by all its threads.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use fastrand::Rng;
use serde_json::Value;

use crate::support::{Database, World};
use crate::task::{QUEUES, Sent, configuration};
use crate::{count, outages, schedules, senders, services};

/// Long enough for outages that are longer than heartbeats allow.
const LONG: Duration = Duration::from_secs(120);

pub struct Soak {
    pub world: World,
    pub length: Duration,
    began: Instant,
    over: AtomicBool,
    notes: Mutex<Notes>,
}

/// What happened in the soak.
#[derive(Default)]
pub struct Notes {
    pub sent: Vec<Sent>,
    /// How many messages each sender has sent.
    pub by: BTreeMap<&'static str, usize>,
    /// Messages of a failed `send`, which may or may not have a row.
    pub in_doubt: usize,
    /// How often a message was published without a confirm, and so published again.
    pub unconfirmed: usize,
    /// How many outages of each kind there were.
    pub outages: BTreeMap<String, usize>,
    /// Rows that were seen to be final.
    pub seen: HashMap<String, Value>,
    /// The faults.
    pub faults: Vec<String>,
}

impl Soak {
    /// Runs the soak, counts, and panics if something is wrong.
    pub fn run(database: Database, length: Duration, mut random: Rng) {
        eprintln!("\n== soak on {database:?} for {length:?}");
        let world = World::on(database, &configuration());
        services::declare_queues(&world, &QUEUES);
        let soak = Self {
            world,
            length,
            began: Instant::now(),
            over: AtomicBool::new(false),
            notes: Mutex::default(),
        };
        schedules::begin(&soak);
        let mut crew = services::Crew::start(&soak);
        let mut rng = || random.fork();
        thread::scope(|scope| {
            let soak = &soak;
            let spawn = |work: fn(&Soak, Rng), random: Rng| {
                scope.spawn(move || soak.until_it_is_over(|| work(soak, random)));
            };
            spawn(senders::as_django, rng());
            spawn(senders::as_a_stranger, rng());
            spawn(senders::by_command, rng());
            spawn(outages::of_the_broker, rng());
            spawn(outages::of_the_database, rng());
            spawn(count::watch, rng());
            soak.until_it_is_over(|| crew.trouble(soak, rng()));
        });
        schedules::end(&soak);
        count::settle(&soak);
        crew.stop(&soak);
        count::count(&soak);
    }

    /// Does `work`; a panic in it ends the soak for all threads.
    fn until_it_is_over(&self, work: impl FnOnce()) {
        struct Ends<'a>(&'a Soak);
        impl Drop for Ends<'_> {
            fn drop(&mut self) {
                if thread::panicking() {
                    self.0.over.store(true, Ordering::Relaxed);
                }
            }
        }
        let _ends = Ends(self);
        work();
    }

    pub fn goes_on(&self) -> bool {
        self.began.elapsed() < self.length && !self.over.load(Ordering::Relaxed)
    }

    /// Sleeps, but not past the end of the soak.
    pub fn pause(&self, time: Duration) {
        let end = Instant::now() + time;
        while self.goes_on() && Instant::now() < end {
            thread::sleep(Duration::from_millis(10).min(time));
        }
    }

    /// Sleeps for a random time in this range, in milliseconds.
    pub fn pause_within(&self, random: &mut Rng, milliseconds: Range<u64>) {
        self.pause(Duration::from_millis(random.u64(milliseconds)));
    }

    /// Whether there is time for outages that are longer than heartbeats allow.
    pub fn is_long(&self) -> bool {
        self.length >= LONG
    }

    pub fn notes(&self) -> MutexGuard<'_, Notes> {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn outage(&self, what: &str) {
        self.say(what);
        *self.notes().outages.entry(what.to_owned()).or_default() += 1;
    }

    pub fn fault(&self, what: String) {
        self.say(&format!("FAULT: {what}"));
        self.notes().faults.push(what);
    }

    pub fn say(&self, what: &str) {
        eprintln!("{:7.1} s  {what}", self.began.elapsed().as_secs_f64());
    }
}
