//! Why a command failed, with its exit code.

use std::error::Error;

use super::exit::Exit;
use super::program::AppError;
use crate::broker::BrokerError;
use crate::daemon::{ControlSocketError, PidfileError};
use crate::process::privileges::IdentityError;
use crate::service::ServiceError;
use crate::store::StoreError;
use crate::task::StateError;

/// Why a command failed: its exit code, and the error for the user.
#[derive(Debug)]
pub(super) struct CommandFailure {
    pub(super) exit: Exit,
    pub(super) error: Box<dyn Error>,
}

impl CommandFailure {
    pub(super) fn new(exit: Exit, error: impl Into<Box<dyn Error>>) -> Self {
        Self {
            exit,
            error: error.into(),
        }
    }
}

/// The error for a wrong command line.
pub(super) fn usage<T>(wrong: &str) -> Result<T, CommandFailure> {
    Err(CommandFailure::new(Exit::Usage, wrong.to_owned()))
}

/// The text of an error and of its causes.
pub(super) fn with_causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        // Many errors contain the text of their cause already.
        if !text.ends_with(&error.to_string()) {
            text.push_str(&format!(": {error}"));
        }
        cause = error.source();
    }
    text
}

impl From<ServiceError> for CommandFailure {
    fn from(error: ServiceError) -> Self {
        let exit = match &error {
            ServiceError::DuplicateTask(_)
            | ServiceError::Schedule(_)
            | ServiceError::State(StateError::Missing { .. } | StateError::Duplicate(_))
            | ServiceError::Store(StoreError::Unsupported(_) | StoreError::NotMigrated(_))
            | ServiceError::Broker(BrokerError::Unsupported(_)) => Exit::Config,
            ServiceError::Store(_)
            | ServiceError::Broker(_)
            | ServiceError::State(StateError::Failed { .. })
            | ServiceError::NotIdle(_) => Exit::Unavailable,
            ServiceError::Died { .. } | ServiceError::System(_) => Exit::Software,
        };
        Self::new(exit, error)
    }
}

impl From<AppError> for CommandFailure {
    fn from(error: AppError) -> Self {
        match error {
            AppError::Service(error) => error.into(),
            AppError::Defaults(error) => Self::new(Exit::Config, error),
        }
    }
}

impl From<IdentityError> for CommandFailure {
    fn from(error: IdentityError) -> Self {
        let exit = match &error {
            IdentityError::NoSuchUser(_)
            | IdentityError::NoSuchGroup(_)
            | IdentityError::NoGroup(_) => Exit::NoUser,
            IdentityError::NotRoot { .. } => Exit::NotPermitted,
            IdentityError::System(..) | IdentityError::Reversible(_) => Exit::Software,
        };
        Self::new(exit, error)
    }
}

impl From<PidfileError> for CommandFailure {
    fn from(error: PidfileError) -> Self {
        Self::new(Exit::Pidfile, error)
    }
}

impl From<ControlSocketError> for CommandFailure {
    fn from(error: ControlSocketError) -> Self {
        Self::new(Exit::Pidfile, error)
    }
}

impl From<StoreError> for CommandFailure {
    fn from(error: StoreError) -> Self {
        Self::from(ServiceError::from(error))
    }
}
