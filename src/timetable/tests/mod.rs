//! Tests of timetables, with the time passed in.

mod changes;
mod lines;
mod properties;

use chrono::{DateTime, TimeDelta, Utc};

use super::{Interval, Timetable, TimetableError, zone};

fn at(time: &str) -> DateTime<Utc> {
    time.parse().unwrap()
}

fn cron(line: &str, zone_name: &str) -> Timetable {
    Timetable::cron(line, zone(zone_name).unwrap()).unwrap()
}

/// The first `count` times after `after`.
fn next(timetable: &Timetable, after: DateTime<Utc>, count: usize) -> Vec<DateTime<Utc>> {
    let later = |time: &DateTime<Utc>| timetable.next_after(*time);
    std::iter::successors(later(&after), later)
        .take(count)
        .collect()
}

#[test]
fn an_interval_stays_on_its_anchor_whenever_it_is_asked() {
    let anchor = at("2026-03-01T00:00:07.25Z");
    let every = Timetable::every("minutes", 5, anchor).unwrap();
    let before = anchor - TimeDelta::milliseconds(1);
    assert_eq!(every.next_after(before), Some(anchor));
    // A time before the anchor, as when the clock was ahead and was put right.
    let long_before = anchor - TimeDelta::days(400);
    for (early, later) in [
        (0, 300),
        (1, 0),
        (299_999, 0),
        (300_000, 0),
        (300_001, -300),
    ] {
        let after = long_before - TimeDelta::milliseconds(early);
        let next = long_before + TimeDelta::seconds(later);
        assert_eq!(every.next_after(after), Some(next), "{early} ms earlier");
    }
    assert_eq!(
        next(&every, anchor, 2),
        [at("2026-03-01T00:05:07.25Z"), at("2026-03-01T00:10:07.25Z")]
    );
    let late = at("2027-03-01T13:44:59.9Z");
    assert_eq!(every.next_after(late), Some(at("2027-03-01T13:45:07.25Z")));
    let on_time = at("2027-03-01T13:45:07.25Z");
    assert_eq!(
        every.next_after(on_time),
        Some(on_time + TimeDelta::minutes(5))
    );
}

#[test]
fn every_interval_type_of_django_carrot_has_its_length() {
    let anchor = at("2026-01-01T00:00:00Z");
    for (interval_type, seconds) in [
        ("seconds", 1),
        ("minutes", 60),
        ("hours", 3600),
        ("days", 86_400),
    ] {
        let every = Timetable::every(interval_type, 3, anchor).unwrap();
        let gone = every.next_after(anchor).unwrap() - anchor;
        assert_eq!(gone.num_seconds(), 3 * seconds);
    }
}

#[test]
fn an_invalid_interval_says_why() {
    let problem = |interval_type, count| {
        let every = Timetable::every(interval_type, count, at("2026-01-01T00:00:00Z"));
        every.unwrap_err().to_string()
    };
    assert!(problem("weeks", 1).contains("seconds, minutes, hours or days"));
    assert!(problem("days", 0).contains("the count is 1 to 2147483647"));
    assert!(problem("days", -5).contains("an interval of -5 days is not valid"));
    assert!(problem("days", i64::MAX).contains("2147483647"));
    let longest = Timetable::every("days", i32::MAX.into(), at("2026-01-01T00:00:00Z"));
    assert_eq!(
        longest.unwrap().next_after(at("2026-01-01T00:00:00Z")),
        None
    );
}

#[test]
fn an_interval_is_typed_as_people_say_it() {
    for (typed, shown) in [
        ("30s", "30 seconds"),
        ("5m", "5 minutes"),
        ("90s", "90 seconds"),
        ("120s", "2 minutes"),
        ("1h 30m", "90 minutes"),
        ("1h30m", "90 minutes"),
        ("24h", "1 day"),
        ("2w", "14 days"),
        ("3 hours", "3 hours"),
        ("1d", "1 day"),
        ("1.5h", "90 minutes"),
    ] {
        let interval: Interval = typed.parse().unwrap();
        assert_eq!(interval.to_string(), shown, "{typed}");
    }
    for wrong in [
        "",
        "5",
        "m",
        "0s",
        "500ms",
        "1s 1ns",
        "-5m",
        "five minutes",
        "99999999999d",
        "5µs",
        "999999999999999999999999s",
        "1M",
        "1 month",
        "2 years",
        "1y",
    ] {
        let fault = wrong.parse::<Interval>().unwrap_err().to_string();
        let month = fault.contains("use a cron line");
        assert_eq!(
            month,
            wrong.contains(['M', 'y']) || wrong.contains("month"),
            "{fault}"
        );
    }
}

#[test]
fn an_unknown_zone_suggests_a_known_one() {
    let hint = |name| match zone(name) {
        Err(TimetableError::Zone { hint, .. }) => hint,
        other => panic!("{name}: {other:?}"),
    };
    assert_eq!(hint("europe/berlin"), "did you mean Europe/Berlin?");
    assert_eq!(hint("Europe/Berlim"), "did you mean Europe/Berlin?");
    assert_eq!(hint("Berlin"), "did you mean Europe/Berlin?");
    assert_eq!(hint("new york"), "did you mean America/New_York?");
    assert!(hint("+02:00").contains("IANA"));
    assert!(hint("").contains("IANA"));
    assert_eq!(zone("UTC"), Ok(chrono_tz::UTC));
}
