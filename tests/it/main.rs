//! The service against a real RabbitMQ and real databases, as `scripts/services` starts them: one vhost
//! and one database a test. What depends on the database is tried on each; the rest on PostgreSQL.
#![expect(clippy::unwrap_used, reason = "a test fails at its first fault")]

mod support;

mod command_line;
mod conformance;
mod consuming;
mod daemon;
mod databases;
mod deaths;
mod deployment;
mod library;
mod lifecycle;
mod outages;
mod publishing;
mod quickstart;
mod schedules;
mod tasks;
