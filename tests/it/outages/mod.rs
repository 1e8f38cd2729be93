//! Servers go away while messages flow, each by really stopping, killing or freezing it. Every time, no
//! message is lost or run after its end, work resumes by itself, the log says once what is away and once that
//! it is back, and meanwhile the service neither spins nor grows.

mod broker;
mod connections;
mod database;
mod sqlite;
mod trial;

pub use database::{kill_connections, own_server};
