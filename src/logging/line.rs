//! The shape of log lines.

use std::fmt;

use chrono::Local;
use log::Level;

/// A line in django-carrot's shape.
pub(super) fn line(name: &str, level: Level, message: &fmt::Arguments<'_>) -> String {
    let now = Local::now().format("%Y-%m-%d %H:%M:%S,%3f");
    format!("{name} {now} {}:: {message}", level_name(level))
}

/// Python's name of the level.
const fn level_name(level: Level) -> &'static str {
    match level {
        Level::Error => "ERROR",
        Level::Warn => "WARNING",
        Level::Info => "INFO",
        Level::Debug | Level::Trace => "DEBUG",
    }
}
