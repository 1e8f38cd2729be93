//! The exit codes, in the spirit of `sysexits.h`.

use std::process::ExitCode;

use super::{AppError, Failure};
use crate::broker::BrokerError;
use crate::daemon::{PidfileError, SocketError};
use crate::process::privileges::IdentityError;
use crate::service::ServiceError;
use crate::store::StoreError;
use crate::task::StateError;

/// What the process says by its exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// It did what it was asked to.
    Ok = 0,
    /// Some of what was asked for could not be done; standard error says what. `daemon status`: the
    /// service died, and its pidfile is left (LSB).
    Partly = 1,
    /// `daemon status`: the service is not running (LSB).
    Stopped = 3,
    /// `daemon status`: it can't be told whether the service runs (LSB).
    Unknown = 4,
    /// There was nothing to stop (LSB).
    NotRunning = 7,
    /// It is still stopping: after the time that it was given, or when it was to be started.
    StillRunning = 8,
    /// There is nothing to start: it runs already.
    AlreadyRunning = 9,
    /// The command line is wrong (`EX_USAGE`).
    Usage = 64,
    /// Data that was given is wrong: arguments that are not JSON, a timetable that can't be met, a
    /// schedule that is not there (`EX_DATAERR`).
    Data = 65,
    /// The current directory or a file can't be read (`EX_NOINPUT`).
    NoInput = 66,
    /// There is no such user or group (`EX_NOUSER`).
    NoUser = 67,
    /// The broker or the database is away or refuses us (`EX_UNAVAILABLE`).
    Unavailable = 69,
    /// An error of ours or of the system (`EX_SOFTWARE`).
    Software = 70,
    /// The pidfile or its control socket can't be used (`EX_OSFILE`).
    Pidfile = 72,
    /// The log file can't be written (`EX_CANTCREAT`).
    CantCreate = 73,
    /// Standard output can't be written (`EX_IOERR`).
    Io = 74,
    /// Stopped hard: tasks were left for redelivery (`EX_TEMPFAIL`).
    Halted = 75,
    /// The service is another user's, or only root may do that (`EX_NOPERM`).
    NotPermitted = 77,
    /// The configuration is wrong, the database is not migrated, or the program has set a logger of its
    /// own (`EX_CONFIG`).
    Config = 78,
}

impl Exit {
    const ALL: [Self; 19] = [
        Self::Ok,
        Self::Partly,
        Self::Stopped,
        Self::Unknown,
        Self::NotRunning,
        Self::StillRunning,
        Self::AlreadyRunning,
        Self::Usage,
        Self::Data,
        Self::NoInput,
        Self::NoUser,
        Self::Unavailable,
        Self::Software,
        Self::Pidfile,
        Self::CantCreate,
        Self::Io,
        Self::Halted,
        Self::NotPermitted,
        Self::Config,
    ];

    /// The one with that code, as another process of ours has given it.
    pub(super) fn of(code: u8) -> Self {
        let named = Self::ALL.into_iter().find(|exit| *exit as u8 == code);
        named.unwrap_or(Self::Software)
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

impl From<ServiceError> for Failure {
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

impl From<AppError> for Failure {
    fn from(error: AppError) -> Self {
        match error {
            AppError::Service(error) => error.into(),
            AppError::Defaults(error) => Self::new(Exit::Config, error),
        }
    }
}

impl From<IdentityError> for Failure {
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

impl From<PidfileError> for Failure {
    fn from(error: PidfileError) -> Self {
        Self::new(Exit::Pidfile, error)
    }
}

impl From<SocketError> for Failure {
    fn from(error: SocketError) -> Self {
        Self::new(Exit::Pidfile, error)
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self::from(ServiceError::from(error))
    }
}
