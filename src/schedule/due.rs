//! Which occurrences of a schedule are published when it is due: what is late each, what was missed as its
//! policy says.

use chrono::{DateTime, TimeDelta, Utc};

use super::catch_up::{self, MOST_MISSED, after};
use super::policy::Terms;
use super::poll_history::{ON_TIME, Watch};
use crate::timetable::{Missed, Overlap, Timetable};

/// So many late ones of a schedule are published at once.
const MOST_LATE: usize = 100;

/// What is due of a schedule.
pub(super) struct Due {
    /// The occurrences that are published now.
    pub(super) planned: Vec<DateTime<Utc>>,
    /// The first of those that are published in another look.
    pub(super) rest: Option<DateTime<Utc>>,
    /// Since when it has missed its runs, and how many of these are published.
    pub(super) missed: Option<(DateTime<Utc>, usize)>,
}

/// Missed ones follow the policy; late ones are published, each.
pub(super) fn due(
    timetable: &Timetable,
    first: DateTime<Utc>,
    now: DateTime<Utc>,
    watch: &Watch,
    terms: &Terms,
) -> Due {
    let missed = watch.was_missed(first);
    let from = watch.from().min(now);
    let (mut planned, late_after) = match terms.missed {
        _ if !missed => (vec![first], first),
        Missed::Skip => (Vec::new(), from - ON_TIME - TimeDelta::microseconds(1)),
        Missed::RunOnce => (catch_up::last(timetable, first, from, 1), from),
        Missed::RunAll => (catch_up::last(timetable, first, from, MOST_MISSED), from),
    };
    let made_up = planned.len();
    planned.extend(after(timetable, late_after, now).take(MOST_LATE + 1));
    let mut rest = None;
    if terms.overlap == Overlap::Skip {
        planned = planned
            .first()
            .map_or_else(Vec::new, |first| catch_up::last(timetable, *first, now, 1));
    } else if planned.len() > made_up + MOST_LATE {
        rest = planned.pop();
    }
    let made_up = made_up.min(planned.len());
    Due {
        planned,
        rest,
        missed: missed.then_some((first, made_up)),
    }
}
