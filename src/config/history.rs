//! `history`: how long finished messages are kept.

use std::time::Duration;

use super::duration;
use super::reader::{Entry, Section};
use crate::state::Status;

const EXPECTED: &str = "a table of ages, as { completed = \"7d\", failed = \"90d\" }";
const AGE_EXPECTED: &str = "an age of an hour to 100 years, as \"12h\", \"7d\" or \"1y\"";
const INTERVAL_EXPECTED: &str = "a duration of a second to a day, as \"10m\" or \"1h\"";

/// RabbitMQ redelivers an unacknowledged message after 30 minutes (`consumer_timeout`), unless it is configured to
/// wait longer. Only the message's row then says that it has been run.
const MIN_AGE: Duration = Duration::from_hours(1);
/// How far the calendar of every database can go back.
const MAX_AGE: Duration = Duration::from_hours(100 * 366 * 24);

const DEFAULT_INTERVAL: Duration = MIN_AGE;
const MIN_INTERVAL: Duration = Duration::from_secs(1);
const MAX_INTERVAL: Duration = Duration::from_hours(24);

/// How long finished messages are kept before they are deleted. At least one state has an age, and each age is
/// from an hour to 100 years. Messages in a state without an age are kept for ever.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct History {
    /// The age at which COMPLETED messages are deleted.
    pub completed: Option<Duration>,
    /// The age at which FAILED messages are deleted.
    pub failed: Option<Duration>,
    /// The age at which CANCELLED messages are deleted.
    pub cancelled: Option<Duration>,
    /// The age at which EXPIRED messages are deleted.
    pub expired: Option<Duration>,
    /// How often a service looks for messages that are too old: from a second to a day, an hour by default.
    pub every: Duration,
}

impl History {
    /// The states that have an age, and their ages, in the order of [`Status::ALL`].
    pub fn ages(&self) -> impl Iterator<Item = (Status, Duration)> {
        Status::ALL
            .into_iter()
            .filter_map(|status| Some((status, self.age(status)?)))
    }

    /// The age at which messages in this state are deleted; `None` if they are kept.
    #[must_use]
    pub const fn age(&self, status: Status) -> Option<Duration> {
        match status {
            Status::Completed => self.completed,
            Status::Failed => self.failed,
            Status::Cancelled => self.cancelled,
            Status::Expired => self.expired,
            Status::Pending | Status::Published | Status::InProgress => None,
        }
    }

    /// Reads `history`.
    pub(super) fn read(entry: &Entry<'_>) -> Option<Self> {
        let mut section = entry.section(EXPECTED)?;
        let mut named = false;
        let mut age = |section: &mut Section<'_>, key| {
            let entry = section.get(key)?;
            named = true;
            read_age(&entry)
        };
        let history = Self {
            completed: age(&mut section, "completed"),
            failed: age(&mut section, "failed"),
            cancelled: age(&mut section, "cancelled"),
            expired: age(&mut section, "expired"),
            every: section
                .get("every")
                .and_then(|entry| {
                    duration::read(&entry, MIN_INTERVAL..=MAX_INTERVAL, INTERVAL_EXPECTED)
                })
                .unwrap_or(DEFAULT_INTERVAL),
        };
        // If there are unknown keys, their faults are enough.
        if table_keys(entry).all(|key| key == "every") {
            entry.fault(
                "must have an age for completed, failed, cancelled or expired, as completed = \"7d\"; \
                 leave history out to keep everything",
            );
        }
        section.finish();
        named.then_some(history)
    }
}

fn table_keys<'a>(entry: &Entry<'a>) -> impl Iterator<Item = &'a String> {
    entry
        .value()
        .as_table()
        .into_iter()
        .flat_map(|table| table.keys())
}

fn read_age(entry: &Entry<'_>) -> Option<Duration> {
    let age = duration::read(entry, Duration::ZERO..=MAX_AGE, AGE_EXPECTED)?;
    if age < MIN_AGE {
        entry.fault(
            "must be at least an hour: a message that is delivered again after its row was deleted \
             runs again",
        );
        return None;
    }
    Some(age)
}

