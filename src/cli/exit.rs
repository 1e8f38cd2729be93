//! The exit codes, in the spirit of `sysexits.h`.

use std::process::ExitCode;

/// The exit code of the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Success.
    Ok = 0,
    /// Done in part; standard error says what was not done. `daemon status`: the service died and left its
    /// pidfile (LSB).
    Partly = 1,
    /// `daemon status`: the service is not running (LSB).
    Stopped = 3,
    /// `daemon status`: it is unknown whether the service runs (LSB).
    Unknown = 4,
    /// `daemon stop`: no service was running (LSB).
    NotRunning = 7,
    /// The service is still stopping, after `--timeout` or at a `daemon start`.
    StillRunning = 8,
    /// `daemon start`: the service is running already.
    AlreadyRunning = 9,
    /// The command line is wrong (`EX_USAGE`).
    Usage = 64,
    /// Wrong input: arguments that are not JSON, a timetable that never fires, an unknown schedule
    /// (`EX_DATAERR`).
    Data = 65,
    /// The current directory or a file can't be read (`EX_NOINPUT`).
    NoInput = 66,
    /// There is no such user or group (`EX_NOUSER`).
    NoUser = 67,
    /// The broker or the database is away or refuses the connection (`EX_UNAVAILABLE`).
    Unavailable = 69,
    /// An error of this program or of the system (`EX_SOFTWARE`).
    Software = 70,
    /// The pidfile or its control socket can't be used (`EX_OSFILE`).
    Pidfile = 72,
    /// The log file can't be written (`EX_CANTCREAT`).
    CantCreate = 73,
    /// Standard output can't be written (`EX_IOERR`).
    Io = 74,
    /// Stopped hard: running tasks were left for redelivery (`EX_TEMPFAIL`).
    Halted = 75,
    /// The service belongs to another user, or only root may do that (`EX_NOPERM`).
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

    /// The exit code with that number, as the daemon has reported it.
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
