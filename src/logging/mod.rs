//! Writes log lines to the terminal, to the log file and to the message whose task logged them.
//!
//! Every line has django-carrot's shape, `<name> YYYY-MM-DD HH:MM:SS,mmm LEVEL:: message`, since its
//! monitor splits the `log` of a message at `::` and spaces. In the log file the name is the thread's.

mod capture;
mod file;
mod line;

pub use capture::TaskLog;
pub use file::LogFile;

use std::io::Write;
use std::os::fd::AsFd;
use std::sync::OnceLock;

use self::line::line;
use log::{LevelFilter, Log, Metadata, Record};
use rustix::fs::{FileType, fstat, makedev};

/// Client libraries log nothing below this level.
const LIBRARY_LEVEL: LevelFilter = LevelFilter::Error;

/// This process's log file, if it has one.
static LOG_FILE: OnceLock<LogFile> = OnceLock::new();

/// Our logger: the `log` crate allows one in a process.
static LOGGER: Logger = Logger {
    sinks: OnceLock::new(),
};

/// This process has another logger, which receives everything that is logged.
#[derive(Debug, thiserror::Error)]
#[error(
    "this program has set a logger before, such as `env_logger::init()` or \
     `tracing_subscriber::fmt().init()`: what tasks log could not be kept with their messages, nor \
     written to the log file. Leave that out where the service runs; see \"Logging\" in carrot-actors' \
     documentation"
)]
pub struct ForeignLogger;

/// The lowest level that is logged: django-carrot's `--loglevel`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogLevel {
    /// Everything.
    Debug,
    /// What happens.
    Info,
    /// What may need attention.
    Warning,
    /// What went wrong.
    Error,
    /// The same as ERROR: no line has a higher level.
    Critical,
}

impl LogLevel {
    /// Every level, from the most to the fewest lines.
    pub const ALL: [Self; 5] = [
        Self::Debug,
        Self::Info,
        Self::Warning,
        Self::Error,
        Self::Critical,
    ];

    /// Its name on the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Debug => "DEBUG",
            Self::Info => "INFO",
            Self::Warning => "WARNING",
            Self::Error => "ERROR",
            Self::Critical => "CRITICAL",
        }
    }

    const fn filter(self) -> LevelFilter {
        match self {
            Self::Debug => LevelFilter::Debug,
            Self::Info => LevelFilter::Info,
            Self::Warning => LevelFilter::Warn,
            Self::Error | Self::Critical => LevelFilter::Error,
        }
    }
}

/// Makes our logger this process's; it logs once it is [started](start).
///
/// # Errors
/// When the process has another logger.
pub fn set_logger() -> Result<(), ForeignLogger> {
    use_our_logger().then_some(()).ok_or(ForeignLogger)
}

/// Starts logging for this process; only the first call counts.
///
/// # Errors
/// When the process has another logger.
pub fn start(level: LogLevel, file: Option<LogFile>) -> Result<(), ForeignLogger> {
    set_logger()?;
    LOGGER.sinks.get_or_init(|| {
        log::set_max_level(level.filter());
        if let Some(file) = &file {
            LOG_FILE.get_or_init(|| file.clone());
        }
        Sinks {
            terminal: sink(level, env_logger::Target::Stderr),
            terminal_is_visible: !is_null_device(std::io::stderr()),
            file: file.map(|file| sink(level, env_logger::Target::Pipe(Box::new(file)))),
        }
    });
    Ok(())
}

/// Keeps what tasks log, and prints nothing; unless this process has another logger already.
pub(crate) fn only_capture() {
    if use_our_logger() && log::max_level() == LevelFilter::Off {
        log::set_max_level(LevelFilter::Info);
    }
}

/// Makes our logger this process's, unless it has another one. Returns whether it is ours.
fn use_our_logger() -> bool {
    log::set_logger(&LOGGER).is_ok() || std::ptr::addr_eq(log::logger(), &raw const LOGGER)
}

/// Warns if this process can't reopen its log file: it may have become another user.
pub fn check_reopening() {
    if let Some(file) = LOG_FILE.get()
        && let Err(error) = file.reopen()
    {
        log::warn!(
            "the log file {} can't be opened anew after a rotation: {error}",
            file.path().display()
        );
    }
}

/// Reopens this process's log file, which was moved away (logrotate). If that fails, logs that, and goes on with
/// the old file.
pub fn reopen() {
    let Some(file) = LOG_FILE.get() else {
        return log::info!("there is no log file to open anew");
    };
    match file.reopen() {
        Ok(()) => log::info!("the log file was opened anew"),
        Err(error) => log::error!(
            "the log file {} can't be opened anew: {error}; going on with the old one",
            file.path().display()
        ),
    }
}

fn sink(level: LogLevel, target: env_logger::Target) -> env_logger::Logger {
    let mut builder = env_logger::Builder::new();
    builder.filter_level(level.filter()).target(target);
    // Its `trace` prints messages' bodies, and it logs, at each try, errors that it also returns to us and that we
    // log once.
    builder.filter_module("amiquip", LevelFilter::Off);
    for library in ["mio", "mio_extras", "actix", "actix_rt", "diesel"] {
        builder.filter_module(library, LIBRARY_LEVEL.min(level.filter()));
    }
    builder
        .format(|out, record| {
            let thread = std::thread::current();
            let name = thread.name().unwrap_or("carrot-actors");
            writeln!(out, "{}", line(name, record.level(), record.args()))
        })
        .build()
}

struct Logger {
    /// `None` if what tasks log is kept, and everything else dropped.
    sinks: OnceLock<Sinks>,
}

struct Sinks {
    terminal: env_logger::Logger,
    /// Whether standard error is something else than `/dev/null`.
    terminal_is_visible: bool,
    file: Option<env_logger::Logger>,
}

/// Whether `stream` is `/dev/null`, as a daemon's standard error is: then no line need be formatted for it.
fn is_null_device(stream: impl AsFd) -> bool {
    fstat(stream).is_ok_and(|found| {
        FileType::from_raw_mode(found.st_mode) == FileType::CharacterDevice
            && found.st_rdev == makedev(1, 3)
    })
}

impl Log for Logger {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        let sinks = self.sinks.get();
        sinks.is_none_or(|sinks| sinks.terminal.enabled(metadata))
    }

    fn log(&self, record: &Record<'_>) {
        match self.sinks.get() {
            None => capture::record(record),
            Some(sinks) => sinks.log(record),
        }
    }

    fn flush(&self) {
        if let Some(sinks) = self.sinks.get() {
            sinks.flush();
        }
    }
}

impl Sinks {
    fn log(&self, record: &Record<'_>) {
        if !self.terminal.matches(record) {
            return;
        }
        capture::record(record);
        if self.terminal_is_visible {
            self.terminal.log(record);
        }
        if let Some(file) = &self.file {
            file.log(record);
        }
    }

    fn flush(&self) {
        self.terminal.flush();
        if let Some(file) = &self.file {
            file.flush();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;

    #[test]
    fn only_the_null_device_is_one() {
        assert!(is_null_device(File::open("/dev/null").unwrap()));
        for file in ["/dev/zero", "/proc/self/stat"] {
            assert!(!is_null_device(File::open(file).unwrap()), "{file}");
        }
    }
}
