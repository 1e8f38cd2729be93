//! Trying an app's tasks in tests: in the test's own process, without a broker, and without waiting.
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
//! A delay is not waited for, and schedules publish nothing: a test runs their task. A transaction that
//! records messages works as ever, on the database that the configuration names; they are there once it
//! has committed:
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
//! Tasks run on the test's own thread, unless a runtime is current there, as in a `#[tokio::test]`: then they
//! have another one, for which the test's thread waits. What the test has made on its runtime and gives to
//! the app goes on meanwhile if that has more threads: `#[tokio::test(flavor = "multi_thread")]`. What the
//! app makes itself ([`App::state_with`](crate::App::state_with)) goes on in any case.

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

/// So many messages are taken from the database at once.
const AT_ONCE: usize = 500;

/// Why a test did not get what it wanted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TestError {
    /// The app is at fault, or its database.
    #[error(transparent)]
    Service(#[from] ServiceError),
    /// The database does not do as it is told.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The message can't be one.
    #[error(transparent)]
    Publish(#[from] PublishError),
    /// The configuration is wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// There is no place for a database.
    #[error("no directory for a test: {0}")]
    System(#[from] io::Error),
    /// Somebody else has run the message.
    #[error("message {0} was not there to be run: who else is at work on this database?")]
    NotThere(String),
    /// More messages than any test means to run: each may publish the next.
    #[error("there is no end of messages: {0} were run")]
    NeverIdle(usize),
}

/// What became of a message.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Outcome {
    /// Its key.
    pub uuid: String,
    /// Its task.
    pub task: String,
    /// What the task returned, or why the message is FAILED: what a panic said, and what was wrong with
    /// its arguments, too. Where the error says [`again`](TaskError::again), the task has handed the message
    /// back; it is not run again here.
    pub result: Result<Value, TaskError>,
    /// What the task logged, in the shape that the row has it. If the test has set a logger of its own,
    /// that gets it instead, and here are only the lines that say how the task began and ended.
    pub log: String,
    /// The messages that were published, or recorded in a transaction, meanwhile.
    pub published: Vec<Message>,
}

/// An app whose tasks are run as a test asks for it. What is published waits in a database of its own,
/// until the test runs that too; delays are not waited for.
pub struct TestApp {
    config: Arc<Config>,
    client: Client,
    executor: Executor,
    /// Ends after what the tasks share.
    _runtime: Runtime,
    session: Box<dyn TestSession>,
    worker: WorkerId,
    queued: VecDeque<Message>,
    /// Removed in the end; last, after all that has it open.
    _directory: Option<Directory>,
}

impl TestApp {
    /// Of an app, with an SQLite database of its own, which is gone in the end.
    pub(crate) fn of(
        tasks: impl FnOnce(Client) -> Result<Registry, TestError>,
        defaults: &Defaults,
    ) -> Result<Self, TestError> {
        let directory = Directory::new()?;
        let url = format!("sqlite://{}", directory.0.join("carrot.db").display());
        let environment = Environment::from_pairs([("CARROT_DATABASE_URL", url)]);
        fs::write(directory.0.join("carrot.toml"), "")?;
        let config = Config::load_over(defaults, None, &environment, &directory.0)?;
        Self::with(tasks, config, Some(directory))
    }

    /// Of an app, with a configuration of the test's.
    pub(crate) fn with(
        tasks: impl FnOnce(Client) -> Result<Registry, TestError>,
        config: Config,
        directory: Option<Directory>,
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
        // Makes the tables.
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

    /// The client that the app's tasks get: it records, and publishes to nobody.
    #[must_use]
    pub const fn client(&self) -> &Client {
        &self.client
    }

    /// The configuration: its `database_url` is where messages are recorded, for transactions of the
    /// test's own.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// A message for the task of that name, to be [run](Self::run) or published.
    pub fn task(&self, name: impl Into<String>) -> Draft {
        self.client.task(name)
    }

    /// RunStore one message, and none of those that wait.
    ///
    /// # Errors
    /// When it can't be a message, or the database fails. That its task fails is an outcome.
    pub fn run(&mut self, message: Draft) -> Result<Outcome, TestError> {
        let uuid = message.publish()?.uuid;
        self.take()?;
        let nth = self.queued.iter().position(|message| message.key == uuid);
        match nth.and_then(|nth| self.queued.remove(nth)) {
            Some(message) => self.run_message(message),
            None => Err(TestError::NotThere(uuid)),
        }
    }

    /// RunStore all that waits, by priority and then age, what was delayed last, and what these publish,
    /// until nothing is left.
    ///
    /// # Errors
    /// When the database fails, or there is no end after 10 000 messages.
    pub fn run_until_idle(&mut self) -> Result<Vec<Outcome>, TestError> {
        const MOST: usize = 10_000;
        self.take()?;
        let mut outcomes = Vec::new();
        while let Some(next) = self.next() {
            if outcomes.len() == MOST {
                return Err(TestError::NeverIdle(MOST));
            }
            outcomes.push(self.run_message(next)?);
        }
        Ok(outcomes)
    }

    /// The first of those with the highest priority.
    fn next(&mut self) -> Option<Message> {
        let highest = self.queued.iter().map(|message| message.priority).max()?;
        let is_next = |message: &Message| message.priority == highest;
        let nth = self.queued.iter().position(is_next)?;
        self.queued.remove(nth)
    }

    /// Takes what is recorded, as a broker would. Returns how many messages.
    fn take(&mut self) -> Result<usize, StoreError> {
        let before = self.queued.len();
        self.session.make_due()?;
        loop {
            let (due, failed) = self.session.take_due_but(AT_ONCE, &BTreeSet::new())?;
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
        let published = self.take()?;
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

/// The message as a broker would deliver it, claimed.
fn attempt(message: Message, attempts: u32) -> Attempt {
    Attempt {
        queue: message.queue.as_str().into(),
        envelope: Envelope::of_recorded(message, DeliveryHandle { epoch: 0, tag: 0 }),
        run: RunId::next(),
        requested_at: Instant::now(),
        prior_runs: PriorRuns::in_row(attempts, false, false),
    }
}

/// A directory that is removed in the end.
pub(crate) struct Directory(PathBuf);

impl Directory {
    fn new() -> io::Result<Self> {
        let path = std::env::temp_dir().join(format!("carrot-{}", names::new_key()));
        fs::create_dir(&path)?;
        Ok(Self(path))
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0) {
            log::warn!("{} is left behind: {error}", self.0.display());
        }
    }
}
