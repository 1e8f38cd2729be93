//! Why there is no timetable.

/// What is wrong with a timetable, and what would be right.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TimetableError {
    /// An interval that is none.
    #[error("{0}")]
    Interval(String),
    /// A cron line that can't be read, or asks for what there is none of.
    #[error("cron line {line:?}: {problem}")]
    Cron {
        /// The line.
        line: String,
        /// What is wrong with it.
        problem: String,
    },
    /// A cron line that fits no moment of any year.
    #[error("cron line {0:?} never fires: no day fits it")]
    Never(String),
    /// A timetable whose last time is over.
    #[error("{0} never fires again: all its times are past")]
    Over(String),
    /// A time zone that is not in the IANA database.
    #[error("{name:?} is not a time zone: {hint}")]
    Zone {
        /// What was given.
        name: String,
        /// What would be right.
        hint: String,
    },
}
