//! The public interface: apps, clients, transactions, middleware and tests of an app.

mod app;
mod app_schedules_and_defaults;
mod async_runtime;
mod client;
mod host_programs;
mod middleware;
mod testing;
mod transaction;
