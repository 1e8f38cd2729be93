//! The last few occurrences in a period, however many it has.

use chrono::{DateTime, TimeDelta, Utc};

use crate::timetable::Timetable;

/// How many missed occurrences of a schedule are published at most: the last ones.
pub const MOST_MISSED: usize = 100;

/// The precision of the search: two occurrences are never closer.
const RESOLUTION: TimeDelta = TimeDelta::milliseconds(1);

/// The last `most` occurrences from `first`, which is an occurrence, to `now`.
pub(super) fn last_occurrences(
    timetable: &Timetable,
    first: DateTime<Utc>,
    now: DateTime<Utc>,
    most: usize,
) -> Vec<DateTime<Utc>> {
    let mut times = vec![first];
    times.extend(occurrences_after(timetable, first, now).take(most));
    if times.len() <= most {
        return times;
    }
    // Bisects: after `early` there are at least `most` occurrences, and after `late` fewer.
    let (mut early, mut late) = (first, now);
    while late - early > RESOLUTION {
        let middle = early + (late - early) / 2;
        if occurrences_after(timetable, middle, now).take(most).count() == most {
            early = middle;
        } else {
            late = middle;
        }
    }
    let times: Vec<_> = occurrences_after(timetable, early, now).collect();
    times[times.len().saturating_sub(most)..].to_vec()
}

/// The occurrences after `start` up to `now`.
pub(super) fn occurrences_after(
    timetable: &Timetable,
    start: DateTime<Utc>,
    now: DateTime<Utc>,
) -> impl Iterator<Item = DateTime<Utc>> {
    let next = move |time: &DateTime<Utc>| timetable.next_after(*time);
    std::iter::successors(timetable.next_after(start), next).take_while(move |time| *time <= now)
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono_tz::Tz;

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_700_000_000 + seconds, 250_000_000).unwrap()
    }

    #[test]
    fn few_occurrences_are_all_returned() {
        let every = Timetable::every("seconds", 10, at(0)).unwrap();
        assert_eq!(last_occurrences(&every, at(10), at(10), 3), [at(10)]);
        assert_eq!(
            last_occurrences(&every, at(10), at(39), 3),
            [at(10), at(20), at(30)]
        );
        assert_eq!(
            last_occurrences(&every, at(10), at(40), 3),
            [at(20), at(30), at(40)]
        );
    }

    #[test]
    fn of_a_century_of_seconds_the_last_are_found_at_once() {
        let every = Timetable::every("seconds", 1, at(0)).unwrap();
        let now = at(3_000_000_000);
        assert_eq!(last_occurrences(&every, at(1), now, 1), [now]);
        let hundred = last_occurrences(&every, at(1), now, MOST_MISSED);
        assert_eq!(hundred.len(), MOST_MISSED);
        assert_eq!(hundred[0], now - TimeDelta::seconds(99));
    }

    #[test]
    fn of_a_cron_line_that_fires_in_bursts_the_last_are_found() {
        let burst = Timetable::cron("* * 3 * * *", Tz::UTC).unwrap();
        let first = burst.next_after(at(0)).unwrap();
        // The clock shows 22:13:20 at 0.
        let now = at(400 * 86_400);
        let times = last_occurrences(&burst, first, now, 5);
        assert_eq!(times.len(), 5);
        assert_eq!(times[4].format("%H:%M:%S").to_string(), "03:59:59");
        assert!(now - times[4] < TimeDelta::days(1));
    }
}
