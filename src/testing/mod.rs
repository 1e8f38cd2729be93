//! Tests of an app's tasks: in the test's own process, without a broker, and without waiting.
//!
//! ```
//! use carrot_actors::{App, Args, Client, PublishError, TaskError};
//!
//! fn greet(Args((name,)): Args<(String,)>) -> Result<String, TaskError> {
//!     Ok(format!("Hello {name}"))
//! }
//!
//! fn invite(Args(names): Args<Vec<String>>, client: Client) -> Result<usize, PublishError> {
//!     for name in &names {
//!         client.task("greet").args((name,)).publish()?;
//!     }
//!     Ok(names.len())
//! }
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let mut app = App::new().task("greet", greet).task("invite", invite).test()?;
//!
//! let invited = app.run(app.task("invite").args(["Ada", "Eve"]))?;
//! assert_eq!(invited.result.unwrap(), 2);
//! assert_eq!(invited.published.len(), 2);
//! assert_eq!(invited.published[0].task, "greet");
//!
//! let greeted = app.run_until_idle()?;
//! assert_eq!(greeted[1].result.as_ref().unwrap(), "Hello Eve");
//! # Ok(())
//! # }
//! ```
//!
//! Delays are skipped, and schedules publish nothing: a test runs their tasks itself. A transaction that records
//! messages works as usual, on the database that the configuration names; the messages are there once it has
//! committed:
//!
//! ```
//! use std::sync::{Arc, Mutex};
//!
//! use carrot_actors::transaction::{RecordError, diesel};
//! use carrot_actors::{App, Args, Client, Config, State, TaskError};
//! use diesel::connection::SimpleConnection;
//! use diesel::prelude::*;
//!
//! struct Db(Mutex<SqliteConnection>);
//!
//! fn connect(config: &Arc<Config>) -> Result<Db, Box<dyn std::error::Error + Send + Sync>> {
//!     let mut db = SqliteConnection::establish(config.database_url.expose())?;
//!     // The service has a connection of its own: wait until it has written.
//!     db.batch_execute("PRAGMA busy_timeout = 5000")?;
//!     Ok(Db(Mutex::new(db)))
//! }
//!
//! fn sign_up(
//!     Args((name,)): Args<(String,)>,
//!     db: State<Db>,
//!     client: Client,
//! ) -> Result<(), RecordError> {
//!     let mut db = db.0.lock().unwrap();
//!     db.immediate_transaction(|db| {
//!         client.task("greet").args((name,)).record(db)?;
//!         Ok(())
//!     })
//! }
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let greet = |Args((name,)): Args<(String,)>| Ok::<_, TaskError>(format!("Hello {name}"));
//! let app = App::new().task("sign_up", sign_up).task("greet", greet).state_with(connect);
//! let mut app = app.test()?;
//!
//! let signed_up = app.run(app.task("sign_up").args(("Ada",)))?;
//! assert_eq!(signed_up.published[0].task, "greet");
//! assert_eq!(app.run_until_idle()?[0].result.as_ref().unwrap(), "Hello Ada");
//! # Ok(())
//! # }
//! ```
//!
//! Tasks run on the test's own thread. In a `#[tokio::test]`, or if another runtime is current, they run on a thread
//! of their own, and the test's thread waits for them. State that the test has made on its runtime can make progress
//! meanwhile only if that runtime has more threads: `#[tokio::test(flavor = "multi_thread")]`. State that the app
//! makes itself ([`App::state_with`](crate::App::state_with)) makes progress in any case.

use std::collections::{BTreeSet, VecDeque};
use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use serde_json::Value;

use crate::broker::{DeliveryHandle, Envelope};
use crate::client::{Client, Draft, PublishError};
use crate::config::{Config, ConfigError, Defaults, Environment};
use crate::execution::{self, Attempt, Executor, PriorRuns, PutOffLimits, Runtime};
use crate::logging;
use crate::message::Message;
use crate::names;
use crate::service::ServiceError;
use crate::store::liveness;
use crate::store::{self, Batch, Claim, ClaimRequest, StoreError, TestSession, WorkerId};
use crate::task::{Registry, RunId, TaskError};

/// How many messages are taken from the database at once.
const BATCH_SIZE: usize = 500;

