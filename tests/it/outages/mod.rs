//! Servers that go away, each by doing it to the real one while messages flow. Whatever it is: nothing
//! is lost or run after its end, work resumes by itself, the log says once what is away and once that it
//! is back, and meanwhile the service neither spins nor grows.

mod broker;
mod connections;
mod database;
mod sqlite;
mod trial;

pub use database::{kill_connections, own};
