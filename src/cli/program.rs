//! What an app gives to its command line.

use crate::config::{ConfigError, Defaults};
use crate::logging::LogLevel;
use crate::schedule::Schedule;
use crate::service::ServiceError;
use crate::task::Registry;

/// What a binary provides: the parts of its service, and its defaults.
#[derive(Default)]
pub(crate) struct Program {
    /// Its tasks and their shared state.
    pub(crate) registry: Registry,
    /// The schedules that it adds to the database.
    pub(crate) schedules: Vec<Schedule>,
    /// Its defaults for keys that the configuration file does not set.
    pub(crate) defaults: Defaults,
    /// The log level, if the service logs to the terminal alone while it runs in the foreground.
    pub(crate) terminal: Option<LogLevel>,
}

/// Why an app can't be run, whatever the command line is.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AppError {
    /// Its tasks, their shared state or its schedules are wrong.
    #[error(transparent)]
    Service(#[from] ServiceError),
    /// Its defaults are wrong.
    #[error(transparent)]
    Defaults(#[from] ConfigError),
}
