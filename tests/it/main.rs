//! The service against a real RabbitMQ and real databases, as `scripts/services` starts them: one vhost
//! and one database a test. What depends on the database is tried on each; the rest on PostgreSQL.
#![expect(clippy::unwrap_used, reason = "a test fails at its first fault")]

mod support;

mod adoption;
mod app;
mod broker_conformance;
mod brought;
mod bytes;
mod captured;
mod cli;
mod cli_check;
mod cli_messages;
mod cli_schedule;
mod client;
mod commands;
mod copies;
mod cuts;
mod daemon;
mod deaths;
mod delayed;
mod deleted_queue;
mod deployment;
mod documents;
mod embedded;
mod escaped;
mod frozen;
mod gate;
mod held;
mod init;
mod kills;
mod late;
mod late_rows;
mod many;
mod middleware;
mod migration;
mod numbers;
mod outages;
mod path;
mod prune;
mod put_off;
mod quickstart;
mod quorum;
mod refused;
mod rowless;
mod runtime;
mod schedule;
mod secrets;
mod signals;
mod store_conformance;
mod supervision;
mod tasks;
mod testing;
#[cfg(feature = "tls")]
mod tls;
mod transaction;
mod tree;
mod unreadable;
mod without_id;
