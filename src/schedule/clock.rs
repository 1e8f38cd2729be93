//! The database's clock beside this host's: whether it was set.

use std::time::Instant;

use chrono::{DateTime, TimeDelta, Utc};

/// By less than that nobody need care.
const LEAP: TimeDelta = TimeDelta::seconds(10);

/// When the database's time was asked for and told, and what it was.
#[derive(Debug, Clone, Copy)]
pub(super) struct Told {
    pub(super) asked: Instant,
    pub(super) told: Instant,
    pub(super) now: DateTime<Utc>,
}

/// By how much the database's clock has gone further than this host's since it told the time before;
/// less than zero: it was set back. `None` if they have gone alike.
pub(super) fn leap(before: Told, since: Told) -> Option<TimeDelta> {
    let gone = since.now - before.now;
    let at_most = elapsed(before.asked, since.told);
    let at_least = elapsed(before.told, since.asked);
    if gone - at_most > LEAP {
        Some(gone - at_most)
    } else if at_least - gone > LEAP {
        Some(gone - at_least)
    } else {
        None
    }
}

fn elapsed(from: Instant, to: Instant) -> TimeDelta {
    TimeDelta::from_std(to.saturating_duration_since(from)).unwrap_or(TimeDelta::MAX)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_clock_leaps_if_it_goes_otherwise_than_the_time_between_two_answers() {
        let start = Instant::now();
        let told = |asked: u64, told: u64, now: i64| Told {
            asked: start + Duration::from_secs(asked),
            told: start + Duration::from_secs(told),
            now: DateTime::from_timestamp(1_700_000_000 + now, 0).unwrap(),
        };
        let before = told(0, 1, 0);
        assert_eq!(leap(before, told(100, 101, 100)), None);
        // The second answer took a minute, and may be of any moment in that.
        assert_eq!(leap(before, told(100, 160, 100)), None);
        assert_eq!(leap(before, told(100, 160, 160)), None);
        assert_eq!(leap(before, told(100, 101, 111)), None);
        let ahead = leap(before, told(100, 101, 3701));
        assert_eq!(ahead, Some(TimeDelta::seconds(3600)));
        let back = leap(before, told(101, 102, -3500));
        assert_eq!(back, Some(TimeDelta::seconds(-3600)));
    }
}
