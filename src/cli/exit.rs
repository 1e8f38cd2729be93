//! The exit codes, in the spirit of `sysexits.h`.

use std::process::ExitCode;

use super::Failure;
use crate::broker::BrokerError;
use crate::service::ServiceError;
use crate::store::StoreError;

/// What the process says by its exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// It did what it was asked to.
    Ok = 0,
    /// Some of what was asked for could not be done; standard error says what.
    Partly = 1,
    /// The command line is wrong (`EX_USAGE`).
    Usage = 64,
    /// Data that was given is wrong: arguments that are not JSON (`EX_DATAERR`).
    Data = 65,
    /// The current directory or a file can't be read (`EX_NOINPUT`).
    NoInput = 66,
    /// The broker or the database is away or refuses us (`EX_UNAVAILABLE`).
    Unavailable = 69,
    /// An error of ours or of the system (`EX_SOFTWARE`).
    Software = 70,
    /// The log file can't be written (`EX_CANTCREAT`).
    CantCreate = 73,
    /// Standard output can't be written (`EX_IOERR`).
    Io = 74,
    /// Stopped hard: tasks were left for redelivery (`EX_TEMPFAIL`).
    Halted = 75,
    /// The configuration is wrong, or the database is not migrated (`EX_CONFIG`).
    Config = 78,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

impl From<ServiceError> for Failure {
    fn from(error: ServiceError) -> Self {
        let exit = match &error {
            ServiceError::NotMigrated(_)
            | ServiceError::DuplicateTask(_)
            | ServiceError::Store(StoreError::Unsupported(_))
            | ServiceError::Broker(BrokerError::Unsupported(_)) => Exit::Config,
            ServiceError::Store(_) | ServiceError::Broker(_) | ServiceError::NotIdle(_) => {
                Exit::Unavailable
            }
            ServiceError::System(_) => Exit::Software,
        };
        Self::new(exit, error)
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self::from(ServiceError::from(error))
    }
}
