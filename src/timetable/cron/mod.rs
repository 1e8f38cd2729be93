//! Cron lines: parsing them, and searching for the times that fit.
//!
//! This module parses the line and `cron_clock` searches. `cron_clock` is given only numbers, in its own
//! numbering, and wall times as if they were UTC, since it would skip runs around clock changes.

mod field;

use std::ops::Bound;

use chrono::{DateTime, Datelike, NaiveDate, NaiveDateTime, TimeDelta, TimeZone, Utc};
use chrono_tz::Tz;
use cron_clock::{Schedule, TimeUnitSpec};

use self::field::{CronField, FieldValues};
use super::{TimetableError, clock};

/// The years that `cron_clock` knows.
const FIRST_YEAR: i32 = 1970;
const LAST_YEAR: i32 = 2100;

/// The most characters of a line.
const MAX_CHARS: usize = 500;

/// A cron line and its time zone.
#[derive(Debug, Clone)]
pub(super) struct Cron {
    line: Box<str>,
    zone: Tz,
    /// Whether it goes by elapsed time when the clocks change: see [`timetable`](crate::timetable).
    by_elapsed_time: bool,
    /// The line fires at the times that fit `days` or `or_days`.
    days: Schedule,
    or_days: Option<Schedule>,
}

impl Cron {
    pub(super) fn parse(line: &str, zone: Tz) -> Result<Self, TimetableError> {
        let fault = |problem: String| TimetableError::Cron {
            line: shown(line),
            problem,
        };
        if line.chars().count() > MAX_CHARS {
            let problem = format!("it is longer than {} characters", MAX_CHARS);
            return Err(fault(problem));
        }
        let line = line.trim();
        let fields = CronFields::parse(line).map_err(fault)?;
        let search = |days: &FieldValues, weekdays: &FieldValues| {
            let expression = fields.expression(days, weekdays);
            expression
                .parse::<Schedule>()
                .map_err(|error| fault(error.to_string()))
        };
        let (day, weekday) = (&fields.day, &fields.weekday);
        let any_day = FieldValues::All;
        let (days, or_days) = if day.starts_with_star || weekday.starts_with_star {
            (search(&day.values, &weekday.values)?, None)
        } else {
            let or_days = search(&any_day, &weekday.values)?;
            (search(&day.values, &any_day)?, Some(or_days))
        };
        let cron = Self {
            line: line.into(),
            zone,
            by_elapsed_time: fields.minute.runs_to_end || fields.hour.values == FieldValues::All,
            days,
            or_days,
        };
        let begin = NaiveDate::from_ymd_opt(FIRST_YEAR, 1, 1).unwrap_or_default();
        match cron.next_wall_time(begin.into()) {
            Some(_) => Ok(cron),
            None => Err(TimetableError::Never(line.to_owned())),
        }
    }

    pub(super) fn line(&self) -> &str {
        &self.line
    }

    pub(super) fn next_after(&self, after: DateTime<Utc>) -> Option<DateTime<Utc>> {
        if after.year() > LAST_YEAR {
            return None;
        }
        // Some days earlier: in the zone, the first year may have begun already.
        let earliest = NaiveDate::from_ymd_opt(FIRST_YEAR - 1, 12, 30)?;
        let after = after.max(NaiveDateTime::from(earliest).and_utc());
        clock::next_after(self.zone, self.by_elapsed_time, after, |from| {
            self.next_wall_time(from)
        })
    }

    /// The first wall time at or after `from` that fits.
    fn next_wall_time(&self, from: NaiveDateTime) -> Option<NaiveDateTime> {
        let next = search(&self.days, from);
        match &self.or_days {
            None => next,
            Some(or_days) => [next, search(or_days, from)].into_iter().flatten().min(),
        }
    }
}

