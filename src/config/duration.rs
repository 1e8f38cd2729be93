//! Durations, as `"90s"`, `"5m"`, `"1h 30m"` or `"7d"`.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::reader::Entry;

/// What `1y` reads as: 365.25 days.
const YEAR: Duration = Duration::from_hours(8766);

/// Reads a duration within `range`. `expected` completes "must be …".
pub(super) fn read(
    entry: &Entry<'_>,
    range: RangeInclusive<Duration>,
    expected: &str,
) -> Option<Duration> {
    let parsed = humantime::parse_duration(entry.string(expected)?).ok();
    let duration = parsed.filter(|duration| range.contains(duration));
    if duration.is_none() {
        entry.mismatch(expected);
    }
    duration
}

/// The duration in the largest unit of which it is a whole number, as `7d`. It parses back to the same duration.
#[must_use]
pub fn format_duration(duration: Duration) -> String {
    const UNITS: [(u64, &str); 5] = [
        (YEAR.as_secs(), "y"),
        (24 * 60 * 60, "d"),
        (60 * 60, "h"),
        (60, "m"),
        (1, "s"),
    ];
    let seconds = duration.as_secs();
    let whole = |(unit, name): (u64, &str)| {
        let count = seconds / unit;
        (count > 0 && seconds.is_multiple_of(unit)).then(|| format!("{count}{name}"))
    };
    let shown = UNITS.into_iter().find_map(whole);
    shown.unwrap_or_else(|| humantime::format_duration(duration).to_string())
}

#[cfg(test)]
mod tests {
    use super::{format_duration, read};
    use crate::config::fault::Faults;
    use crate::config::reader::Section;
    use std::time::Duration;

    #[test]
    fn a_duration_has_units_and_is_within_its_bounds() {
        let hour = Duration::from_hours(1);
        let read = |value: &str| {
            let table: toml::Table = format!("key = {value}").parse().unwrap();
            let faults = Faults::default();
            let mut section = Section::root(&table, &faults);
            let entry = section.get("key").unwrap();
            let duration = read(&entry, Duration::from_secs(1)..=hour, "a short time");
            faults
                .into_result(duration, None)
                .map_err(|error| error.to_string())
        };
        assert_eq!(read("'1s'"), Ok(Some(Duration::from_secs(1))));
        assert_eq!(read("'30m 1800s'"), Ok(Some(hour)));
        for wrong in [
            "300",
            "'300'",
            "'-1s'",
            "'999ms'",
            "'3601s'",
            "'99999999999999999999s'",
            "''",
        ] {
            let told = read(wrong).unwrap_err();
            assert!(told.contains("key: must be a short time, not "), "{told}");
        }
    }

    #[test]
    fn a_duration_is_shown_as_it_would_be_typed() {
        for text in ["7d", "90d", "1y", "36h", "90m", "3601s", "0s", "500ms"] {
            assert_eq!(
                format_duration(humantime::parse_duration(text).unwrap()),
                text
            );
        }
        assert_eq!(format_duration(Duration::from_hours(48)), "2d");
    }
}
