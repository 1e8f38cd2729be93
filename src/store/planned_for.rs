//! The timetable that a schedule's next occurrence was reckoned from, as a service notes it in the row.

/// A timetable, but for where it is counted from: the interval's unit, how many of them, the time zone and the
/// cron line, with blanks between. Statements compare its text with the columns of the row, hence its form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedFor(String);

/// The columns that it is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Noted {
    pub(super) interval_type: String,
    pub(super) interval_count: i64,
    pub(super) time_zone: String,
    pub(super) cron: String,
}

impl Noted {
    pub(super) fn written(&self) -> PlannedFor {
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
    /// `None`: another version's, which can't be read.
    pub(super) fn read(&self) -> Option<Noted> {
        let mut parts = self.0.splitn(4, ' ');
        let mut part = || parts.next().unwrap_or_default().to_owned();
        Some(Noted {
            interval_type: part(),
            interval_count: part().parse().ok()?,
            time_zone: part(),
            cron: part(),
        })
    }
}

impl From<String> for PlannedFor {
    /// What stands in the row.
    fn from(text: String) -> Self {
        Self(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_of_a_timetable_reads_back() {
        for (interval_count, time_zone, cron) in [(5, "", ""), (1, "Europe/Berlin", "0 3 * * 1-5")]
        {
            let noted = Noted {
                interval_type: "minutes".to_owned(),
                interval_count,
                time_zone: time_zone.to_owned(),
                cron: cron.to_owned(),
            };
            assert_eq!(noted.written().read(), Some(noted));
        }
    }

    #[test]
    fn that_of_another_version_can_not_be_read() {
        for text in ["", "monthly", "every second tuesday"] {
            assert_eq!(PlannedFor::from(text.to_owned()).read(), None);
        }
    }
}
