//! What cron lines mean, and which ones are refused.

use chrono::{DateTime, Datelike, TimeDelta, Utc, Weekday};
use chrono_tz::Tz;

use super::{at, cron, next};
use crate::timetable::{Timetable, TimetableError};

fn days(line: &str) -> Vec<Weekday> {
    let week = next(&cron(line, "UTC"), at("2026-11-22T00:00:00Z"), 7);
    let until = at("2026-11-29T00:00:00Z");
    week.iter()
        .filter(|time| **time < until)
        .map(Datelike::weekday)
        .collect()
}

fn first(line: &str) -> DateTime<Utc> {
    let now = at("2026-11-24T01:02:03.5Z");
    cron(line, "UTC").first_after(now).unwrap()
}

fn problem(line: &str) -> String {
    Timetable::cron(line, Tz::UTC).unwrap_err().to_string()
}

#[test]
fn five_fields_begin_with_the_minute_six_with_the_second_and_seven_end_with_the_year() {
    assert_eq!(first("30 14 * * *"), at("2026-11-24T14:30:00Z"));
    assert_eq!(first("15 30 14 * * *"), at("2026-11-24T14:30:15Z"));
    assert_eq!(first("15 30 14 * * * 2028"), at("2028-01-01T14:30:15Z"));
    assert_eq!(first("* * * * *"), at("2026-11-24T01:03:00Z"));
    assert_eq!(first("* * * * * *"), at("2026-11-24T01:02:04Z"));
    assert_eq!(first("  5\t4  3 2 *  "), at("2027-02-03T04:05:00Z"));
}

#[test]
fn the_named_lines_fire_at_the_first_moment_of_each() {
    assert_eq!(first("@hourly"), at("2026-11-24T02:00:00Z"));
    assert_eq!(first("@daily"), at("2026-11-25T00:00:00Z"));
    assert_eq!(first("@midnight"), at("2026-11-25T00:00:00Z"));
    assert_eq!(first("@weekly"), at("2026-11-29T00:00:00Z"));
    assert_eq!(first("@weekly").weekday(), Weekday::Sun);
    assert_eq!(first("@monthly"), at("2026-12-01T00:00:00Z"));
    assert_eq!(first("@yearly"), at("2027-01-01T00:00:00Z"));
    assert_eq!(first("@Annually"), at("2027-01-01T00:00:00Z"));
}

#[test]
fn weekdays_are_numbered_as_in_a_crontab_in_every_line() {
    use Weekday::{Fri, Mon, Sat, Sun, Thu, Tue, Wed};
    for (weekdays, fits) in [
        ("0", &[Sun][..]),
        ("7", &[Sun]),
        ("1", &[Mon]),
        ("1-5", &[Mon, Tue, Wed, Thu, Fri]),
        ("5-7", &[Sun, Fri, Sat]),
        ("5-0", &[Sun, Fri, Sat]),
        ("6-2", &[Sun, Mon, Tue, Sat]),
        ("7-2", &[Sun, Mon, Tue]),
        ("FRI-mon", &[Sun, Mon, Fri, Sat]),
        ("wed-Sun", &[Sun, Wed, Thu, Fri, Sat]),
        ("Tuesday,thurs", &[Tue, Thu]),
        ("*/2", &[Sun, Tue, Thu, Sat]),
        ("1-7/2", &[Sun, Mon, Wed, Fri]),
        ("5-1/2", &[Sun, Fri]),
        ("1/2", &[Mon, Wed, Fri]),
        ("7/2", &[Sun, Tue, Thu, Sat]),
        ("0-7", &[Sun, Mon, Tue, Wed, Thu, Fri, Sat]),
        ("?", &[Sun, Mon, Tue, Wed, Thu, Fri, Sat]),
    ] {
        assert_eq!(days(&format!("0 9 * * {weekdays}")), fits, "{weekdays}");
        assert_eq!(days(&format!("0 0 9 * * {weekdays}")), fits, "{weekdays}");
        assert_eq!(days(&format!("0 0 9 ? * {weekdays} *")), fits, "{weekdays}");
    }
}

#[test]
fn a_day_that_fits_either_field_of_days_will_do_if_both_are_restricted() {
    let dates = |line: &str| -> Vec<u32> {
        let december = at("2026-11-30T23:59:59Z");
        let times = next(&cron(line, "UTC"), december, 8);
        let times = times.iter().take_while(|time| time.month() == 12);
        times.map(Datelike::day).collect()
    };
    // Fridays: 4, 11, 18, 25
    assert_eq!(dates("0 0 13 * 5"), [4, 11, 13, 18, 25]);
    assert_eq!(dates("0 0 0 13 * 5 2026"), [4, 11, 13, 18, 25]);
    assert_eq!(dates("0 0 11 * FRI"), [4, 11, 18, 25]);
    assert_eq!(dates("0 0 */10 * 5"), [11]);
    assert_eq!(dates("0 0 13 * */5"), [13]);
    assert_eq!(dates("0 0 13 * *"), [13]);
    assert_eq!(dates("0 0 ? * 5"), [4, 11, 18, 25]);
}

#[test]
fn lists_ranges_steps_and_names_are_what_crontab_says() {
    let hours = |field: &str| -> Vec<String> {
        let times = next(
            &cron(&format!("0 {field} * * *"), "UTC"),
            at("2026-11-23T23:59:59Z"),
            24,
        );
        let times = times
            .iter()
            .take_while(|time| **time < at("2026-11-25T00:00:00Z"));
        times.map(|time| time.format("%H").to_string()).collect()
    };
    assert_eq!(hours("8-18/5"), ["08", "13", "18"]);
    assert_eq!(hours("20/2"), ["20", "22"]);
    assert_eq!(hours("*/6"), ["00", "06", "12", "18"]);
    assert_eq!(hours("1,3-4,23"), ["01", "03", "04", "23"]);
    assert_eq!(hours("007"), ["07"]);
    assert_eq!(first("0 0 1 feb,Sept *"), at("2027-02-01T00:00:00Z"));
    assert_eq!(first("0 0 1 JUN-aug *"), at("2027-06-01T00:00:00Z"));
    assert_eq!(first("0 0 29 2 *"), at("2028-02-29T00:00:00Z"));
}

