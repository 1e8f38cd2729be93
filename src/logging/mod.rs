//! Where log lines go: the terminal, the log file, and the message whose task wrote them.
//!
//! Every line has django-carrot's shape, `<name> YYYY-MM-DD HH:MM:SS,mmm LEVEL:: message`, since its
//! monitor splits the `log` of a message on `::` and blanks. In the log file the name is the thread's.

mod capture;
mod file;

pub use capture::TaskLog;
pub use file::LogFile;

use std::fmt;
use std::io::Write;
use std::os::fd::AsFd;
use std::sync::OnceLock;

use chrono::Local;
use log::{Level, LevelFilter, Log, Metadata, Record};
use rustix::fs::{FileType, fstat, makedev};

/// Client libraries below this level are quiet.
const LIBRARIES: LevelFilter = LevelFilter::Error;

/// This process's log file, if it has one.
static FILE: OnceLock<LogFile> = OnceLock::new();

/// Ours, of which a process has one, as `log` has it.
static LOGGER: Logger = Logger {
    sinks: OnceLock::new(),
};

/// Another logger gets all that is logged in this process.
#[derive(Debug, thiserror::Error)]
#[error(
    "this program has set a logger before, such as `env_logger::init()` or \
     `tracing_subscriber::fmt().init()`: what tasks log could not be kept with their messages, nor \
     written to the log file. Leave that out where the service runs; see \"Logging\" in carrot-actors' \
     documentation"
)]
pub struct ForeignLogger;

/// How much is logged: django-carrot's `--loglevel`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogLevel {
    /// Everything.
    Debug,
    /// What happens.
    Info,
    /// What may need a look.
    Warning,
    /// What went wrong.
    Error,
    /// The same as ERROR: nothing that we log is more critical.
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

/// Has this process log by us, as soon as that is started.
///
/// # Errors
/// When the process has another logger.
pub fn take() -> Result<(), ForeignLogger> {
    is_ours().then_some(()).ok_or(ForeignLogger)
}

/// Starts logging for this process; only the first call counts.
///
/// # Errors
/// When the process has another logger.
pub fn start(level: LogLevel, file: Option<LogFile>) -> Result<(), ForeignLogger> {
    take()?;
    LOGGER.sinks.get_or_init(|| {
        log::set_max_level(level.filter());
        if let Some(file) = &file {
            FILE.get_or_init(|| file.clone());
        }
        Sinks {
            terminal: sink(level, env_logger::Target::Stderr),
            is_shown: !leads_nowhere(std::io::stderr()),
            file: file.map(|file| sink(level, env_logger::Target::Pipe(Box::new(file)))),
        }
    });
    Ok(())
}

/// Keeps what tasks log, and prints nothing; only if nobody logs in this process yet.
pub(crate) fn only_capture() {
    if is_ours() && log::max_level() == LevelFilter::Off {
        log::set_max_level(LevelFilter::Info);
    }
}

/// Whether our logger is this process's, by now.
fn is_ours() -> bool {
    log::set_logger(&LOGGER).is_ok() || std::ptr::addr_eq(log::logger(), &raw const LOGGER)
}

/// Says so if this process could not open its log file anew, as it has become another user.
pub fn rehearse_reopening() {
    if let Some(file) = FILE.get()
        && let Err(error) = file.reopen()
    {
        log::warn!(
            "the log file {} can't be opened anew after a rotation: {error}",
            file.path().display()
        );
    }
}

/// Opens this process's log file anew, since it was moved away (logrotate). If that fails, the log goes
/// on where it was, and says so.
pub fn reopen() {
    let Some(file) = FILE.get() else {
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
    // Its `trace` prints bodies, and its errors say again, at each try, what it also returns to us and
    // we say once.
    builder.filter_module("amiquip", LevelFilter::Off);
    for library in ["mio", "mio_extras", "actix", "actix_rt", "diesel"] {
        builder.filter_module(library, LIBRARIES.min(level.filter()));
    }
    builder
        .format(|out, record| {
            let thread = std::thread::current();
            let name = thread.name().unwrap_or("carrot-actors");
            writeln!(out, "{}", line(name, record.level(), record.args()))
        })
        .build()
}

/// A line in django-carrot's shape.
fn line(name: &str, level: Level, message: &fmt::Arguments<'_>) -> String {
    let now = Local::now().format("%Y-%m-%d %H:%M:%S,%3f");
    format!("{name} {now} {}:: {message}", level_name(level))
}

/// Python's names of the levels.
const fn level_name(level: Level) -> &'static str {
    match level {
        Level::Error => "ERROR",
        Level::Warn => "WARNING",
        Level::Info => "INFO",
        Level::Debug | Level::Trace => "DEBUG",
    }
}

struct Logger {
    /// None if what tasks log is kept, and all else left out.
    sinks: OnceLock<Sinks>,
}

struct Sinks {
    terminal: env_logger::Logger,
    /// Whether anybody can read what is written to the terminal.
    is_shown: bool,
    file: Option<env_logger::Logger>,
}

/// Whether standard error is `/dev/null`, as a daemon's is: no line need be made for it.
fn leads_nowhere(stream: impl AsFd) -> bool {
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
        if self.is_shown {
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
    fn only_the_null_device_leads_nowhere() {
        assert!(leads_nowhere(File::open("/dev/null").unwrap()));
        for file in ["/dev/zero", "/proc/self/stat"] {
            assert!(!leads_nowhere(File::open(file).unwrap()), "{file}");
        }
    }
}
