//! map

mod actors;
pub mod broker;
pub mod cli;
pub mod config;
pub mod execution;
mod failpoint;
mod heartbeat;
pub mod ledger;
pub mod logging;
pub mod message;
pub mod names;
mod outage;
mod presence;
pub mod publish;
pub mod retry;
pub mod service;
pub mod state;
mod stop;
pub mod store;
mod sweep;
pub mod task;
