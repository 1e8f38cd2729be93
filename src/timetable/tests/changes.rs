//! Cron lines around clock changes.

use std::ops::RangeInclusive;

use chrono::{Days, NaiveDate, NaiveTime, TimeDelta, Timelike};

use super::{at, cron, next};
use crate::timetable::{Timetable, zone};

/// The times at which a line fires on a local day in these hours, with their offsets, as `02:30+02`.
fn fired(line: &str, zone_name: &str, date: &str, hours: RangeInclusive<u32>) -> Vec<String> {
    let zone = zone(zone_name).unwrap();
    let date: NaiveDate = date.parse().unwrap();
    let yesterday = date - Days::new(1);
    let start = yesterday.and_time(NaiveTime::MIN).and_utc();
    let all = next(&cron(line, zone_name), start, 5000);
    all.iter()
        .map(|time| time.with_timezone(&zone))
        .filter(|time| time.date_naive() == date && hours.contains(&time.hour()))
        .map(|time| {
            let shown = time.format("%H:%M%z").to_string();
            shown.strip_suffix("00").unwrap_or(&shown).to_owned()
        })
        .collect()
}

#[test]
fn a_run_planned_in_the_skipped_hour_happens_when_the_gap_ends() {
    let march = |line| fired(line, "Europe/Berlin", "2026-03-29", 0..=5);
    assert_eq!(march("30 2 * * *"), ["03:00+02"]);
    assert_eq!(march("0 2 * * *"), ["03:00+02"]);
    assert_eq!(march("59 2 29 3 *"), ["03:00+02"]);
    // Runs that are planned in the gap or at its end become one.
    assert_eq!(march("0,30 2 * * *"), ["03:00+02"]);
    assert_eq!(march("0 2,3 * * *"), ["03:00+02"]);
    assert_eq!(
        march("15 1-4 * * *"),
        ["01:15+01", "03:00+02", "03:15+02", "04:15+02"]
    );
    // The next day is normal.
    assert_eq!(
        fired("30 2 * * *", "Europe/Berlin", "2026-03-30", 0..=23),
        ["02:30+02"]
    );
}

#[test]
fn a_run_planned_in_the_skipped_hour_happens_also_if_it_is_looked_for_in_the_last_second_before() {
    let change = at("2026-03-29T01:00:00Z");
    let daily = cron("30 2 * * *", "Europe/Berlin");
    for early in [1, 500, 1000, 1001] {
        let before = change - TimeDelta::milliseconds(early);
        assert_eq!(daily.next_after(before), Some(change), "{early} ms before");
    }
    assert_eq!(daily.next_after(change), Some(at("2026-03-30T00:30:00Z")));
    let last_second = cron("59 59 1,2 * * *", "Europe/Berlin");
    assert_eq!(
        next(&last_second, at("2026-03-29T00:00:00Z"), 3),
        [
            change - TimeDelta::seconds(1),
            change,
            at("2026-03-29T23:59:59Z")
        ]
    );
}

#[test]
fn a_run_planned_in_the_repeated_hour_happens_once_and_the_first_time_round() {
    let october = |line| fired(line, "Europe/Berlin", "2026-10-25", 0..=5);
    assert_eq!(october("30 2 * * *"), ["02:30+02"]);
    assert_eq!(october("0 2 * * *"), ["02:00+02"]);
    assert_eq!(october("59 2 25 10 *"), ["02:59+02"]);
    assert_eq!(october("0,30 2 * * *"), ["02:00+02", "02:30+02"]);
    assert_eq!(october("0 3 * * *"), ["03:00+01"]);
    assert_eq!(
        october("15 1-4 * * *"),
        ["01:15+02", "02:15+02", "03:15+01", "04:15+01"]
    );
}

#[test]
fn a_line_that_fires_all_through_the_hour_keeps_its_pace() {
    for (line, pace, date) in [
        ("*/10 * * * *", 10, "2026-03-29T00:00:00Z"),
        ("*/10 * * * *", 10, "2026-10-24T23:30:00Z"),
        ("* * * * *", 1, "2026-03-29T00:00:00Z"),
        ("* * * * *", 1, "2026-10-24T23:30:00Z"),
        ("5/15 * * * *", 15, "2026-03-29T00:05:00Z"),
        ("5/15 * * * *", 15, "2026-10-24T22:50:00Z"),
        ("30 * * * *", 60, "2026-03-28T20:30:00Z"),
        ("30 * * * *", 60, "2026-10-24T20:30:00Z"),
        ("*/20 1-4 * * *", 20, "2026-03-29T00:00:00Z"),
        ("*/20 1-4 * * *", 20, "2026-10-24T23:00:00Z"),
    ] {
        let start = at(date);
        let fired = next(&cron(line, "Europe/Berlin"), start, 8);
        let expected: Vec<_> = (1..=8)
            .map(|nth| start + TimeDelta::minutes(nth * pace))
            .collect();
        assert_eq!(fired, expected, "{line} from {date}");
    }
    // All through an hour that is skipped, or repeated.
    let march = fired("*/20 2 * * *", "Europe/Berlin", "2026-03-29", 0..=23);
    assert_eq!(march, ["03:00+02", "03:20+02", "03:40+02"]);
    let october = fired("*/20 2 * * *", "Europe/Berlin", "2026-10-25", 0..=23);
    assert_eq!(
        october,
        [
            "02:00+02", "02:20+02", "02:40+02", "02:00+01", "02:20+01", "02:40+01"
        ]
    );
}

