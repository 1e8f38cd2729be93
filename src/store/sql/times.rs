//! Times in statements are texts in UTC, in the format that Django writes into SQLite.

use chrono::{DateTime, NaiveDate, NaiveDateTime, NaiveTime, Utc};

/// The format of [`to_text`].
const FORMAT: &str = "%Y-%m-%d %H:%M:%S%.6f";

/// The other unambiguous formats that others write: ISO 8601, in UTC unless it names an offset.
const OTHER_FORMATS: [&str; 4] = [
    "%Y-%m-%d %H:%M:%S%.f",
    "%Y-%m-%dT%H:%M:%S%.f",
    "%Y-%m-%d %H:%M",
    "%Y-%m-%dT%H:%M",
];

/// `2026-11-24 01:02:03.000004`.
pub(super) fn to_text(time: DateTime<Utc>) -> String {
    time.format(FORMAT).to_string()
}

/// The time that a text stands for, if it stands for exactly one.
pub(super) fn parse(text: &str) -> Option<DateTime<Utc>> {
    let naive = |format| NaiveDateTime::parse_from_str(text, format).ok();
    if let Some(naive) = OTHER_FORMATS.into_iter().find_map(naive) {
        return Some(naive.and_utc());
    }
    if let Ok(date) = NaiveDate::parse_from_str(text, "%Y-%m-%d") {
        return Some(date.and_time(NaiveTime::MIN).and_utc());
    }
    parse_with_offset(text)
}

/// Parses a time that names its offset from UTC as `+02:00`, `+0200`, `+02` or `Z`.
fn parse_with_offset(text: &str) -> Option<DateTime<Utc>> {
    let is_sign = |c: char| matches!(c, '+' | '-' | 'Z' | 'z');
    // Skips the date, which contains minus signs.
    let at = text.char_indices().skip(10).find(|(_, c)| is_sign(*c))?.0;
    let (time, offset) = text.split_at(at);
    let offset = match offset {
        "Z" | "z" => "+0000".to_owned(),
        // As PostgreSQL writes it.
        hours if hours.len() == 3 => format!("{hours}00"),
        other => other.to_owned(),
    };
    let text = format!("{}{offset}", time.trim_end());
    ["%Y-%m-%d %H:%M:%S%.f%z", "%Y-%m-%dT%H:%M:%S%.f%z"]
        .into_iter()
        .find_map(|format| DateTime::parse_from_str(&text, format).ok())
        .map(|time| time.to_utc())
}

/// Whether a text is in our format. SQLite compares times as texts, whose order is that of the times only if all have
/// the same format.
pub(super) fn is_canonical(read: &str) -> bool {
    parse(read).is_some_and(|time| to_text(time) == read)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_in_another_format_is_read_if_it_is_unambiguous() {
        for written in [
            "2026-11-27 15:00:00",
            "2026-11-27 15:00:00.000000",
            "2026-11-27 15:00:00+00:00",
            "2026-11-27 15:00:00+00",
            "2026-11-27 15:00:00Z",
            "2026-11-27T15:00:00Z",
            "2026-11-27T15:00:00.000+00:00",
            "2026-11-27 17:00:00+02:00",
            "2026-11-27T17:00:00.000000+0200",
            "2026-11-27 09:30:00-05:30",
            "2026-11-27 15:00:00 +00:00",
            "2026-11-27T15:00",
            "2026-11-27 15:00",
        ] {
            let time = parse(written);
            assert_eq!(
                time.map(to_text).as_deref(),
                Some("2026-11-27 15:00:00.000000"),
                "{written}"
            );
            assert_eq!(
                is_canonical(written),
                written.ends_with(".000000"),
                "{written}"
            );
        }
        let date = parse("2026-11-27").map(to_text);
        assert_eq!(date.as_deref(), Some("2026-11-27 00:00:00.000000"));
    }

    #[test]
    fn a_text_that_may_stand_for_several_times_or_none_is_not_read() {
        for written in [
            "",
            "now",
            "infinity",
            "-infinity",
            "0000-00-00 00:00:00.000000",
            "2026-02-31 00:00:00.000000",
            "1764255600",
            "2461372.125",
            "27.11.2026 15:00",
            "2026-11-27 15:00:00 CET",
            "2026-11-27 15:00:00+99:00",
            "2026-11-27 15:00:00.000000 tomorrow",
            "ž026-11-27 15:00:00+00:00",
        ] {
            assert_eq!(parse(written), None, "{written}");
        }
    }
}
