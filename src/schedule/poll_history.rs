//! When a scheduler has polled: an occurrence that came while it was polling is at most late, and not missed.

use chrono::{DateTime, TimeDelta, Utc};

use crate::store::Agenda;

/// With a longer gap between two polls, the scheduler was not polling in between.
const MAX_POLL_GAP: TimeDelta = TimeDelta::minutes(1);

/// For so long, an occurrence of a schedule that is held back counts as late; older ones were missed.
const MAX_HELD_BACK: TimeDelta = TimeDelta::minutes(10);

/// An occurrence is on time if a scheduler begins to poll, or its schedule is enabled, within this time.
pub const ON_TIME_WITHIN: TimeDelta = TimeDelta::seconds(5);

/// When a scheduler has polled, by the database's clock.
#[derive(Debug, Clone, Copy)]
pub(super) struct PollHistory {
    last_poll: DateTime<Utc>,
    /// It has polled since then, without a gap.
    polling_since: DateTime<Utc>,
    /// No active schedule was due before then: a schedule that turns up with an earlier occurrence was inactive.
    inactive_before: Option<DateTime<Utc>>,
}

impl PollHistory {
    /// The history of a scheduler that polls for the first time.
    pub(super) fn started(now: DateTime<Utc>) -> Self {
        Self {
            last_poll: now,
            polling_since: now,
            inactive_before: None,
        }
    }

    /// The same, where all schedules in question were inactive until now.
    pub(super) fn started_inactive(now: DateTime<Utc>) -> Self {
        Self {
            inactive_before: Some(now),
            ..Self::started(now)
        }
    }

    /// Records a poll and its result.
    pub(super) fn record_poll(&mut self, agenda: &Agenda) {
        let now = agenda.now;
        if now - self.last_poll > MAX_POLL_GAP {
            self.polling_since = now;
        }
        self.last_poll = now;
        // The clock may have been set back.
        self.polling_since = self.polling_since.min(now);
        self.inactive_before = self.inactive_before.map(|bound| bound.min(now));
        if !agenda.has_unplanned && !agenda.has_malformed {
            let bound = agenda.next.map_or(now, |next| next.min(now));
            self.inactive_before = self.inactive_before.max(Some(bound));
        }
    }

    /// The history for a schedule that has been held back since the history was `before`: it was active meanwhile.
    /// Occurrences older than [`MAX_HELD_BACK`] are missed all the same, so that the runs of days are not all published
    /// at once.
    pub(super) fn for_held_back(&self, before: &Self) -> Self {
        Self {
            polling_since: self.polling_since.max(self.last_poll - MAX_HELD_BACK),
            inactive_before: self.inactive_before.min(before.inactive_before),
            ..*self
        }
    }

    /// An occurrence that was planned before this time, and is still due, was missed unless it was on time.
    pub(super) fn missed_before(&self) -> DateTime<Utc> {
        self.inactive_before
            .map_or(self.polling_since, |bound| bound.max(self.polling_since))
    }

    /// Whether the schedule of an occurrence that is still due was inactive at its planned time.
    pub(super) fn was_inactive(&self, planned: DateTime<Utc>) -> bool {
        self.inactive_before
            .is_some_and(|bound| planned < bound - ON_TIME_WITHIN)
    }

    /// Whether an occurrence that is still due was missed: no scheduler was polling, or its schedule was inactive.
    pub(super) fn was_missed(&self, planned: DateTime<Utc>) -> bool {
        planned < self.missed_before() - ON_TIME_WITHIN
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_700_000_000 + seconds, 0).unwrap()
    }

    /// A poll at `now` that finds `next` as the next occurrence.
    fn agenda(now: i64, next: i64) -> Agenda {
        Agenda {
            now: at(now),
            next: Some(at(next)),
            has_unplanned: false,
            has_malformed: false,
        }
    }

    #[test]
    fn an_occurrence_before_the_first_poll_was_missed() {
        let history = PollHistory::started(at(100));
        assert!(history.was_missed(at(94)) && !history.was_inactive(at(94)));
        assert!(!history.was_missed(at(95)));
    }

    #[test]
    fn an_occurrence_that_is_late_while_the_scheduler_polls_was_not_missed() {
        let mut history = PollHistory::started(at(0));
        for now in 1..=200 {
            // One poll a minute is enough.
            history.record_poll(&agenda(now * 60, 10));
        }
        assert!(!history.was_missed(at(10)));
    }

    #[test]
    fn an_occurrence_in_a_long_gap_between_polls_was_missed() {
        let mut history = PollHistory::started(at(0));
        history.record_poll(&agenda(61, 10));
        assert!(history.was_missed(at(10)));
        assert!(!history.was_missed(at(56)));
    }

    #[test]
    fn a_schedule_with_an_occurrence_from_when_nothing_was_due_was_inactive() {
        let mut history = PollHistory::started(at(0));
        history.record_poll(&agenda(50, 80));
        assert!(history.was_missed(at(44)) && history.was_inactive(at(44)));
        assert!(!history.was_missed(at(45)));
        // Beside a schedule that is late.
        history.record_poll(&agenda(100, 80));
        assert!(history.was_missed(at(74)));
        assert!(!history.was_missed(at(80)));
        // The time of an unplanned schedule is not known.
        history.record_poll(&Agenda {
            has_unplanned: true,
            ..agenda(110, 120)
        });
        assert!(!history.was_missed(at(80)));
    }

    #[test]
    fn an_occurrence_that_came_while_its_schedule_was_held_back_is_late() {
        let mut history = PollHistory::started(at(0));
        history.record_poll(&agenda(10, 10));
        let before = history;
        history.record_poll(&agenda(70, 80));
        assert!(history.was_missed(at(10)) && history.was_inactive(at(10)));
        let held = history.for_held_back(&before);
        assert!(!held.was_missed(at(10)) && !held.was_inactive(at(10)));
        assert!(held.was_inactive(at(4)), "it was not active before");
        // A gap.
        history.record_poll(&agenda(140, 150));
        let held = history.for_held_back(&before);
        assert!(held.was_missed(at(10)) && !held.was_inactive(at(10)));
    }

    #[test]
    fn a_clock_that_is_set_back_is_believed() {
        let mut history = PollHistory::started(at(3600));
        history.record_poll(&agenda(3601, 3605));
        history.record_poll(&agenda(1, 5));
        assert!(!history.was_missed(at(5)));
        history.record_poll(&agenda(6, 5));
        assert!(!history.was_missed(at(5)));
    }

    #[test]
    fn a_schedule_that_was_held_back_is_late_for_some_minutes_and_then_missed_but_never_inactive() {
        let before = PollHistory::started(at(0));
        let mut history = before;
        for now in 1..=60 {
            history.record_poll(&agenda(now * 60, now * 60 + 10));
        }
        assert!(history.was_inactive(at(3590)) || history.was_missed(at(3500)));
        let held = history.for_held_back(&before);
        assert!(!held.was_missed(at(3010)) && !held.was_inactive(at(3010)));
        assert!(held.was_missed(at(2990)) && !held.was_inactive(at(2990)));
    }
}