#[test]
fn america_changes_at_its_own_time() {
    let march = |line| fired(line, "America/New_York", "2026-03-08", 0..=5);
    assert_eq!(march("30 2 * * *"), ["03:00-04"]);
    assert_eq!(march("0 */2 * * *"), ["00:00-05", "03:00-04", "04:00-04"]);
    let november = |line| fired(line, "America/New_York", "2026-11-01", 0..=3);
    assert_eq!(november("30 1 * * *"), ["01:30-04"]);
    assert_eq!(
        november("*/30 * * * *"),
        [
            "00:00-04", "00:30-04", "01:00-04", "01:30-04", "01:00-05", "01:30-05", "02:00-05",
            "02:30-05", "03:00-05", "03:30-05"
        ]
    );
}

/// The clocks change by half an hour, and forward in October, since it is in the south.
#[test]
fn lord_howe_skips_half_an_hour_and_repeats_one() {
    let october = |line| fired(line, "Australia/Lord_Howe", "2026-10-04", 0..=3);
    assert_eq!(october("15 2 * * *"), ["02:30+11"]);
    assert_eq!(october("45 2 * * *"), ["02:45+11"]);
    assert_eq!(
        october("*/15 1,2 * * *"),
        [
            "01:00+1030",
            "01:15+1030",
            "01:30+1030",
            "01:45+1030",
            "02:30+11",
            "02:45+11"
        ]
    );
    let april = |line| fired(line, "Australia/Lord_Howe", "2026-04-05", 0..=3);
    assert_eq!(april("45 1 * * *"), ["01:45+11"]);
    assert_eq!(april("15 1 * * *"), ["01:15+11"]);
    assert_eq!(
        april("*/15 1 * * *"),
        [
            "01:00+11",
            "01:15+11",
            "01:30+11",
            "01:45+11",
            "01:30+1030",
            "01:45+1030"
        ]
    );
}

#[test]
fn a_run_at_a_skipped_midnight_happens_at_one_o_clock() {
    for (zone, date, expected) in [
        ("America/Sao_Paulo", "2018-11-04", "01:00-02"),
        ("Africa/Cairo", "2026-04-24", "01:00+03"),
        ("Asia/Beirut", "2026-03-29", "01:00+03"),
    ] {
        assert_eq!(fired("@daily", zone, date, 0..=23), [expected], "{zone}");
        assert_eq!(
            fired("30 0 * * *", zone, date, 0..=23),
            [expected],
            "{zone}"
        );
    }
    // A repeated hour before midnight counts once: at 24:00 it is 23:00 again.
    assert_eq!(
        fired("30 23 * * *", "Africa/Cairo", "2026-10-29", 0..=23),
        ["23:30+03"]
    );
    assert_eq!(
        fired("@daily", "Africa/Cairo", "2026-10-30", 0..=23),
        ["00:00+02"]
    );
}

#[test]
fn a_zone_without_changes_has_none() {
    let kathmandu = cron("0 6 * * *", "Asia/Kathmandu");
    let morning = at("2026-03-29T00:15:00Z");
    assert_eq!(
        next(&kathmandu, morning - TimeDelta::seconds(1), 3),
        [
            morning,
            morning + TimeDelta::days(1),
            morning + TimeDelta::days(2)
        ]
    );
}

#[test]
fn a_run_on_a_day_that_a_country_skipped_happens_when_the_next_day_begins() {
    // Samoa had no 30 December 2011.
    let times = next(
        &cron("0 9 * * *", "Pacific/Apia"),
        at("2011-12-29T00:00:00Z"),
        4,
    );
    assert_eq!(
        times,
        [
            at("2011-12-29T19:00:00Z"),
            at("2011-12-30T10:00:00Z"),
            at("2011-12-30T19:00:00Z"),
            at("2011-12-31T19:00:00Z"),
        ]
    );
}

#[test]
fn an_interval_ignores_clock_changes() {
    let anchor = at("2026-03-28T12:00:00Z");
    let daily = Timetable::every("days", 1, anchor).unwrap();
    assert_eq!(daily.next_after(anchor), Some(at("2026-03-29T12:00:00Z")));
}

#[test]
fn a_run_a_year_is_found_through_all_the_changes_between() {
    let yearly = cron("30 2 29 3 *", "Europe/Berlin");
    let times = next(&yearly, at("2024-04-01T00:00:00Z"), 4);
    assert_eq!(
        times,
        [
            at("2025-03-29T01:30:00Z"),
            at("2026-03-29T01:00:00Z"),
            at("2027-03-29T00:30:00Z"),
            at("2028-03-29T00:30:00Z"),
        ]
    );
}
