//! Background tasks and schedules on RabbitMQ, or on your SQL database alone, with every message's life in that
//! database, as one service.
//!
//! Register functions with an [`App`]. The binary that runs the app *is* the service, in the foreground or as a
//! daemon. It is also the command line that sends, schedules, checks and migrates.
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
//! If the binary is called `images`, `images send ping` publishes a message, `images schedule list` shows the
//! schedules, and `images --help` lists everything else. Nothing else has to be installed: messages wait in
//! `images.db`. The `examples` are such services too; begin with `quickstart`.
//!
//! # Tasks
//!
//! A task is a function, sync or async, of up to eight arguments. The type of each argument says what it takes:
//!
//! | argument | what the function gets |
//! |---|---|
//! | [`Args<(String, u32)>`](Args) | the positional arguments: a tuple, or anything else that serde can make of a JSON array |
//! | [`Kwargs<Size>`](Kwargs) | the named arguments: a struct, or anything else that serde can make of a JSON object |
//! | [`State<Pool>`](State) | what the tasks share, from [`App::state`] or [`App::state_with`] |
//! | [`TaskContext`] | the message's uuid, its queue, the attempt, a logger for other threads, whether the service is stopping |
//! | [`Client`] | a client to publish more messages |
//! | a type of your own | what its [`FromMessage`] makes of the message |
//!
//! Numbers in arguments are i64, u64 or f64, however many digits the message has: see
//! [`Arguments`](message::Arguments).
//!
//! The return value becomes the `output` of the message's row if serde can write it as JSON: an object as JSON, a
//! text as it is, and anything else as django-carrot writes it, in Python's notation (`[1, None]`, `True`). What the
//! task logs with the `log` crate becomes the row's `log`. An error makes the message FAILED, and its text and causes
//! are recorded. Any error that `?` turns into a [`TaskError`] will do, `anyhow::Error` too. A panic also makes the
//! message FAILED, with its backtrace, and so do arguments that do not fit, with the name of the wrong field.
//!
//! A task runs at least once. Once the end of its run is recorded, it never runs again. If the service dies between
//! the two, the task runs twice: make tasks idempotent.
//!
//! # Async tasks
//!
//! Each task has a thread for itself while it runs, sync or async. A task may block its thread, and an async task
//! need not be `Send`.
//!
//! All tasks of a service share one tokio runtime, and so do the functions given to [`App::state_with`],
//! [`FromMessage`] and [`Middleware`]. The runtime runs as long as the service. A connection pool can therefore be
//! shared, what a task starts with `tokio::spawn` continues after the task, and sync code can use
//! `Handle::current().block_on`. What `spawn_local` starts ends with its task.
//!
//! [`App::run`] also works under `#[tokio::main]`, except for `daemon start` and `restart`. Tasks still use the
//! service's runtime. The program's own runtime continues meanwhile if it has threads of its own.
//!
//! # Logging
//!
//! What a task logs on its own thread with the `log` crate is kept in its message's row. For other threads and spawned
//! futures there is [`TaskContext::logger`].
//!
//! A service has to be the logger of its process. It does not start if another logger is set, as
//! `env_logger::init()` or `tracing_subscriber::fmt().init()` do. Events of the `tracing` crate are logged too with
//! its feature `log`, as long as the program sets no subscriber:
//!
//! ```toml
//! tracing = { version = "0.1", features = ["log"] }
//! ```
//!
//! With a subscriber of your own, use the feature `log-always`, and set the subscriber with
//! `tracing::subscriber::set_global_default`: a subscriber's `init()` also sets a logger, unless
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
//! A [`Receipt`](client::Receipt) means that the message is recorded. It will be published even if its publisher dies
//! or the broker is away. [`publish_async`](client::Draft::publish_async) is for async code.
//!
//! # In a transaction of yours
//!
//! [`record`](client::Draft::record) writes the message on your diesel connection, as a part of your transaction. If
//! the transaction commits, the message is published, even if the program dies right after the commit. If it is
//! rolled back, there is no message. See [`transaction`].
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
//! [`App::middleware`] wraps all tasks in code of your own, which sees their messages and outcomes, and can hold a
//! span or a guard around each run (see [`Middleware`]). [`App::on_failure`] registers a function that the service
//! calls for each message that it makes FAILED.
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
//! [`App::test`] runs the app in a test's own process, without a broker and without waiting: run a task, then look
//! at its outcome, its log and the messages it published. See [`testing`].
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
//! A service reads `carrot.toml`: the broker, the database, the queues and their concurrency, commands as tasks, and
//! how long history is kept. `docs/configuration.md` describes all keys. [`App::defaults`] sets values that your
//! program brings along, and [`Config`] is the result.
//!
//! The feature `mysql` adds MySQL and MariaDB, `tls` adds encrypted connections. Each needs a library of the system.
//!
//! `ARCHITECTURE.md` describes how carrot-actors is made, for those who work on it.

mod actors;
mod app;
mod broker;
pub mod cli;
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

/// The examples of the documents, compiled.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

/// The same of the guide for Rust.
#[cfg(doctest)]
#[doc = include_str!("../docs/rust.md")]
struct RustGuide;
