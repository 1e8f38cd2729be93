//! How the service and its servers are: what is away, what the service does, and whether its vital threads work.

mod condition;
pub(crate) mod outage;
mod queue_status;
pub mod service_status;
mod status_report;
mod watchdog;
pub(crate) mod worker_thread;
