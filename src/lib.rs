//! Background tasks on RabbitMQ, with every message's life in your SQL database, as one service; or
//! in that database alone.
//!
//! carrot-actors does what django-carrot's service does: it consumes the same messages, keeps the
//! same tables, and names its consumers, log lines and start-up lines alike. It runs Rust functions
//! ([`task::Registry`]) and external commands (from the configuration). What was recorded is
//! published; what was acknowledged is finished, or in hand with somebody behind it; what has
//! finished is not run again. At least once, then, and once for whatever finished.
//!
//! # The rooms, from the top
//!
//! A room uses only rooms below its own.
//!
//! | room | what it is |
//! |---|---|
//! | `main`, [`app`] | a program's tasks and what they share, as a binary that is the service |
//! | [`testing`] | the same tasks as a test runs them: in its process, without a broker |
//! | [`cli`] | what the user typed; exit codes; the only room that prints |
//! | `daemon` | the daemon as its controller sees it: pidfile and lock, the process that holds it, control socket, the way into the background |
//! | [`client`] | publishing from a program: one thread, which records together what has gathered |
//! | [`service`] | builds the seams, starts the tree, waits for a signal, drains |
//! | `actors` | the tree: `supervisor`, `scheduler`, `consumer_set` (with its `subscription` thread), `consumer` |
//! | `sweep`, `heartbeat`, `prune` | threads beside the tree: what a death left undone is taken up; this worker lives; what is over and too old is deleted, if the configuration says so |
//! | [`schedule`] | which occurrences of schedules are due, whichever host sees it first, and their messages |
//! | [`publish`] | the one door to the broker for messages: record, then flush |
//! | [`ledger`] | the one thread that writes claims and ends of runs, in batches |
//! | [`execution`] | one message's run: decode, look up, run, classify |
//! | `systemd` | tells the service manager how the service is, and that it works |
//! | [`vitals`] | how the service is: starting, waiting for what, consuming, stopping; for whoever asks |
//! | [`waiting`] | what the embedded broker needs of the store |
//! | `presence` | which workers of this host are gone |
//! | [`store`], [`broker`], [`task`] | the seams: the database (diesel; the statements are one text, but for what each `Engine` says differently), RabbitMQ (amiquip) or the embedded broker, what a task is (and the one place that starts processes) |
//! | [`config`], [`logging`], `outage`, `pulse`, `stop` | settings; where log lines go; how each server is, said once by whoever meets an outage first; whether what is vital still works; threads that can be stopped |
//! | `privileges` | the user that a service becomes which root has started |
//! | [`message`], [`state`], [`retry`], [`timetable`], [`names`], `suggest` | the pure ground: arguments and wire format, states and their transitions, backoff, when a schedule fires, shared names, what a misspelt one meant |
//!
//! # The tree
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
//! Actors hold state and decide; threads block and report. Stopping goes down as messages: the
//! scheduler, then every set, each of which tells all its consumers before it waits for any.
//!
//! # A message's path
//!
//! 1. [`publish`]: *record* a PENDING row, *flush* it to the broker (persistent, mandatory,
//!    confirmed), mark it PUBLISHED.
//! 2. The subscription hands on whatever has arrived; the set *claims* no more than its consumers can
//!    run while a claim is committed (`consumer_set::pace`), through the ledger.
//! 3. The ledger answers for each message: ours to run, over, with a live worker, in hand already
//!    (then it joins that run), or without a row: adopted, or looked for again for five seconds if
//!    django-carrot published it.
//! 4. A consumer *runs* it. A message whose last worker vanished is a suspect: its attempt is
//!    committed before it starts, and after `max_attempts` it is FAILED.
//! 5. The ledger *records* the end, fenced: it counts if the message is still ours, or nobody's.
//! 6. Only then is the delivery *settled*, on the channel that brought it.
//!
//! What is recorded in a transaction of the caller's ([`store::transaction`]) is the sweep's to publish, which
//! PostgreSQL tells of the commit.
//!
//! The sweep publishes PENDING messages that are due and makes those of dead workers PENDING. A
//! worker is dead when its heartbeat is 20 s old by the database's clock, or at once when it can be
//! seen on this host that its process is gone.
//!
//! The embedded broker is the rows themselves: a message waits while it is PUBLISHED and has no live
//! `owner`; the subscription takes it by becoming that, which is what an unacknowledged delivery is to
//! RabbitMQ. All else is the same.
//!
//! # What there is none of
//!
//! - No actor blocks, and none touches diesel or amiquip. Only `store` names the one and `broker`
//!   the other.
//! - No ack before the commit that it stands for; no timer on a message's way.
//! - No statement that changes a state without the guard that [`state::Status::on`] gives it.
//! - No second way to publish, to start a task's process, or to end this one.
//! - No fork once there is a thread, but for the guard of commands; no signal to a pid that is not seen to
//!   hold the lock.
//! - No password in a log, an error or an output.

mod actors;
pub mod app;
pub mod broker;
pub mod cli;
pub mod client;
pub mod config;
mod daemon;
pub mod execution;
mod failpoint;
mod heartbeat;
pub mod ledger;
pub mod logging;
pub mod message;
pub mod names;
mod outage;
mod presence;
mod privileges;
mod prune;
pub mod publish;
mod pulse;
pub mod retry;
pub mod schedule;
pub mod service;
pub mod state;
mod stop;
pub mod store;
mod suggest;
mod sweep;
mod systemd;
pub mod task;
pub mod testing;
pub mod timetable;
pub mod vitals;
pub mod waiting;

pub use app::App;
pub use client::{Client, PublishError};
pub use config::Config;
pub use logging::LogLevel;
pub use schedule::Schedule;
pub use task::{Args, FromMessage, Kwargs, Middleware, State, TaskContext, TaskError};

/// The README's example, compiled.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
