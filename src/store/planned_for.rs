//! The timetable that a schedule's next occurrence was reckoned from, as a service notes it in the row.

use super::ScheduleSpec;

/// A timetable, but for where it is counted from: the interval's unit, how many of them, the time zone and the
/// cron line, with blanks between. Statements compare its text with the columns of the row, hence its form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedFor(String);

impl PlannedFor {
    /// That of a schedule as it stands.
    #[must_use]
    pub fn of(spec: &ScheduleSpec) -> Self {
        Self(format!(
            "{} {} {} {}",
            spec.interval_type,
            spec.interval_count,
            spec.time_zone.as_deref().unwrap_or_default(),
            spec.cron.as_deref().unwrap_or_default()
        ))
    }

    /// A schedule with this timetable in place of its own; `None` if it is another version's, which can't be
    /// read.
    pub(super) fn put_into(&self, spec: ScheduleSpec) -> Option<ScheduleSpec> {
        let mut parts = self.0.splitn(4, ' ');
        let mut part = || parts.next().unwrap_or_default().to_owned();
        Some(ScheduleSpec {
            interval_type: part(),
            interval_count: part().parse().ok()?,
            time_zone: Some(part()),
            cron: Some(part()),
            ..spec
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
        for (count, zone, cron) in [
            (5, None, None),
            (1, Some("Europe/Berlin"), Some("0 3 * * 1-5")),
        ] {
            let spec = ScheduleSpec {
                interval_type: "minutes".to_owned(),
                interval_count: count,
                time_zone: zone.map(str::to_owned),
                cron: cron.map(str::to_owned),
                ..ScheduleSpec::new("a", "task", "queue")
            };
            let noted = PlannedFor::of(&spec);
            let other = ScheduleSpec::new("b", "task", "queue");
            let read = noted.put_into(other).unwrap();
            assert!(read.fires_as(&spec), "{noted:?}");
            assert_eq!(read.name.as_deref(), Some("b"));
        }
    }

    #[test]
    fn that_of_another_version_can_not_be_read() {
        for text in ["", "monthly", "every second tuesday"] {
            let noted = PlannedFor::from(text.to_owned());
            assert_eq!(
                noted.put_into(ScheduleSpec::new("a", "task", "queue")),
                None
            );
        }
    }
}
