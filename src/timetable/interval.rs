//! Intervals, stored as in django-carrot: a unit and a count.

use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, TimeDelta, Utc};

use super::TimetableError;

/// django-carrot's `interval_type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// `seconds`
    Seconds,
    /// `minutes`
    Minutes,
    /// `hours`
    Hours,
    /// `days`, of 24 hours each
    Days,
}

impl Unit {
    /// Every unit, the largest first.
    const ALL: [Self; 4] = [Self::Days, Self::Hours, Self::Minutes, Self::Seconds];

    /// The value of `interval_type`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Seconds => "seconds",
            Self::Minutes => "minutes",
            Self::Hours => "hours",
            Self::Days => "days",
        }
    }

    /// The length of the unit in seconds.
    const fn seconds(self) -> i64 {
        match self {
            Self::Seconds => 1,
            Self::Minutes => 60,
            Self::Hours => 60 * 60,
            Self::Days => 24 * 60 * 60,
        }
    }
}

/// The time between two occurrences: at least a second.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Interval {
    unit: Unit,
    count: i32,
}

impl Interval {
    /// The interval with these values of `interval_type` and `interval_count`.
    ///
    /// # Errors
    /// [`TimetableError::Interval`] for an unknown type, or a count that is not positive or too large for the
    /// column.
    pub fn new(interval_type: &str, count: i64) -> Result<Self, TimetableError> {
        let unit = Unit::ALL
            .into_iter()
            .find(|unit| unit.as_str() == interval_type)
            .ok_or_else(|| {
                TimetableError::Interval(format!(
                    "{interval_type:?} is not an interval type: it is seconds, minutes, hours or days"
                ))
            })?;
        match i32::try_from(count) {
            Ok(count) if count > 0 => Ok(Self { unit, count }),
            _ => Err(TimetableError::Interval(format!(
                "an interval of {count} {interval_type} is not valid: the count is 1 to {}",
                i32::MAX
            ))),
        }
    }

    /// The unit.
    #[must_use]
    pub const fn unit(self) -> Unit {
        self.unit
    }

    /// The number of units, at least 1.
    #[must_use]
    pub const fn count(self) -> i32 {
        self.count
    }

    fn seconds(self) -> i64 {
        self.unit.seconds() * i64::from(self.count)
    }

    /// The first time later than `after` among `anchor`, `anchor` ± 1 interval, `anchor` ± 2 intervals, …
    pub(super) fn next_after(
        self,
        anchor: DateTime<Utc>,
        after: DateTime<Utc>,
    ) -> Option<DateTime<Utc>> {
        let gone = after - anchor;
        let seconds = gone.num_seconds() - i64::from(gone.subsec_nanos() < 0);
        let nth = seconds.div_euclid(self.seconds()) + 1;
        let since = nth.checked_mul(self.seconds())?;
        anchor.checked_add_signed(TimeDelta::try_seconds(since)?)
    }
}

/// `5 minutes`, `1 day`.
impl fmt::Display for Interval {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = self.unit.as_str();
        let unit = if self.count == 1 {
            unit.trim_end_matches('s')
        } else {
            unit
        };
        write!(f, "{} {unit}", self.count)
    }
}

/// Parses `30s`, `5m`, `1h 30m` or `7d`. The unit is the largest one of which the interval is a whole number.
impl FromStr for Interval {
    type Err = TimetableError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const EXPECTED: &str = "an interval is a whole number of seconds, minutes, hours, days or weeks, \
                                as 30s, 5m, 1h30m, 7d or 2w";
        let error = |why: &str| TimetableError::Interval(format!("{text:?}: {why}"));
        let duration = humantime::parse_duration(text).map_err(|_| error(EXPECTED))?;
        let mut words = text.split(|c: char| !c.is_alphabetic());
        if words.any(|word| word == "M" || word.starts_with("mo") || word.starts_with('y')) {
            return Err(error(
                "months and years are of different lengths; use a cron line, as \"0 3 1 * *\"",
            ));
        }
        let seconds = i64::try_from(duration.as_secs()).map_err(|_| error(EXPECTED))?;
        if seconds == 0 || duration.subsec_nanos() != 0 {
            return Err(error(EXPECTED));
        }
        let unit = Unit::ALL
            .into_iter()
            .find(|unit| seconds % unit.seconds() == 0)
            .unwrap_or(Unit::Seconds);
        Self::new(unit.as_str(), seconds / unit.seconds())
    }
}
