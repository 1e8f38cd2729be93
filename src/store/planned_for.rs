//! The column `planned_for`: the timetable from which a service computed a schedule's next occurrence.

/// A timetable without its anchor: the interval's unit, its count, the time zone and the cron line, with blanks
/// between. Statements build the same text from the row's columns to compare it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedFor(String);

/// The columns that make up a [`PlannedFor`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct TimetableColumns {
    pub(super) interval_type: String,
    pub(super) interval_count: i64,
    pub(super) time_zone: String,
    pub(super) cron: String,
}

impl TimetableColumns {
    pub(super) fn join(&self) -> PlannedFor {
        let Self {
            interval_type,
            interval_count,
            time_zone,
            cron,
        } = self;
        PlannedFor(format!(
            "{interval_type} {interval_count} {time_zone} {cron}"
        ))
    }
}

impl PlannedFor {
    /// The columns; `None` when another version wrote a text that this one can't read.
    pub(super) fn split(&self) -> Option<TimetableColumns> {
        let mut parts = self.0.splitn(4, ' ');
        let mut part = || parts.next().unwrap_or_default().to_owned();
        Some(TimetableColumns {
            interval_type: part(),
            interval_count: part().parse().ok()?,
            time_zone: part(),
            cron: part(),
        })
    }
}

impl From<String> for PlannedFor {
    /// From the text in the row.
    fn from(text: String) -> Self {
        Self(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_joined_timetable_splits_into_the_same_columns() {
        for (interval_count, time_zone, cron) in [(5, "", ""), (1, "Europe/Berlin", "0 3 * * 1-5")]
        {
            let noted = TimetableColumns {
                interval_type: "minutes".to_owned(),
                interval_count,
                time_zone: time_zone.to_owned(),
                cron: cron.to_owned(),
            };
            assert_eq!(noted.join().split(), Some(noted));
        }
    }

    #[test]
    fn a_text_of_another_version_can_not_be_split() {
        for text in ["", "monthly", "every second tuesday"] {
            assert_eq!(PlannedFor::from(text.to_owned()).split(), None);
        }
    }
}
