//! What the ledger reports to a set, on a database of the test's own.

use std::collections::HashMap;
use std::path::PathBuf;

use crossbeam_channel::{Receiver, unbounded};

use super::*;
use crate::broker::DeliveryHandle;
use crate::health::outage::Servers;
use crate::message::{Arguments, Message};
use crate::names;
use crate::state::{End, Status};
use crate::store::{self, Database, NewRow, Session, Store, Tables, WorkerId, WorkerProcess};

const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Debug)]
enum ListenerCall {
    Joined(usize),
    Claimed(Vec<ClaimOutcome>),
    Settlement(Settlement),
}

struct Set(Sender<ListenerCall>);

impl Set {
    fn record(&self, told: ListenerCall) {
        self.0.send(told).unwrap();
    }
}

impl LedgerListener for Set {
    fn joined(&self, count: usize) {
        self.record(ListenerCall::Joined(count));
    }

    fn claimed(&self, answers: Vec<ClaimOutcome>, _: Duration) {
        self.record(ListenerCall::Claimed(answers));
    }

    fn settle(&self, settlement: Settlement, _: Duration) {
        self.record(ListenerCall::Settlement(settlement));
    }

    fn looked_up(&self, _: HashMap<String, bool>) {}
}

/// A ledger with one message, and the set that claims it.
struct TestLedger {
    ledger: Ledger,
    thread: LedgerThread,
    set: Arc<dyn LedgerListener>,
    told: Receiver<ListenerCall>,
    message: Message,
    directory: PathBuf,
}

impl TestLedger {
    fn new() -> Self {
        let directory = std::env::temp_dir().join(format!("carrot-ledger-{}", names::new_key()));
        std::fs::create_dir(&directory).unwrap();
        let url = format!("sqlite://{}", directory.join("carrot.db").display());
        let store: Arc<dyn Store> = store::open(&url.parse().unwrap(), Tables::Plain)
            .unwrap()
            .into();
        let mut session = store::session(store.as_ref()).unwrap();
        let message = Message::new("task", Arguments::default(), "default");
        session.record(&[NewRow::pending(&message)]).unwrap();
        let setup = LedgerSetup {
            owner: register(session.as_mut()),
            counts_before_start: false,
            database: Database::of(store, &Servers::default(), "the ledger"),
            namespace: "here".to_owned(),
            cancelled: Arc::default(),
        };
        let (ledger, thread) = start(setup, DeathNotice::new("the ledger", unbounded().0)).unwrap();
        let (sender, told) = unbounded();
        Self {
            ledger,
            thread,
            set: Arc::new(Set(sender)),
            told,
            message,
            directory,
        }
    }

    fn next(&self) -> ListenerCall {
        self.told.recv_timeout(PATIENCE).unwrap()
    }

    /// Claims the message, as if it was delivered once more.
    fn ask(&self, tag: u64) {
        let envelope = Envelope::of_recorded(self.message.clone(), handle(tag));
        let claim = ClaimRequest {
            key: self.message.key.clone(),
            adopt: None,
        };
        let (claims, set) = (vec![(envelope, claim)], Arc::clone(&self.set));
        self.ledger.claim(&"default".into(), claims, set);
    }

    /// The outcome of that claim.
    fn answer(&self) -> ClaimOutcome {
        match self.next() {
            ListenerCall::Claimed(mut answers) if answers.len() == 1 => answers.remove(0),
            other => panic!("{other:?}"),
        }
    }

    fn claim(&self, tag: u64) -> RunId {
        self.ask(tag);
        match self.answer() {
            ClaimOutcome::Ours(attempt) => attempt.run,
            other => panic!("{other:?}"),
        }
    }

    fn settlement(&self) -> Settlement {
        match self.next() {
            ListenerCall::Settlement(settlement) => settlement,
            other => panic!("{other:?}"),
        }
    }

    fn finish(&self, run: RunId, end: End) {
        let finish = Finish {
            key: self.message.key.clone(),
            end,
            attempts: 1,
            output: None,
            exception: None,
            traceback: None,
            log: None,
        };
        self.ledger.finish(run, finish, Duration::ZERO);
    }

    fn end(self) {
        drop(self.ledger);
        self.thread.join();
        assert!(self.told.is_empty());
        std::fs::remove_dir_all(self.directory).unwrap();
    }
}

fn register(session: &mut dyn Session) -> WorkerId {
    let process = WorkerProcess {
        host: "here".to_owned(),
        namespace: "here".to_owned(),
        pid: 1,
        process_start: 1,
    };
    session.register(&process).unwrap()
}

const fn handle(tag: u64) -> DeliveryHandle {
    DeliveryHandle { epoch: 1, tag }
}

#[test]
fn a_run_that_was_given_up_and_ends_late_leaves_its_successor_alone() {
    let test = TestLedger::new();
    let key = || test.message.key.clone();
    let first = test.claim(1);
    test.ledger.release(vec![(first, key())]);
    assert_eq!(test.settlement().give_back, [handle(1)]);
    let second = test.claim(2);

    test.finish(first, End::Failed);
    test.ledger.release(vec![(first, key())]);
    test.ledger.abandon(first, key());
    let begin = Begin {
        key: key(),
        attempts: 7,
    };
    assert!(!test.ledger.begin(first, begin));
    assert!(test.told.is_empty());

    test.finish(second, End::Completed);
    let settlement = test.settlement();
    assert_eq!(settlement.accept, [handle(2)]);
    assert_eq!((settlement.finished, settlement.released), (1, 0));
    test.ask(3);
    let answer = test.answer();
    let is_completed = matches!(answer, ClaimOutcome::Final(_, Status::Completed));
    assert!(is_completed, "{answer:?}");
    test.end();
}

#[test]
fn a_run_that_was_given_up_counts_where_no_other_has_begun() {
    let test = TestLedger::new();
    let run = test.claim(1);
    (test.ledger).release(vec![(run, test.message.key.clone())]);
    assert_eq!(test.settlement().give_back, [handle(1)]);
    test.finish(run, End::Completed);
    test.ask(2);
    let answer = test.answer();
    let is_completed = matches!(answer, ClaimOutcome::Final(_, Status::Completed));
    assert!(is_completed, "{answer:?}");
    test.end();
}

#[test]
fn a_joined_delivery_is_reported_before_its_run_settles_it() {
    let test = TestLedger::new();
    let run = test.claim(1);
    test.ask(2);
    test.finish(run, End::Completed);
    let told = test.next();
    assert!(matches!(told, ListenerCall::Joined(1)), "{told:?}");
    let settlement = test.settlement();
    assert_eq!(settlement.accept, [handle(1), handle(2)]);
    assert_eq!(settlement.finished, 1);
    test.end();
}
