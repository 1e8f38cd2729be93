//! Errors of timetables.

/// What is wrong with a timetable, and how to correct it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TimetableError {
    /// An invalid interval.
    #[error("{0}")]
    Interval(String),
    /// A cron line that can't be parsed, or uses what is not supported.
    #[error("cron line {line:?}: {problem}")]
    Cron {
        /// The line.
        line: String,
        /// What is wrong with it.
        problem: String,
    },
    /// A cron line that no time of any year fits.
    #[error("cron line {0:?} never fires: no day fits it")]
    Never(String),
    /// A timetable whose last time is past.
    #[error("{0} never fires again: all its times are past")]
    Over(String),
    /// A time zone that is not in the IANA database.
    #[error("{name:?} is not a time zone: {hint}")]
    Zone {
        /// The name that was given.
        name: String,
        /// A name that may have been meant, or what a name looks like.
        hint: String,
    },
}
