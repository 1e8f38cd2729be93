//! What every implementation of `Store` must do, on each database.

mod claims;
mod contention;
mod finishes;
mod pruning;
mod publishing;
mod put_offs;
mod republishing;
mod schedules;
mod waiting;
mod workers;

use carrot_actors::internals::state::{End, Status};
use carrot_actors::internals::store::{
    self, Batch, BatchResult, Begin, Claim, ClaimRequest, Finish, NewRow, Session, Store,
    TestSession, WorkerId, WorkerProcess,
};
use carrot_actors::message::{Arguments, Message};
use serde_json::json;

use crate::support::{Backend, World};

/// The store of a world's database.
fn open(world: &World) -> Box<dyn Store> {
    store::open_for(&world.config()).unwrap()
}

/// A world, a session of its store, and a worker that is registered.
fn trial(backend: impl Into<Backend>) -> (World, Box<dyn TestSession>, WorkerId) {
    let world = backend.into().world("");
    let mut session = store::connect_for_tests(&world.config()).unwrap();
    let worker = session.register(&process(1)).unwrap();
    (world, session, worker)
}

fn process(pid: i32) -> WorkerProcess {
    WorkerProcess {
        host: "host".to_owned(),
        namespace: "namespace".to_owned(),
        pid,
        process_start: 12,
    }
}

fn messages(count: usize) -> Vec<Message> {
    let message = |nth| {
        let arguments = Arguments {
            args: vec![json!(nth), json!("ü'\"\\%")],
            ..Arguments::default()
        };
        Message::new("app.tasks.noop", arguments, "default")
    };
    (0..count).map(message).collect()
}

/// Inserts messages that are PUBLISHED; their keys.
fn published(session: &mut dyn Session, count: usize) -> Vec<String> {
    let messages = messages(count);
    let rows: Vec<NewRow> = messages.iter().map(NewRow::pending).collect();
    let keys: Vec<String> = rows.iter().map(|row| row.key.clone()).collect();
    session.record(&rows).unwrap();
    session.mark_published(&keys).unwrap();
    keys
}

fn claims(keys: &[String]) -> Batch {
    let claim = |key: &String| ClaimRequest {
        key: key.clone(),
        adopt: None,
    };
    Batch {
        claims: keys.iter().map(claim).collect(),
        ..Batch::default()
    }
}

#[track_caller]
fn claim(session: &mut dyn Session, worker: WorkerId, keys: &[String]) -> Vec<Claim> {
    session.write(worker, &claims(keys)).unwrap().claims
}

fn finish(key: &str, end: End) -> Finish {
    Finish {
        key: key.to_owned(),
        end,
        attempts: 1,
        output: None,
        exception: None,
        traceback: None,
        log: None,
    }
}

fn finishes(keys: &[String], end: End) -> Batch {
    Batch {
        finishes: keys.iter().map(|key| finish(key, end)).collect(),
        ..Batch::default()
    }
}

#[track_caller]
fn write(session: &mut dyn Session, worker: WorkerId, batch: &Batch) -> BatchResult {
    session.write(worker, batch).unwrap()
}

const FRESH: Claim = Claim::Ours {
    attempts: 0,
    crash_suspect: false,
};

const SUSPECT: Claim = Claim::Ours {
    attempts: 0,
    crash_suspect: true,
};

/// The first run of a message.
fn begin(key: &str) -> Begin {
    Begin {
        key: key.to_owned(),
        attempts: 1,
    }
}

/// The workers whose heartbeat is too old.
fn silent_workers(session: &mut dyn Session) -> Vec<WorkerId> {
    let heartbeats = session.heartbeats().unwrap().into_iter();
    let old = heartbeats.filter(|heartbeat| heartbeat.is_old);
    old.map(|heartbeat| heartbeat.worker).collect()
}

/// Removes the workers whose heartbeat is too old; how many.
fn remove_silent_workers(session: &mut dyn Session) -> usize {
    let silent = silent_workers(session);
    session.deregister(&silent).unwrap();
    silent.len()
}

impl World {
    #[track_caller]
    fn assert_status(&self, key: &str, status: Status) {
        assert_eq!(self.find(key).unwrap()["status"], status.as_str());
    }

    /// Makes the worker's last heartbeat so many seconds old.
    fn silence(&self, worker: WorkerId, seconds: u64) {
        self.execute(&format!(
            "UPDATE carrot_worker SET heartbeat = {} WHERE id = {}",
            self.database.ago(seconds),
            worker.0
        ));
    }

    /// Makes all leases expire.
    fn end_leases(&self) {
        self.execute(&format!(
            "UPDATE carrot_messagelog SET due_time = {} WHERE due_time IS NOT NULL",
            self.database.ago(1)
        ));
    }
}
