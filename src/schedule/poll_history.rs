//! What a scheduler knows of its own looking: what came while it looked is late at most, not missed.

use chrono::{DateTime, TimeDelta, Utc};

use crate::store::Agenda;

/// Who has looked so long ago was looking.
const GAP: TimeDelta = TimeDelta::minutes(1);

/// What is held back is late for so long.
const HELD: TimeDelta = TimeDelta::minutes(10);

/// An occurrence that was planned so long before it could be seen, or sooner, is not missed.
pub const ON_TIME: TimeDelta = TimeDelta::seconds(5);

/// Since when a scheduler has looked, by the database's clock.
#[derive(Debug, Clone, Copy)]
pub(super) struct Watch {
    /// Its last look.
    last: DateTime<Utc>,
    /// It has looked since then, without a gap.
    since: DateTime<Utc>,
    /// No active schedule was due before then: one that turns up was not active.
    clear: Option<DateTime<Utc>>,
}

impl Watch {
    /// Of one that looks for the first time.
    pub(super) fn begun(now: DateTime<Utc>) -> Self {
        Self {
            last: now,
            since: now,
            clear: None,
        }
    }

    /// Of one that knows that a schedule was not active until now.
    pub(super) fn of_idle(now: DateTime<Utc>) -> Self {
        Self {
            clear: Some(now),
            ..Self::begun(now)
        }
    }

    /// It has looked again.
    pub(super) fn looks(&mut self, agenda: &Agenda) {
        let now = agenda.now;
        if now - self.last > GAP {
            self.since = now;
        }
        self.last = now;
        // The clock may have been set back.
        self.since = self.since.min(now);
        self.clear = self.clear.map(|clear| clear.min(now));
        if !agenda.has_unplanned && !agenda.has_malformed {
            let clear = agenda.next.map_or(now, |next| next.min(now));
            self.clear = self.clear.max(Some(clear));
        }
    }

    /// For a schedule that has been held back since this was `before`: it was active. What came long ago is
    /// missed all the same, lest the runs of days are made up for at once.
    pub(super) fn of_held(&self, before: &Self) -> Self {
        Self {
            since: self.since.max(self.last - HELD),
            clear: self.clear.min(before.clear),
            ..*self
        }
    }

    /// What was planned until then, and is due still, may have been missed.
    pub(super) fn from(&self) -> DateTime<Utc> {
        self.clear.map_or(self.since, |clear| clear.max(self.since))
    }

    /// Whether the schedule of an occurrence that is due still was not active then, as was seen.
    pub(super) fn was_idle(&self, planned: DateTime<Utc>) -> bool {
        self.clear.is_some_and(|clear| planned < clear - ON_TIME)
    }

    /// Whether an occurrence that is due still was missed: nobody looked, or its schedule was not active.
    pub(super) fn was_missed(&self, planned: DateTime<Utc>) -> bool {
        planned < self.from() - ON_TIME
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_700_000_000 + seconds, 0).unwrap()
    }

    /// A look at a time, with this due next.
    fn agenda(now: i64, next: i64) -> Agenda {
        Agenda {
            now: at(now),
            next: Some(at(next)),
            has_unplanned: false,
            has_malformed: false,
        }
    }

    #[test]
    fn what_came_before_anybody_looked_was_missed() {
        let watch = Watch::begun(at(100));
        assert!(watch.was_missed(at(94)) && !watch.was_idle(at(94)));
        assert!(!watch.was_missed(at(95)));
    }

    #[test]
    fn what_is_late_while_somebody_looks_was_not_missed() {
        let mut watch = Watch::begun(at(0));
        for now in 1..=200 {
            // One look a minute is enough for that.
            watch.looks(&agenda(now * 60, 10));
        }
        assert!(!watch.was_missed(at(10)));
    }

    #[test]
    fn what_came_while_nobody_looked_for_long_was_missed() {
        let mut watch = Watch::begun(at(0));
        watch.looks(&agenda(61, 10));
        assert!(watch.was_missed(at(10)));
        assert!(!watch.was_missed(at(56)));
    }

    #[test]
    fn what_was_not_seen_while_nothing_was_due_was_not_active() {
        let mut watch = Watch::begun(at(0));
        watch.looks(&agenda(50, 80));
        assert!(watch.was_missed(at(44)) && watch.was_idle(at(44)));
        assert!(!watch.was_missed(at(45)));
        // Beside one that is late.
        watch.looks(&agenda(100, 80));
        assert!(watch.was_missed(at(74)));
        assert!(!watch.was_missed(at(80)));
        // One that is to be reckoned has a time that is not seen.
        watch.looks(&Agenda {
            has_unplanned: true,
            ..agenda(110, 120)
        });
        assert!(!watch.was_missed(at(80)));
    }

    #[test]
    fn what_came_while_its_schedule_was_held_back_is_late() {
        let mut watch = Watch::begun(at(0));
        watch.looks(&agenda(10, 10));
        let before = watch;
        watch.looks(&agenda(70, 80));
        assert!(watch.was_missed(at(10)) && watch.was_idle(at(10)));
        let held = watch.of_held(&before);
        assert!(!held.was_missed(at(10)) && !held.was_idle(at(10)));
        assert!(held.was_idle(at(4)), "it was not active before");
        // Nobody looked.
        watch.looks(&agenda(140, 150));
        let held = watch.of_held(&before);
        assert!(held.was_missed(at(10)) && !held.was_idle(at(10)));
    }

    #[test]
    fn a_clock_that_is_set_back_is_believed() {
        let mut watch = Watch::begun(at(3600));
        watch.looks(&agenda(3601, 3605));
        watch.looks(&agenda(1, 5));
        assert!(!watch.was_missed(at(5)));
        watch.looks(&agenda(6, 5));
        assert!(!watch.was_missed(at(5)));
    }

    #[test]
    fn what_was_held_back_is_late_for_some_minutes_and_then_missed_but_never_idle() {
        let before = Watch::begun(at(0));
        let mut watch = before;
        for now in 1..=60 {
            watch.looks(&agenda(now * 60, now * 60 + 10));
        }
        assert!(watch.was_idle(at(3590)) || watch.was_missed(at(3500)));
        let held = watch.of_held(&before);
        assert!(!held.was_missed(at(3010)) && !held.was_idle(at(3010)));
        assert!(held.was_missed(at(2990)) && !held.was_idle(at(2990)));
    }
}
