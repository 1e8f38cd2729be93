//! When a schedule fires: an interval from an anchor, or a cron line in a time zone.
//!
//! Pure: every time comes in as an argument, and a [`Timetable`] is parsed once.
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
//! A field is `*`, a value, a range `a-b`, each with a step if need be (`*/10`, `8-18/2`; `5/15` is
//! `5-59/15`), or a list of those. Months and weekdays have names too (`JAN`, `mon-fri`). `?` is `*` in
//! the two fields of days.
//!
//! - **Weekdays** are 0 to 7 in every line, 0 and 7 being Sunday, 1 Monday. (`cron_clock` by itself
//!   says 1 for Sunday.) A range may go across Sunday: `5-7`, `fri-mon`, `6-2`.
//! - **Day of the month and weekday**: if both are restricted, a day that fits either will do, as in
//!   crontab(5): `0 0 13 * 5` is each Friday and each 13th. A field that begins with `*` does not count
//!   as restricted, so `0 0 */2 * 1` is the Mondays among every second day.
//! - **Refused**, with the reason: steps of zero or longer than the field; `L`, `W` and `#`; what never
//!   fires, as `0 0 30 2 *`.
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
//! A line *keeps its pace* if it fires all through the hour (its minutes are `*` or an open step, `*/10`
//! or `5/15`) or in every hour. It goes by elapsed time: it fires in both repeated hours, and for as long
//! as the gap was, also by the clock as it was before. Of any other line, a run that is planned in a
//! repeated hour happens the first time round, and those that are planned in a gap are one, when the gap
//! ends.

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

/// The moment when the clocks of `zone` show `wall`: the first, if they do so twice, and when they are
/// put forward, if they never do. `None` beyond the calendar.
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
    /// Fires at that time alone.
    #[must_use]
    pub const fn once(time: DateTime<Utc>) -> Self {
        Self(Rule::Once(time))
    }

    /// Fires at `anchor` and every `count` units after and before it, in elapsed time: a day is 24 hours,
    /// also when the clocks change.
    ///
    /// `interval_type` is django-carrot's: `seconds`, `minutes`, `hours` or `days`.
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
    /// [`TimetableError::Interval`] for another type, or a count that is not positive.
    pub fn every(
        interval_type: &str,
        count: i64,
        anchor: DateTime<Utc>,
    ) -> Result<Self, TimetableError> {
        let interval = Interval::new(interval_type, count)?;
        Ok(Self(Rule::Every { interval, anchor }))
    }

    /// Fires as a cron line says, by the clocks of `zone`. See [the module](self) for what a line may
    /// be, and what happens when the clocks change.
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
    /// [`TimetableError::Cron`] for a line that can't be met, [`TimetableError::Never`] for one that
    /// never fires, whatever the time.
    pub fn cron(line: &str, zone: Tz) -> Result<Self, TimetableError> {
        Cron::parse(line, zone).map(|cron| Self(Rule::Cron(Box::new(cron))))
    }

    /// The first time it fires that is later than `after`; `None` if it never does again.
    #[must_use]
    pub fn next_after(&self, after: DateTime<Utc>) -> Option<DateTime<Utc>> {
        match &self.0 {
            Rule::Once(time) => (after < *time).then_some(*time),
            Rule::Every { interval, anchor } => interval.next_after(*anchor, after),
            Rule::Cron(cron) => cron.next_after(after),
        }
    }

    /// The first time it fires that is later than `now`, for one that is about to be saved.
    ///
    /// # Errors
    /// [`TimetableError::Over`] if it never does again.
    pub fn first_after(&self, now: DateTime<Utc>) -> Result<DateTime<Utc>, TimetableError> {
        self.next_after(now).ok_or_else(|| match &self.0 {
            Rule::Once(time) => TimetableError::Over(format!("once at {time}")),
            Rule::Every { interval, .. } => TimetableError::Over(format!("every {interval}")),
            Rule::Cron(cron) => TimetableError::Over(format!("cron line {:?}", cron.line())),
        })
    }
}
