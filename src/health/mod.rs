//! The health of the service and of its servers.

mod condition;
pub(crate) mod outage;
mod queue_status;
pub(crate) mod queue_status_handle;
pub mod service_status;
mod status_report;
mod watchdog;
pub(crate) mod worker_thread;
