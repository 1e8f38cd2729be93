//! Which occurrences of a due schedule are published: each late one, and missed ones by its policy.

use chrono::{DateTime, TimeDelta, Utc};

use super::catch_up::{self, MOST_MISSED, occurrences_after};
use super::policy::SchedulePolicy;
use super::poll_history::{ON_TIME_WITHIN, PollHistory};
use crate::timetable::{Missed, Overlap, Timetable};

/// How many late occurrences of a schedule are published together.
const MOST_LATE: usize = 100;

/// The due occurrences of a schedule.
pub(super) struct DueOccurrences {
    /// The planned times of the occurrences to publish now.
    pub(super) planned: Vec<DateTime<Utc>>,
    /// The first occurrence that is left for the next transaction.
    pub(super) rest: Option<DateTime<Utc>>,
    /// Since when the schedule has missed its runs, and how many of these are published.
    pub(super) missed: Option<(DateTime<Utc>, usize)>,
}

/// The due occurrences from `first` to `now`.
pub(super) fn due_occurrences(
    timetable: &Timetable,
    first: DateTime<Utc>,
    now: DateTime<Utc>,
    history: &PollHistory,
    policy: &SchedulePolicy,
) -> DueOccurrences {
    let missed = history.was_missed(first);
    let from = history.missed_before().min(now);
    let (mut planned, late_after) = match policy.missed {
        _ if !missed => (vec![first], first),
        Missed::Skip => (
            Vec::new(),
            from - ON_TIME_WITHIN - TimeDelta::microseconds(1),
        ),
        Missed::RunOnce => (catch_up::last_occurrences(timetable, first, from, 1), from),
        Missed::RunAll => (
            catch_up::last_occurrences(timetable, first, from, MOST_MISSED),
            from,
        ),
    };
    let by_policy = planned.len();
    planned.extend(occurrences_after(timetable, late_after, now).take(MOST_LATE + 1));
    let mut rest = None;
    if policy.overlap == Overlap::Skip {
        planned = planned.first().map_or_else(Vec::new, |first| {
            catch_up::last_occurrences(timetable, *first, now, 1)
        });
    } else if planned.len() > by_policy + MOST_LATE {
        rest = planned.pop();
    }
    let by_policy = by_policy.min(planned.len());
    DueOccurrences {
        planned,
        rest,
        missed: missed.then_some((first, by_policy)),
    }
}
