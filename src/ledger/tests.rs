//! What a set is told, on a database of the test's own.

use std::path::PathBuf;

use crossbeam_channel::{Receiver, unbounded};

use super::*;
use crate::health::outage::Servers;
use crate::message::{Arguments, Message};
use crate::names;
use crate::state::End;
use crate::store::{self, Database, NewRow, Session, Store, Tables, WorkerProcess};

const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Debug)]
enum Told {
    Joined(usize),
    Answers(Vec<Answer>),
    Settlement(Settlement),
}

struct Set(Sender<Told>);

impl Set {
    fn tell(&self, told: Told) {
        self.0.send(told).unwrap();
    }
}

impl Sink for Set {
    fn joined(&self, count: usize) {
        self.tell(Told::Joined(count));
    }

    fn claimed(&self, answers: Vec<Answer>, _: Duration) {
        self.tell(Told::Answers(answers));
    }

    fn settle(&self, settlement: Settlement, _: Duration) {
        self.tell(Told::Settlement(settlement));
    }

    fn looked(&self, _: HashMap<String, bool>) {}
}

/// A ledger with one message, and the set that claims it.
struct Ground {
    ledger: Ledger,
    thread: LedgerThread,
    set: Arc<dyn Sink>,
    told: Receiver<Told>,
    message: Message,
    directory: PathBuf,
}

impl Ground {
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

    fn next(&self) -> Told {
        self.told.recv_timeout(PATIENCE).unwrap()
    }

    /// Asks for the message, which has come once more.
    fn ask(&self, tag: u64) {
        let envelope = Envelope::of(self.message.clone(), receipt(tag));
        let claim = ClaimRequest {
            key: self.message.key.clone(),
            adopt: None,
        };
        let (claims, set) = (vec![(envelope, claim)], Arc::clone(&self.set));
        self.ledger.claim(&"default".into(), claims, set);
    }

    /// The answer to that.
    fn answer(&self) -> Answer {
        match self.next() {
            Told::Answers(mut answers) if answers.len() == 1 => answers.remove(0),
            other => panic!("{other:?}"),
        }
    }

    fn claim(&self, tag: u64) -> RunId {
        self.ask(tag);
        match self.answer() {
            Answer::Ours(attempt) => attempt.run,
            other => panic!("{other:?}"),
        }
    }

    fn settlement(&self) -> Settlement {
        match self.next() {
            Told::Settlement(settlement) => settlement,
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

const fn receipt(tag: u64) -> DeliveryHandle {
    DeliveryHandle { epoch: 1, tag }
}

#[test]
fn a_run_that_was_given_up_and_returns_late_leaves_its_successor_alone() {
    let ground = Ground::new();
    let key = || ground.message.key.clone();
    let first = ground.claim(1);
    ground.ledger.release(vec![(first, key())]);
    assert_eq!(ground.settlement().give_back, [receipt(1)]);
    let second = ground.claim(2);

    ground.finish(first, End::Failed);
    ground.ledger.release(vec![(first, key())]);
    ground.ledger.abandon(first, key());
    let begin = Begin {
        key: key(),
        attempts: 7,
    };
    assert!(!ground.ledger.begin(first, begin));
    assert!(ground.told.is_empty());

    ground.finish(second, End::Completed);
    let settlement = ground.settlement();
    assert_eq!(settlement.accept, [receipt(2)]);
    assert_eq!((settlement.finished, settlement.released), (1, 0));
    ground.ask(3);
    let answer = ground.answer();
    let is_completed = matches!(answer, Answer::Final(_, Status::Completed));
    assert!(is_completed, "{answer:?}");
    ground.end();
}

#[test]
fn a_run_that_was_given_up_counts_where_no_other_has_begun() {
    let ground = Ground::new();
    let run = ground.claim(1);
    (ground.ledger).release(vec![(run, ground.message.key.clone())]);
    assert_eq!(ground.settlement().give_back, [receipt(1)]);
    ground.finish(run, End::Completed);
    ground.ask(2);
    let answer = ground.answer();
    let is_completed = matches!(answer, Answer::Final(_, Status::Completed));
    assert!(is_completed, "{answer:?}");
    ground.end();
}

#[test]
fn that_a_delivery_has_joined_a_run_is_told_before_it_is_settled_with_that() {
    let ground = Ground::new();
    let run = ground.claim(1);
    ground.ask(2);
    ground.finish(run, End::Completed);
    let told = ground.next();
    assert!(matches!(told, Told::Joined(1)), "{told:?}");
    let settlement = ground.settlement();
    assert_eq!(settlement.accept, [receipt(1), receipt(2)]);
    assert_eq!(settlement.finished, 1);
    ground.end();
}