/// Why a test's call failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TestError {
    /// The app is invalid, or its database can't be used.
    #[error(transparent)]
    Service(#[from] ServiceError),
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The message is invalid.
    #[error(transparent)]
    Publish(#[from] PublishError),
    /// The configuration is wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// No directory can be made for the database.
    #[error("a directory for the test can't be made: {0}")]
    System(#[from] io::Error),
    /// Another process has taken the message.
    #[error("message {0} can't be run: another process has taken it from this database")]
    NotThere(String),
    /// More messages than any test is meant to run: each may publish the next.
    #[error("messages are left after {0} runs")]
    NeverIdle(usize),
}

/// The outcome of a message's run.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Outcome {
    /// The message's uuid.
    pub uuid: String,
    /// The task's name.
    pub task: String,
    /// What the task returned, or why the message is FAILED: an error, a panic or invalid arguments. If the error
    /// says [`again`](TaskError::again), the task has handed the message back; the test does not run it again.
    pub result: Result<Value, TaskError>,
    /// What the task logged, as the row has it. If the test has set a logger of its own, that gets the task's lines,
    /// and this has only those about the task's start and end.
    pub log: String,
    /// The messages that were published, or recorded in a transaction, during the run.
    pub published: Vec<Message>,
}

/// An app whose tasks run when the test asks for it. Published messages wait in a database of the test's own until
/// the test runs them; delays are skipped.
pub struct TestApp {
    config: Arc<Config>,
    client: Client,
    executor: Executor,
    /// Dropped after the tasks' shared state.
    _runtime: Runtime,
    session: Box<dyn TestSession>,
    worker: WorkerId,
    queued: VecDeque<Message>,
    /// Removed last, after everything that has files open in it.
    _directory: Option<TestDirectory>,
}

impl TestApp {
    /// Makes the app, with an SQLite database of its own, which is removed when this is dropped.
    pub(crate) fn of(
        tasks: impl FnOnce(Client) -> Result<Registry, TestError>,
        defaults: &Defaults,
    ) -> Result<Self, TestError> {
        let directory = TestDirectory::new()?;
        let url = format!("sqlite://{}", directory.0.join("carrot.db").display());
        let environment = Environment::from_pairs([("CARROT_DATABASE_URL", url)]);
        fs::write(directory.0.join("carrot.toml"), "")?;
        let config = Config::load_over(defaults, None, &environment, &directory.0)?;
        Self::with(tasks, config, Some(directory))
    }

    /// Makes the app, with the test's configuration.
    pub(crate) fn with(
        tasks: impl FnOnce(Client) -> Result<Registry, TestError>,
        config: Config,
        directory: Option<TestDirectory>,
    ) -> Result<Self, TestError> {
        logging::only_capture();
        let config = Arc::new(config);
        let client = Client::recording(Arc::clone(&config));
        let mut registry = tasks(client.clone())?;
        let runtime = Runtime::start()?;
        let reactor = runtime.handle().clone();
        let made = execution::outside_runtime(|| {
            let _entered = reactor.enter();
            registry.make_states(&config)
        });
        made?.map_err(ServiceError::from)?;
        // Also makes the tables.
        store::session(store::open_for(&config)?.as_ref())?;
        let mut session = store::connect_for_tests(&config)?;
        let worker = session.register(&liveness::this_process()?)?;
        Ok(Self {
            executor: Executor::new(registry, config.max_crashes, PutOffLimits::NONE, reactor),
            _runtime: runtime,
            queued: VecDeque::new(),
            _directory: directory,
            config,
            client,
            session,
            worker,
        })
    }

    /// The client that the app's tasks get: it records messages, and publishes them to no broker.
    #[must_use]
    pub const fn client(&self) -> &Client {
        &self.client
    }

    /// The configuration. Messages are recorded in the database of its `database_url`, for the test's own
    /// transactions.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// A message for the task of that name, to be [run](Self::run) or published.
    pub fn task(&self, name: impl Into<String>) -> Draft {
        self.client.task(name)
    }

    /// Runs one message, and none of those that wait.
    ///
    /// # Errors
    /// When the message is invalid, or the database fails. A task that fails is no error, but an outcome.
    pub fn run(&mut self, message: Draft) -> Result<Outcome, TestError> {
        let uuid = message.publish()?.uuid;
        self.take_messages()?;
        let nth = self.queued.iter().position(|message| message.key == uuid);
        match nth.and_then(|nth| self.queued.remove(nth)) {
            Some(message) => self.run_message(message),
            None => Err(TestError::NotThere(uuid)),
        }
    }

    /// Runs all waiting messages, by priority and then age, delayed ones last, and the messages that they publish,
    /// until none is left.
    ///
    /// # Errors
    /// When the database fails, or messages are left after 10 000 runs.
    pub fn run_until_idle(&mut self) -> Result<Vec<Outcome>, TestError> {
        const MOST_MESSAGES: usize = 10_000;
        self.take_messages()?;
        let mut outcomes = Vec::new();
        while let Some(next) = self.next_message() {
            if outcomes.len() == MOST_MESSAGES {
                return Err(TestError::NeverIdle(MOST_MESSAGES));
            }
            outcomes.push(self.run_message(next)?);
        }
        Ok(outcomes)
    }

    /// The oldest message of the highest priority.
    fn next_message(&mut self) -> Option<Message> {
        let highest = self.queued.iter().map(|message| message.priority).max()?;
        let is_next = |message: &Message| message.priority == highest;
        let nth = self.queued.iter().position(is_next)?;
        self.queued.remove(nth)
    }

    /// Takes the recorded messages, as a broker would. Returns their number.
    fn take_messages(&mut self) -> Result<usize, StoreError> {
        let before = self.queued.len();
        self.session.make_due()?;
        loop {
            let (due, failed) = self.session.take_due_except(BATCH_SIZE, &BTreeSet::new())?;
            if due.is_empty() && failed.is_empty() {
                return Ok(self.queued.len() - before);
            }
            let keys: Vec<String> = due.iter().map(|message| message.key.clone()).collect();
            self.queued.extend(due.into_messages());
            self.session.mark_published(&keys)?;
            self.session.fail_undecodable(&failed)?;
        }
    }

    fn run_message(&mut self, message: Message) -> Result<Outcome, TestError> {
        let claim = ClaimRequest {
            key: message.key.clone(),
            adopt: None,
        };
        let claims = Batch {
            claims: vec![claim],
            ..Batch::default()
        };
        let claimed = self.session.write(self.worker, &claims)?;
        let Some(Claim::Ours { attempts, .. }) = claimed.claims.first() else {
            return Err(TestError::NotThere(message.key));
        };
        let consumer = names::consumer_name(&message.queue, 1);
        let attempt = attempt(message, *attempts);
        let executor = &self.executor;
        let (result, change) =
            execution::outside_runtime(|| executor.execute_for_result(&attempt, &consumer))?;
        let finish = change.into_end(&attempt);
        let log = finish.log.clone().unwrap_or_default();
        let finishes = Batch {
            finishes: vec![finish],
            ..Batch::default()
        };
        self.session.write(self.worker, &finishes)?;
        let published = self.take_messages()?;
        let before = self.queued.len() - published;
        Ok(Outcome {
            uuid: attempt.envelope.key,
            task: attempt.envelope.task.unwrap_or_default(),
            result,
            log,
            published: self.queued.iter().skip(before).cloned().collect(),
        })
    }
}

/// The attempt of a claimed message, as if a broker had delivered it.
fn attempt(message: Message, attempts: u32) -> Attempt {
    Attempt {
        queue: message.queue.as_str().into(),
        envelope: Envelope::of_recorded(message, DeliveryHandle { epoch: 0, tag: 0 }),
        run: RunId::next(),
        requested_at: Instant::now(),
        prior_runs: PriorRuns::in_row(attempts, false, false),
    }
}

/// A directory that is removed when this is dropped.
pub(crate) struct TestDirectory(PathBuf);

impl TestDirectory {
    fn new() -> io::Result<Self> {
        let path = std::env::temp_dir().join(format!("carrot-{}", names::new_key()));
        fs::create_dir(&path)?;
        Ok(Self(path))
    }
}

impl Drop for TestDirectory {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0) {
            log::warn!("{} is left behind: {error}", self.0.display());
        }
    }
}