fn search(schedule: &Schedule, from: NaiveDateTime) -> Option<NaiveDateTime> {
    let year = u32::try_from(from.year()).ok()?;
    // If the start's year does not fit, `cron_clock` would begin the next fitting year in the start's month, or
    // panic if the start is 29 February.
    let from = if schedule.years().includes(year) {
        from
    } else {
        let later = (Bound::Excluded(year), Bound::Unbounded);
        let year = schedule.years().range(later).next()?;
        NaiveDate::from_ymd_opt(i32::try_from(year).ok()?, 1, 1)?.into()
    };
    let before = Utc.from_utc_datetime(&from.checked_sub_signed(TimeDelta::seconds(1))?);
    schedule.after(&before).next().map(|next| next.naive_utc())
}

/// The parsed fields of a line.
struct CronFields {
    second: CronField,
    minute: CronField,
    hour: CronField,
    day: CronField,
    month: CronField,
    weekday: CronField,
    year: CronField,
}

impl CronFields {
    fn parse(line: &str) -> Result<Self, String> {
        let line = match line.strip_prefix('@') {
            Some(name) => named_line(name)?,
            None => line,
        };
        let texts: Vec<&str> = line.split_whitespace().collect();
        if let Some((variable, _)) = texts.first().and_then(|first| first.split_once('=')) {
            return Err(format!(
                "{variable}=… is not part of a line: a schedule has a time zone of its own"
            ));
        }
        let (second, rest, year) = match texts.as_slice() {
            rest if rest.len() == 5 => ("0", rest, "*"),
            [second, rest @ ..] if rest.len() == 5 => (*second, rest, "*"),
            [second, rest @ .., year] if rest.len() == 5 => (*second, rest, *year),
            _ => return Err(wrong_count(texts.len())),
        };
        let [minute, hour, day, month, weekday] = rest else {
            return Err(wrong_count(texts.len()));
        };
        Ok(Self {
            second: field::SECOND.parse(second)?,
            minute: field::MINUTE.parse(minute)?,
            hour: field::HOUR.parse(hour)?,
            day: field::DAY.parse(day)?,
            month: field::MONTH.parse(month)?,
            weekday: field::WEEKDAY.parse(weekday)?,
            year: field::YEAR.parse(year)?,
        })
    }

    /// The line for `cron_clock`, with these days.
    fn expression(&self, days: &FieldValues, weekdays: &FieldValues) -> String {
        format!(
            "{} {} {} {} {} {} {}",
            self.second.values.to_cron_clock(0),
            self.minute.values.to_cron_clock(0),
            self.hour.values.to_cron_clock(0),
            days.to_cron_clock(0),
            self.month.values.to_cron_clock(0),
            // `cron_clock` numbers Sunday 1.
            weekdays.to_cron_clock(1),
            self.year.values.to_cron_clock(0)
        )
    }
}

fn wrong_count(count: usize) -> String {
    format!(
        "it has {count} {fields}; there are five (minute, hour, day of the month, month, weekday), six \
         (a second before them) or seven (a year after them)",
        fields = if count == 1 { "field" } else { "fields" }
    )
}

fn named_line(name: &str) -> Result<&'static str, String> {
    match name.to_ascii_lowercase().as_str() {
        "hourly" => Ok("0 * * * *"),
        "daily" | "midnight" => Ok("0 0 * * *"),
        "weekly" => Ok("0 0 * * 0"),
        "monthly" => Ok("0 0 1 * *"),
        "yearly" | "annually" => Ok("0 0 1 1 *"),
        "reboot" => Err("@reboot is not a time".to_owned()),
        name if name.starts_with("every") => {
            Err("@every is not a line: give an interval instead, as 5m".to_owned())
        }
        _ => Err(format!(
            "@{name} is not known: there are @hourly, @daily (or @midnight), @weekly, @monthly and \
             @yearly (or @annually)"
        )),
    }
}

/// The part of a line that an error repeats.
fn shown(line: &str) -> String {
    line.chars().take(MAX_CHARS).collect()
}