#[test]
fn a_year_to_come_is_found_whatever_the_day_it_is_asked_on() {
    for now in [
        "2026-11-24T00:00:00Z",
        "2028-02-29T12:00:00Z",
        "2026-12-31T23:59:59Z",
    ] {
        let years = cron("0 0 0 1 1,2 * 2029-2030", "UTC");
        assert_eq!(
            years.next_after(at(now)),
            Some(at("2029-01-01T00:00:00Z")),
            "{now}"
        );
    }
}

#[test]
fn a_line_that_can_not_be_met_says_which_part_and_why() {
    for (line, why) in [
        ("", "it has 0 fields; there are five (minute"),
        ("*", "it has 1 field;"),
        ("* * * *", "it has 4 fields"),
        ("* * * * * * * *", "it has 8 fields"),
        ("60 * * * *", "minute: \"60\" is not one of 0 to 59"),
        ("* 24 * * *", "hour: \"24\" is not one of 0 to 23"),
        ("* * 0 * *", "day of the month: \"0\" is not one of 1 to 31"),
        (
            "* * * 13 *",
            "month: \"13\" is not one of 1 to 12, nor a name from january to december",
        ),
        (
            "* * * * 8",
            "weekday: \"8\" is not one of 0 to 7, nor a name from sunday",
        ),
        ("* * * ma *", "month: \"ma\" is not one of"),
        (
            "* * * * * * 1969",
            "year: \"1969\" is not one of 1970 to 2100",
        ),
        ("4294967297 * * * *", "is not one of 0 to 59"),
        ("*/0 * * * *", "minute: \"*/0\" has a step of 0"),
        ("1-5/00 * * * *", "has a step of 0"),
        ("*/90 * * * *", "longer than the field"),
        ("*/99999999999999999999999 * * * *", "longer than the field"),
        ("*/x * * * *", "a step that is not a number"),
        ("*/ * * * *", "a step that is not a number"),
        ("*/+5 * * * *", "a step that is not a number"),
        ("1,,2 * * * *", "minute: a value is missing"),
        ("1- * * * *", "minute: a value is missing"),
        ("-1 * * * *", "minute: a value is missing"),
        ("1-2-3 * * * *", "minute: \"2-3\" is not one of"),
        (
            "* 22-2 * * *",
            "hour: 22-2 goes backwards; to wrap around, write 22-23,0-2",
        ),
        ("? * * * *", "minute: ? stands for the day of the month"),
        ("* * L * *", "day of the month: \"L\" is not supported"),
        ("* * 15W * *", "\"15W\" is not supported"),
        ("* * L-3 * *", "\"L\" is not supported"),
        ("* * lw * *", "\"lw\" is not supported"),
        ("* * * * 5L", "weekday: \"5L\" is not supported"),
        ("* * * * 5#2", "weekday: \"5#2\" is not supported"),
        (
            "@fortnightly",
            "@fortnightly is not known: there are @hourly",
        ),
        ("@every 5m", "give an interval instead"),
        ("@reboot", "@reboot is not a time"),
        (
            "TZ=Europe/Berlin 0 3 * * *",
            "a schedule has a time zone of its own",
        ),
        ("1 2 3 4 5 \u{1b}[31m", "is not one of"),
    ] {
        let told = problem(line);
        assert!(told.contains(why), "{told}");
        assert!(told.starts_with("cron line \""), "{told}");
        assert!(!told.contains('\u{1b}'), "{told}");
    }
    assert!(problem(&"1,".repeat(300)).contains("longer than 500 characters"));
}

#[test]
fn a_line_that_never_fires_is_refused_and_one_that_is_over_when_it_is_saved() {
    for never in [
        "0 0 30 2 *",
        "0 0 31 2,4,6,9,11 *",
        "0 0 0 29 2 * 2027",
        "0 0 0 29 2 ? 2100",
    ] {
        let told = Timetable::cron(never, Tz::UTC).unwrap_err();
        assert_eq!(told, TimetableError::Never(never.to_owned()));
    }
    // Mondays fit.
    assert!(Timetable::cron("0 0 30 2 1", Tz::UTC).is_ok());
    let past = cron("0 0 0 1 1 * 2020-2026", "UTC");
    let told = past.first_after(at("2026-01-01T00:00:00Z")).unwrap_err();
    assert!(
        told.to_string().contains("2020-2026\" never fires again"),
        "{told}"
    );
    assert!(past.first_after(at("2025-12-31T23:59:59.9Z")).is_ok());
}

#[test]
fn the_last_year_ends_it_and_the_first_begins_it() {
    let hourly = cron("@hourly", "Asia/Tokyo");
    let long_ago = DateTime::<Utc>::MIN_UTC;
    assert_eq!(
        hourly.next_after(long_ago),
        Some(at("1969-12-31T15:00:00Z"))
    );
    assert_eq!(hourly.next_after(DateTime::<Utc>::MAX_UTC), None);
    assert_eq!(hourly.next_after(at("2100-12-31T14:00:00Z")), None);
    let last = hourly.next_after(at("2100-12-31T13:59:59Z"));
    assert_eq!(last, Some(at("2100-12-31T14:00:00Z")));
    let far = last.unwrap() + TimeDelta::days(400);
    assert_eq!(hourly.next_after(far), None);
}
