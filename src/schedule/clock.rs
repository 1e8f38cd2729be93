//! Detects whether the database's clock was set, by comparing it with this host's.

use std::time::Instant;

use chrono::{DateTime, TimeDelta, Utc};

/// Smaller jumps are ignored.
const MIN_JUMP: TimeDelta = TimeDelta::seconds(10);

/// A reading of the database's clock.
#[derive(Debug, Clone, Copy)]
pub(super) struct ClockReading {
    /// When the query was sent, by this host's clock.
    pub(super) asked: Instant,
    /// When the answer came, by this host's clock.
    pub(super) answered: Instant,
    /// The database's time.
    pub(super) now: DateTime<Utc>,
}

/// How far the database's clock has jumped between two readings: by how much more it has advanced than this host's,
/// or, if negative, by how much less. `None` if both have advanced alike.
pub(super) fn jump(before: ClockReading, since: ClockReading) -> Option<TimeDelta> {
    let advanced = since.now - before.now;
    let at_most = elapsed(before.asked, since.answered);
    let at_least = elapsed(before.answered, since.asked);
    if advanced - at_most > MIN_JUMP {
        Some(advanced - at_most)
    } else if at_least - advanced > MIN_JUMP {
        Some(advanced - at_least)
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
    fn a_clock_jumps_if_it_advances_otherwise_than_the_time_between_two_answers() {
        let start = Instant::now();
        let reading = |asked: u64, answered: u64, now: i64| ClockReading {
            asked: start + Duration::from_secs(asked),
            answered: start + Duration::from_secs(answered),
            now: DateTime::from_timestamp(1_700_000_000 + now, 0).unwrap(),
        };
        let before = reading(0, 1, 0);
        assert_eq!(jump(before, reading(100, 101, 100)), None);
        // The second answer took a minute, and may be from any moment of it.
        assert_eq!(jump(before, reading(100, 160, 100)), None);
        assert_eq!(jump(before, reading(100, 160, 160)), None);
        assert_eq!(jump(before, reading(100, 101, 111)), None);
        let ahead = jump(before, reading(100, 101, 3701));
        assert_eq!(ahead, Some(TimeDelta::seconds(3600)));
        let back = jump(before, reading(101, 102, -3500));
        assert_eq!(back, Some(TimeDelta::seconds(-3600)));
    }
}
