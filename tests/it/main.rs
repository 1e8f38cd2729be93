//! The service against a real RabbitMQ and real databases, as `scripts/services` starts them.
//!
//! Each test has a [`World`](support::World): a vhost, a database and a directory. A case that depends on the
//! database or the broker is listed with [`cases`](support::cases), and runs on each of them; all others run
//! on PostgreSQL and RabbitMQ, or on whatever they name. The folders say what the tests in them prove.
//! `outages` stops and freezes servers, so `scripts/test` runs it separately.
#![expect(clippy::unwrap_used, reason = "a test fails at its first fault")]

mod support;

mod command_line;
mod conformance;
mod consuming;
mod daemon;
mod databases;
mod deaths;
mod deployment;
mod documents;
mod library;
mod lifecycle;
mod outages;
mod publishing;
mod quickstart;
mod schedules;
mod tasks;