#[cfg(test)]
mod tests {
    use super::History;
    use crate::config::fault::Faults;
    use crate::config::reader::Section;
    use crate::state::Status;
    use std::time::Duration;

    const DAY: Duration = Duration::from_hours(24);

    fn read(text: &str) -> Result<Option<History>, String> {
        let table: toml::Table = text.parse().unwrap();
        let faults = Faults::default();
        let mut section = Section::root(&table, &faults);
        let history = History::read(&section.get("history").unwrap());
        faults
            .into_result(history, None)
            .map_err(|error| error.to_string())
    }

    fn faults(text: &str) -> Vec<String> {
        let told = read(text).expect_err(text);
        told.lines()
            .skip(1)
            .map(|line| line.trim().to_owned())
            .collect()
    }

    #[test]
    fn every_final_state_may_have_an_age_and_no_other() {
        let text = "history = { completed = '7d', failed = '90d', cancelled = '1h', expired = '1y', \
                    every = '10m' }";
        let history = read(text).unwrap().unwrap();
        assert_eq!(history.every, Duration::from_mins(10));
        let ages: Vec<_> = history.ages().collect();
        assert_eq!(
            ages[..3],
            [
                (Status::Completed, 7 * DAY),
                (Status::Failed, 90 * DAY),
                (Status::Cancelled, Duration::from_hours(1)),
            ]
        );
        for status in Status::ALL {
            assert_eq!(history.age(status).is_some(), status.is_final(), "{status}");
        }
    }

    #[test]
    fn a_state_without_an_age_is_kept() {
        let history = read("[history]\nfailed = '90d'").unwrap().unwrap();
        assert_eq!(
            history.ages().collect::<Vec<_>>(),
            [(Status::Failed, 90 * DAY)]
        );
        assert_eq!(history.every, Duration::from_hours(1));
    }

    #[test]
    fn a_wrong_age_says_what_is_expected() {
        for wrong in ["7", "'7'", "'soon'", "'-7d'", "'101y'", "['7d']"] {
            let told = faults(&format!("history = {{ completed = {wrong} }}"));
            assert_eq!(told.len(), 1, "{told:?}");
            assert!(
                told[0]
                    .starts_with("history.completed: must be an age of an hour to 100 years, as"),
                "{told:?}"
            );
        }
        let told = faults("history = { failed = '90d', every = '2 days' }");
        assert_eq!(
            told,
            [
                "history.every: must be a duration of a second to a day, as \"10m\" or \"1h\", not \"2 days\""
            ]
        );
    }

    #[test]
    fn an_age_below_an_hour_is_refused_with_the_reason() {
        for short in ["0s", "59m 59s 999ms"] {
            let told = faults(&format!("history = {{ failed = '{short}' }}"));
            assert_eq!(told.len(), 1, "{told:?}");
            assert!(
                told[0].starts_with("history.failed: must be at least an hour: "),
                "{told:?}"
            );
        }
    }

    #[test]
    fn a_state_that_is_not_final_has_no_age() {
        assert_eq!(
            faults("history = { complete = '7d' }"),
            ["history.complete: is not a known key; did you mean completed?"]
        );
        assert_eq!(
            faults("history = { pending = '7d' }"),
            [
                "history.pending: is not a known key; known are cancelled, completed, every, expired, failed"
            ]
        );
    }

    #[test]
    fn a_history_without_an_age_says_how_to_keep_everything() {
        for text in ["[history]", "history = { every = '1h' }"] {
            let told = faults(text);
            assert_eq!(told.len(), 1, "{told:?}");
            assert!(
                told[0].starts_with("history: must have an age for completed, failed,")
                    && told[0].ends_with("leave history out to keep everything"),
                "{told:?}"
            );
        }
        assert!(faults("history = '7d'")[0].starts_with("history: must be a table of ages, as"));
    }
}
