//! Times on their way into a statement and out of it: text, as Django writes it into SQLite, in UTC.

use chrono::{DateTime, NaiveDateTime, Utc};

/// `2026-11-24 01:02:03.000004`.
pub(super) fn text(time: DateTime<Utc>) -> String {
    time.format("%Y-%m-%d %H:%M:%S%.6f").to_string()
}

/// The time that a text stands for.
pub(super) fn parse(text: &str) -> Option<DateTime<Utc>> {
    let naive = NaiveDateTime::parse_from_str(text, "%Y-%m-%d %H:%M:%S%.f").ok()?;
    Some(naive.and_utc())
}
