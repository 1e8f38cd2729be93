//! When a schedule fires: once, at an interval from an anchor, or by a cron line in a time zone.
//!
//! Nothing here reads a clock: every time is passed in. A [`Timetable`] is parsed once.
//!
//! # Cron lines
//!
//! | line | fires |
//! |---|---|
//! | `0 3 * * 1-5` | five fields: minute, hour, day of the month, month, weekday |
//! | `30 0 3 * * 1-5` | six: the second comes first |
//! | `0 0 12 1 1 * 2027-2030` | seven: the year comes last, 1970 to 2100 |
//! | `@hourly`, `@daily` or `@midnight`, `@weekly` (Sunday), `@monthly`, `@yearly` or `@annually` | at the first moment of each |
//!
//! A field is `*`, a value, or a range `a-b`, each optionally with a step (`*/10`, `8-18/2`; `5/15` is
//! `5-59/15`), or a list of these. Months and weekdays have names too (`JAN`, `mon-fri`). In the two fields of
//! days, `?` means `*`.
//!
//! - **Weekdays** are 0 to 7 in every line: 0 and 7 are Sunday, 1 is Monday. (`cron_clock` itself numbers
//!   Sunday 1.) A range may wrap around Sunday: `5-7`, `fri-mon`, `6-2`.
//! - **Day of the month and weekday**: if both are restricted, a day that fits either one fits, as in
//!   crontab(5): `0 0 13 * 5` is each Friday and each 13th. A field that begins with `*` does not count
//!   as restricted, so `0 0 */2 * 1` is the Mondays among every second day.
//! - **Refused**, with the reason: steps of zero or longer than the field; `L`, `W` and `#`; a line that never
//!   fires, such as `0 0 30 2 *`.
//!
//! # When the clocks change
//!
//! | in Europe/Berlin | in March, when 2:00 becomes 3:00 | in October, when 3:00 becomes 2:00 |
//! |---|---|---|
//! | `30 2 * * *` | at 3:00, when the skipped hour would have begun | once, at the first 2:30 |
//! | `0,30 2 * * *` | once, at 3:00 | twice, at the first 2:00 and 2:30 |
//! | `*/10 * * * *` | every ten minutes: 1:50, 3:00, 3:10 | every ten minutes, in both hours from 2 to 3 |
//! | `*/10 2 * * *` | six times from 3:00 to 3:50 | twelve times, in both hours |
//! | `30 * * * *` | every hour: 1:30, 3:30 | every hour: 1:30, 2:30, 2:30, 3:30 |
//! | every hour, every day | every 3600 s, every 86 400 s | the same |
//!
//! A line *keeps its pace*, that is, it goes by elapsed time, if it fires all through the hour (its minutes are
//! `*` or a step without an end, `*/10` or `5/15`) or in every hour. It fires in both of the repeated hours. After a gap, for as long as the
//! gap was, it also fires by the clock as it was before. Any other line fires in a repeated hour only the first
//! time, and all its runs that are planned in a gap become one run, when the gap ends.

mod clock;
mod cron;
mod error;
mod interval;
mod policy;
#[cfg(test)]
mod tests;
mod zone;

use chrono::{DateTime, NaiveDateTime, Utc};
use chrono_tz::Tz;

use self::cron::Cron;
pub use self::error::TimetableError;
pub use self::interval::Interval;
pub use self::policy::{Missed, Overlap};
pub use self::zone::zone;

/// The moment at which the clocks of `zone` show `wall`. If they show it twice, the first one; if a clock change
/// skips it, the moment of the change. `None` if it is out of chrono's range.
#[must_use]
pub fn wall_to_utc(zone: Tz, wall: NaiveDateTime) -> Option<DateTime<Utc>> {
    clock::wall_to_utc(zone, wall)
}

/// When a schedule fires.
#[derive(Debug, Clone)]
pub struct Timetable(Rule);

#[derive(Debug, Clone)]
enum Rule {
    Once(DateTime<Utc>),
    Every {
        interval: Interval,
        anchor: DateTime<Utc>,
    },
    Cron(Box<Cron>),
}

impl Timetable {
    /// Fires once, at `time`.
    #[must_use]
    pub const fn once(time: DateTime<Utc>) -> Self {
        Self(Rule::Once(time))
    }

    /// Fires at `anchor`, and every `count` units before and after it. Units are elapsed time: a day is 24 hours,
    /// also when the clocks change.
    ///
    /// `interval_type` is `seconds`, `minutes`, `hours` or `days`, as in django-carrot.
    ///
    /// ```
    /// # use carrot_actors::internals::timetable::Timetable;
    /// # use chrono::DateTime;
    /// let anchor = DateTime::from_timestamp(1_000_000_000, 0).unwrap();
    /// let every = Timetable::every("minutes", 5, anchor)?;
    /// let next = every.next_after(anchor + chrono::TimeDelta::seconds(301)).unwrap();
    /// assert_eq!(next, anchor + chrono::TimeDelta::seconds(600));
    /// # Ok::<(), carrot_actors::internals::timetable::TimetableError>(())
    /// ```
    ///
    /// # Errors
    /// [`TimetableError::Interval`] for an unknown type, or a count that is not positive.
    pub fn every(
        interval_type: &str,
        count: i64,
        anchor: DateTime<Utc>,
    ) -> Result<Self, TimetableError> {
        let interval = Interval::new(interval_type, count)?;
        Ok(Self(Rule::Every { interval, anchor }))
    }

    /// Fires by a cron line and the clocks of `zone`. See [the module](self) for the syntax, and for what happens
    /// when the clocks change.
    ///
    /// ```
    /// # use carrot_actors::internals::timetable::{Timetable, zone};
    /// # use chrono::{DateTime, NaiveDateTime, Utc};
    /// let weekdays = Timetable::cron("0 3 * * 1-5", zone("Europe/Berlin")?)?;
    /// let friday: DateTime<Utc> = "2026-11-27T02:00:00Z".parse().unwrap();
    /// let monday: DateTime<Utc> = "2026-11-30T02:00:00Z".parse().unwrap();
    /// assert_eq!(weekdays.next_after(friday), Some(monday));
    /// # Ok::<(), carrot_actors::internals::timetable::TimetableError>(())
    /// ```
    ///
    /// # Errors
    /// [`TimetableError::Cron`] for an invalid line, [`TimetableError::Never`] for a line that never fires.
    pub fn cron(line: &str, zone: Tz) -> Result<Self, TimetableError> {
        Cron::parse(line, zone).map(|cron| Self(Rule::Cron(Box::new(cron))))
    }

    /// The first time later than `after` at which it fires; `None` if it never fires again.
    #[must_use]
    pub fn next_after(&self, after: DateTime<Utc>) -> Option<DateTime<Utc>> {
        match &self.0 {
            Rule::Once(time) => (after < *time).then_some(*time),
            Rule::Every { interval, anchor } => interval.next_after(*anchor, after),
            Rule::Cron(cron) => cron.next_after(after),
        }
    }

    /// As [`next_after`](Self::next_after), for a schedule that is about to be saved.
    ///
    /// # Errors
    /// [`TimetableError::Over`] if it never fires again.
    pub fn first_after(&self, now: DateTime<Utc>) -> Result<DateTime<Utc>, TimetableError> {
        self.next_after(now).ok_or_else(|| match &self.0 {
            Rule::Once(time) => TimetableError::Over(format!("once at {time}")),
            Rule::Every { interval, .. } => TimetableError::Over(format!("every {interval}")),
            Rule::Cron(cron) => TimetableError::Over(format!("cron line {:?}", cron.line())),
        })
    }
}
