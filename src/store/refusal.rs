//! Why a schedule does not run, as a service notes it in the schedule's row.

use std::fmt;

/// The text before the reason of [`ScheduleRefusal::NotRecorded`].
const NOT_RECORDED: &str = "the database refuses its record: ";

/// The text after the fault of [`ScheduleRefusal::NextRunLost`].
const NEXT_RUN_LOST: &str = "; `schedule edit` or `schedule enable` has it reckoned from then on";

/// Why a schedule does not run. The row stores its text, from which it can be parsed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ScheduleRefusal {
    /// The schedule's own columns are faulty. The row itself shows whether that still holds.
    Faulty(String),
    /// Its next occurrence could not be read, for this reason, and was cleared: nothing else in the row shows that.
    NextRunLost(String),
    /// The database refuses the message of its occurrence, for this reason: nothing else in the row shows that.
    NotRecorded(String),
}

impl fmt::Display for ScheduleRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Faulty(fault) => f.write_str(fault),
            Self::NextRunLost(fault) => write!(f, "{fault}{NEXT_RUN_LOST}"),
            Self::NotRecorded(reason) => write!(f, "{NOT_RECORDED}{reason}"),
        }
    }
}

impl From<String> for ScheduleRefusal {
    fn from(text: String) -> Self {
        if let Some(reason) = text.strip_prefix(NOT_RECORDED) {
            return Self::NotRecorded(reason.to_owned());
        }
        match text.strip_suffix(NEXT_RUN_LOST) {
            Some(fault) => Self::NextRunLost(fault.to_owned()),
            None => Self::Faulty(text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::ScheduleRefusal::{self, Faulty, NextRunLost, NotRecorded};

    #[test]
    fn it_reads_back_from_the_text_that_rows_have() {
        for (refusal, text) in [
            (
                Faulty("the row names no task".to_owned()),
                "the row names no task",
            ),
            (
                NextRunLost("next_run can't be read: it is \"x\"".to_owned()),
                "next_run can't be read: it is \"x\"; `schedule edit` or `schedule enable` has it reckoned \
                 from then on",
            ),
            (
                NotRecorded("value too long".to_owned()),
                "the database refuses its record: value too long",
            ),
        ] {
            assert_eq!(refusal.to_string(), text);
            assert_eq!(ScheduleRefusal::from(text.to_owned()), refusal);
        }
    }
}
