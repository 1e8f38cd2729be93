//! Background tasks and schedules, with every message's life in your SQL database, as one service: on
//! RabbitMQ, or on that database alone.
//!
//! Register functions with an [`App`]; the binary that runs it *is* the service, in the foreground or as a
//! daemon, and the command line that sends, schedules, checks and migrates.
//!
//! # A first service
//!
//! ```
//! use std::process::ExitCode;
//!
//! use carrot_actors::{App, Args, Kwargs, Schedule, TaskError};
//!
//! #[derive(serde::Deserialize)]
//! struct Size {
//!     width: u32,
//! }
//!
//! /// `send images.resize --args '["a.png"]' --kwargs '{"width": 300}'` runs this.
//! fn resize(
//!     Args((path,)): Args<(String,)>,
//!     Kwargs(size): Kwargs<Size>,
//! ) -> Result<String, TaskError> {
//!     if size.width == 0 {
//!         return Err(TaskError::new("nothing would be left of it"));
//!     }
//!     log::info!("{path} to {}", size.width);
//!     Ok(format!("{path}.{}", size.width))
//! }
//!
//! async fn ping() -> Result<&'static str, TaskError> {
//!     Ok("pong")
//! }
//!
//! fn app() -> App {
//!     App::new()
//!         .defaults("default_broker = 'embedded'\ndatabase_url = 'sqlite://images.db'")
//!         .task("images.resize", resize)
//!         .task("ping", ping)
//!         .schedule(Schedule::new("ping", "ping").every("1m"))
//! }
//!
//! # mod binary {
//! # use super::*;
//! # #[expect(dead_code)]
//! fn main() -> ExitCode {
//!     app().run()
//! }
//! # }
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! #     let mut app = app().test()?;
//! #     let size = serde_json::json!({"width": 300});
//! #     let resized = app.run(app.task("images.resize").args(["a.png"]).kwargs(size))?;
//! #     assert_eq!(resized.result.unwrap(), "a.png.300");
//! #     assert!(resized.log.contains("a.png to 300"));
//! #     assert_eq!(app.run(app.task("ping"))?.result.unwrap(), "pong");
//! #     Ok(())
//! # }
//! ```
//!
//! Beside it `images send ping` publishes a message (if the binary is called `images`), `images schedule list`
//! shows what runs by the clock, `images --help` has the rest. Nothing else is needed: messages wait in
//! `images.db`. The `examples` are such services too; `quickstart` is the one to begin with.
//!
//! # Tasks
//!
//! A task is a function, sync or async, of up to eight arguments, each of which says what it wants:
//!
//! | argument | what the function gets |
//! |---|---|
//! | [`Args<(String, u32)>`](Args) | the positional arguments: a tuple, or what else serde makes of a JSON array |
//! | [`Kwargs<Size>`](Kwargs) | the named ones: a struct, or what else serde makes of a JSON object |
//! | [`State<Pool>`](State) | what the tasks share, by [`App::state`] or [`App::state_with`] |
//! | [`TaskContext`] | the message's uuid, its queue, the attempt, a logger for other threads, whether the service is told to stop |
//! | [`Client`] | what publishes more messages |
//! | a type of your own | what its [`FromMessage`] makes of the message |
//!
//! Numbers in arguments are i64, u64 or f64, whatever digits the message has: see
//! [`Arguments`](message::Arguments).
//!
//! What it returns is the `output` of the message's row, if serde can write it as JSON: an object as that, a text
//! as it is, anything else as django-carrot has it, in Python's words (`[1, None]`, `True`). What it logs by the
//! `log` crate is the row's `log`. An error makes the message FAILED, with its text and its causes: any that
//! `?` turns into a [`TaskError`], `anyhow::Error` too. So do a panic, with its backtrace, and arguments that
//! don't fit, with the field that is wrong.
//!
//! A task runs at least once; once its end is recorded, never again. It runs twice if the service dies
//! between the two: make tasks idempotent.
//!
//! # Async tasks
//!
//! Each task has a thread for itself while it runs, sync or async: it may block it, and an async one need not
//! be `Send`. All of a service's tasks, and what [`App::state_with`], [`FromMessage`] and [`Middleware`] call,
//! are in one tokio runtime, which is always at work: a pool of connections can be shared, `tokio::spawn` goes
//! on after its task, until the service ends, and `Handle::current().block_on` is there for sync code. What
//! `spawn_local` starts ends with its task.
//!
//! With `#[tokio::main]` [`App::run`] works as well, but for `daemon start` and `restart`. The tasks have the service's
//! runtime all the same; the program's goes on meanwhile if it has threads of its own.
//!
//! # Logging
//!
//! What a task logs on its own thread by the `log` crate is in its message's log. For what it has other threads
//! do, or spawns, there is [`TaskContext::logger`].
//!
//! A service needs to be the logger of its process, and does not start if something else is, by
//! `env_logger::init()` or `tracing_subscriber::fmt().init()`. Events of the `tracing` crate come along with
//! its feature `log`, as long as the program sets no subscriber:
//!
//! ```toml
//! tracing = { version = "0.1", features = ["log"] }
//! ```
//!
//! With a subscriber of your own it is the feature `log-always`. That must be set by
//! `tracing::subscriber::set_global_default`, since a subscriber's `init()` sets a logger as well, unless
//! `tracing-subscriber` is built without its feature `tracing-log`.
//!
//! # Publishing
//!
//! ```no_run
//! use std::time::Duration;
//!
//! use carrot_actors::{Client, Config};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let client = Client::connect(Config::of_process()?)?;
//! client.task("images.resize").args(("a.png",)).priority(5).publish()?;
//! client.task("ping").delay(Duration::from_secs(30)).publish()?;
//! client.publish_many((1..=100).map(|page| client.task("pages.render").args((page,))))?;
//! # Ok(())
//! # }
//! ```
//!
//! A [`Receipt`](client::Receipt) means that the message is recorded, and will be published whatever becomes of
//! its publisher or the broker. [`publish_async`](client::Draft::publish_async) is for async code.
//!
//! # In a transaction of yours
//!
//! [`record`](client::Draft::record) writes the message with diesel's connection, as a part of your
//! transaction: it is published if that commits, and only then, also when the program dies right after. See
//! [`transaction`].
//!
//! ```
//! use carrot_actors::Client;
//! use carrot_actors::transaction::{RecordError, diesel};
//! use diesel::connection::SimpleConnection;
//! use diesel::prelude::*;
//!
//! fn connect(file: &str) -> Result<SqliteConnection, Box<dyn std::error::Error>> {
//!     let mut db = SqliteConnection::establish(file)?;
//!     // Services write to the file as well: wait for their turn to be over.
//!     db.batch_execute("PRAGMA busy_timeout = 5000")?;
//!     Ok(db)
//! }
//!
//! fn sign_up(db: &mut SqliteConnection, client: &Client, name: &str) -> Result<(), RecordError> {
//!     db.immediate_transaction(|db| {
//!         diesel::sql_query("INSERT INTO customer (name) VALUES (?)")
//!             .bind::<diesel::sql_types::Text, _>(name)
//!             .execute(db)?;
//!         client.task("customers.greet").args((name,)).record(db)?;
//!         Ok(())
//!     })
//! }
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let greet = |carrot_actors::Args((name,)): carrot_actors::Args<(String,)>| {
//! #     Ok::<_, carrot_actors::TaskError>(format!("Hello {name}"))
//! # };
//! # let mut app = carrot_actors::App::new().task("customers.greet", greet).test()?;
//! # let file = app.config().database_url.sqlite_file().unwrap();
//! # let mut db = connect(file.to_str().unwrap())?;
//! # assert!(sign_up(&mut db, app.client(), "Ada").is_err());
//! # assert!(app.run_until_idle()?.is_empty());
//! # diesel::sql_query("CREATE TABLE customer (name TEXT)").execute(&mut db)?;
//! # sign_up(&mut db, app.client(), "Ada")?;
//! # assert_eq!(app.run_until_idle()?[0].result.as_ref().unwrap(), "Hello Ada");
//! # Ok(())
//! # }
//! ```
//!
//! # Around tasks
//!
//! [`App::middleware`] wraps all tasks in something of your own, which sees their messages and outcomes, and may
//! hold a span or a guard meanwhile (see [`Middleware`]). [`App::on_failure`] is a function that hears of each
//! message that fails in a service's hands.
//!
//! ```
//! use carrot_actors::App;
//!
//! let app = App::new().on_failure(|context, _arguments, error| {
//!     log::error!("{} {}: {}", context.task, context.uuid, error.exception);
//! });
//! ```
//!
//! # Testing
//!
//! [`App::test`] is the app in a test's own process, without a broker, and without waiting: run a task and look
//! at its outcome, its log and what it published. See [`testing`].
//!
//! ```
//! # use carrot_actors::{App, Args, TaskError};
//! # fn app() -> App {
//! #     App::new().task("double", |Args((n,)): Args<(u32,)>| Ok::<_, TaskError>(2 * n))
//! # }
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let mut app = app().test()?;
//! let outcome = app.run(app.task("double").args((21,)))?;
//! assert_eq!(outcome.result.unwrap(), 42);
//! # Ok(())
//! # }
//! ```
//!
//! # Configuration
//!
//! A service reads `carrot.toml`: broker, database, queues and how many tasks each runs at once, commands as
//! tasks, how long history is kept. The README names all keys; [`App::defaults`] has those that your program
//! brings along, and [`Config`] is what is read.
//!
//! The feature `mysql` adds MySQL and MariaDB, `tls` encrypted connections; both need a library of the
//! system's.
//!
//! # How it is made
//!
//! From here on this page is for those who work on carrot-actors itself, which does what django-carrot's
//! service does: it consumes the same messages, keeps the same tables, and names its consumers, log lines and
//! start-up lines alike. What was recorded is published; what was acknowledged is finished, or in hand with
//! somebody behind it; what has finished is not run again. At least once, then, and once for whatever
//! finished.
//!
//! ## The rooms, from the top
//!
//! A room uses only rooms below its own. Those without a link are no part of the public interface; what the
//! tests and the benchmark need of them they reach by one door, `internals`.
//!
//! | room | what it is |
//! |---|---|
//! | `main`, `app` | a program's tasks and what they share, as a binary that is the service |
//! | [`testing`] | the same tasks as a test runs them: in its process, without a broker |
//! | [`cli`] | what the user typed; exit codes; the only room that prints |
//! | `daemon` | the daemon as its controller sees it: pidfile and lock, the process that holds it, control socket, the way into the background, and the way to begin again in the same process |
//! | `service` | builds the seams, starts the tree, waits for a signal, drains |
//! | `actors` | the tree: `supervisor`, `scheduler`, `consumer_set` (with its `subscription` thread), `consumer` |
//! | `sweep`, `heartbeat`, `prune` | threads beside the tree: what a death left undone is taken up; this worker lives; what is over and too old is deleted, if the configuration says so |
//! | `schedule` | which occurrences of schedules are due, whichever host sees it first, and their messages; the schedules that an app brings along |
//! | [`client`] | publishing from a program: one thread, which records together what has gathered |
//! | `publish` | the one door to the broker for messages: record, then flush; `TrackingOutbox` is the door of who stays, and looks after brokers that are late or away |
//! | `ledger` | the one thread that writes claims and ends of runs, in batches |
//! | `late_rows` | the messages that were cancelled for want of a row: the ledger notes them, the sweep looks for their rows |
//! | `execution` | one message's run: decode, look up, run, judge (a `Verdict`), record (what that changes in the row); which runs are under way; the runtime of all async ones |
//! | `systemd` | tells the service manager how the service is, and that it works |
//! | `service_status` | how the service is: starting, waiting for what, consuming, stopping; for whoever asks |
//! | `waiting` | what the embedded broker needs of the store |
//! | `presence` | which workers are gone: of this host at once, of others when they have been silent for long |
//! | `store`, `broker`, [`task`] | the seams: the database (diesel; the statements are one text, but for what each `Engine` says differently; who uses it names its role, and a thread of the service asks it by way of `Database`), RabbitMQ (amiquip) or the embedded broker, what a task is and what runs it (a `Runner`: nobody else knows functions from commands, and no other place starts processes) |
//! | [`config`], `logging`, `outage`, `pulse`, `stop` | settings; where log lines go; how each server is, said once by whoever meets an outage first; whether what is vital still works; threads that can be stopped |
//! | `init` | process 1 of a container: a parent of the service that reaps orphans and passes signals on |
//! | `privileges`, `limits` | the user that a service becomes which root has started; how many files it may open |
//! | [`message`], `state`, `retry`, `timetable`, `names`, `suggest` | the pure ground: arguments and wire format, states and their transitions, backoff, when a schedule fires, shared names, what a misspelt one meant |
//!
//! ## The tree
//!
//! ```text
//! Supervisor
//!  ├─ SchedulerActor                 one, unless --no-scheduler (with its threads, see `schedule`)
//!  ├─ ConsumerSetActor  "default"    one per consumable queue
//!  │   ├─ subscription               a thread that owns the broker's channel
//!  │   └─ ConsumerActor "default-consumer-1" … "-n"    each with a thread, one task at a time
//!  └─ ConsumerSetActor  …
//! ```
//!
//! Beside it the tasks' runtime has a few threads: a consumer drives its task's future itself, these what
//! that waits for.
//!
//! Actors hold state and decide; threads block and report. Stopping goes down as messages: the
//! scheduler, then every set, each of which tells all its consumers before it waits for any.
//!
//! ## Deaths
//!
//! A part that dies of a panic, or ends without having been told to, is heard of by who owns it. What holds
//! nothing that matters is begun anew, after 100 ms, or more, up to 30 s, if it dies again and again. What knows
//! something of messages in hand that nobody else knows can't be: the service ends as by a hard stop, says what
//! died, and has others run what it had.
//!
//! | what dies | who hears of it | what is done |
//! |---|---|---|
//! | a consumer's thread, its actor | its set | the message that it ran is a suspect, and another consumer begins |
//! | a subscription | its thread, which is begun anew within | as after a connection that was lost |
//! | a set of consumers | the supervisor | the service ends: the ledger has in hand what only that set knew how to run and to settle |
//! | the scheduler's threads, its actor | the actor, the supervisor | begun anew; what was taken and not published is the sweep's |
//! | the sweep, the heartbeat, pruning | their threads (`stop::Thread::kept`) | begun anew |
//! | the ledger | the service, from a `stop::DeathNotice` | the service ends: what is in hand is known to it alone |
//! | the supervisor | who runs the tree | the service ends |
//! | what a task has spawned | tokio | the runtime goes on; nothing but the service ends it |
//!
//! A service that ends so exits with 70, but for a daemon that was up: that executes itself (`daemon::resume`), as
//! only that ends all threads. The next life has its pidfile, locked all the while, its control socket, log and
//! configuration, takes the row of the worker that it was out of the database (its process is seen to live), and
//! rests before it begins.
//!
//! ## A message's path
//!
//! 1. `publish`: *record* a PENDING row, *flush* it to the broker (persistent, mandatory,
//!    confirmed), mark it PUBLISHED.
//! 2. The subscription hands on whatever has arrived; the set *claims* no more than its consumers can
//!    run while a claim is committed (`consumer_set::pace`), through the ledger; at once what the broker may
//!    have no copy of any more (`consumer_set::copies`).
//! 3. The ledger answers for each message: ours to run, over, with a live worker, in hand already
//!    (then it joins that run), or without a row: adopted, or looked for again for five seconds if
//!    django-carrot published it (the second consumer takes as many more as wait), and then CANCELLED; should its
//!    row come within an hour, the sweep publishes it.
//! 4. A consumer *runs* it. A message whose last worker vanished is a suspect: its attempt is
//!    committed before it starts, and after `max_crashes` it is FAILED.
//!    A run that can't begin, or hands its message back, is *put off*: PENDING in its row, due later, or kept by
//!    its consumer where no row carries it.
//! 5. The ledger *records* the end, fenced: it counts if the message is still ours, or nobody's. So does a put-off.
//! 6. Only then is the delivery *settled*, on the channel that brought it.
//!
//! What goes back unrun is PUBLISHED again; where the broker has no copy of it, or may drop that for coming
//! back too often, it is PENDING, for the sweep.
//!
//! What is recorded in a transaction of the caller's ([`transaction`]) is the sweep's to publish, which
//! PostgreSQL tells of the commit.
//!
//! A message that the broker was sent and has not confirmed stays with its publisher while that connection
//! lives, which renews its lease; one that the broker refuses by 403 waits for the permission, with its queue.
//!
//! On its way a message takes these forms, each of which knows something that the one before did not; below them
//! who hands it to whom:
//!
//! ```text
//! delivery, 8    Envelope → Arrival → ClaimRequest → Attempt → TaskContext → Verdict → Finish → Settlement
//!                subscription → set → ledger → set → consumer → executor → ledger → set → subscription
//! publishing, 7  Draft → Ready → Message → Recorded → Confirmation → PublishResult → Receipt
//!                client → its publisher → store → door → broker → door → store → who published
//! occurrence, 7  Candidate → Due → Message → Recorded → Batch → Confirmation → PublishResult
//!                taker → decide → store → the scheduler's publisher → door → broker → door → store
//! ```
//!
//! The body of an envelope is decoded once, on the thread of whoever needs the arguments first; the embedded broker
//! and a test hand it on as it was recorded. A message that has no row gets a NewRow with its claim; a run that is
//! put off ends as a PutOff.
//!
//! The sweep publishes PENDING messages that are due and makes those of dead workers PENDING. A
//! worker is dead when its heartbeat is 20 s old by the database's clock and by that of who looks, or at once
//! when it can be seen on this host that its process is gone.
//!
//! The embedded broker is the rows themselves: a message waits while it is PUBLISHED and has no live
//! `owner`; the subscription takes it by becoming that, which is what an unacknowledged delivery is to
//! RabbitMQ. All else is the same.
//!
//! ## What there is none of
//!
//! - No actor blocks, and none touches diesel or amiquip. Only `store` names the one and `broker`
//!   the other.
//! - No byte of a broker's that amiquip reads, but through the gate (`broker::amqp::gate`), which holds back
//!   what its parser can't take.
//! - No ack before the commit that it stands for; no timer before a claim or a commit.
//! - No statement that changes a state but by `state::transition`, which says of each event which messages it is for
//!   and what it changes; and no state's name in a statement that does not come from there.
//! - No message to a broker that the store does not say is `Recorded`: committed, PENDING, and leased to who sends it.
//! - No second way to publish, to start a task's process, or to end this one; and a daemon executes nothing but
//!   itself instead of itself.
//! - No fork once there is a thread, but for commands and their guard; no signal to a pid that is not seen to
//!   hold the lock.
//! - No password in a log, an error or an output.
//! - No step of a migration that others have to wait for: steps make tables and add columns, and indexes
//!   are built beside that, from a list (`store/*/indexes.rs`). A test reads every step.

mod actors;
pub mod app;
mod broker;
mod cli;
pub mod client;
pub mod config;
mod daemon;
mod execution;
mod failpoint;
mod health;
#[doc(hidden)]
pub mod internals;
mod ledger;
mod logging;
mod maintenance;
pub mod message;
mod names;
mod process;
mod publish;
mod retry;
mod schedule;
mod service;
mod state;
mod store;
mod suggest;
pub mod task;
pub mod testing;
mod timetable;

pub use app::App;
pub use client::{Client, PublishError};
pub use config::Config;
pub use logging::LogLevel;
pub use schedule::{Missed, Overlap, Schedule};
#[doc(inline)]
pub use store::{StoreError, transaction};
pub use task::{Again, Args, FromMessage, Kwargs, Middleware, Next, State, TaskContext, TaskError};

/// The README's example, compiled.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
