//! Durations, as `"90s"`, `"5m"`, `"1h 30m"` or `"7d"`.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::reader::Entry;

/// A duration within `range`; `expected` completes "must be …".
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

#[cfg(test)]
mod tests {
    use super::read;
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
}
