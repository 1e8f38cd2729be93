//! A schedule's row: a line of `carrot_scheduledtask`.

use chrono::{DateTime, Utc};
use chrono_tz::Tz;

use super::planned_for::{Noted, PlannedFor};
use super::refusal::ScheduleRefusal;
use super::row::Columns;
use crate::message::{Message, Occurrence};
use crate::names;
use crate::state::Status;
use crate::timetable::{Missed, Overlap, Timetable, TimetableError, zone};

/// What its user says of a schedule. Texts are as they stand in the row, good or not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScheduleSpec {
    /// `task_name`: what it is called.
    pub name: Option<String>,
    /// The task's name.
    pub task: String,
    /// Python literals in a list without brackets.
    pub task_args: Option<String>,
    /// The kwargs as JSON.
    pub content: Option<String>,
    /// The queue.
    pub queue: Option<String>,
    /// The exchange; the default one without.
    pub exchange: Option<String>,
    /// The routing key; the queue's name without.
    pub routing_key: Option<String>,
    /// That of its messages, 0 to 255.
    pub priority: i64,
    /// Whether it runs.
    pub active: bool,
    /// `seconds`, `minutes`, `hours` or `days`.
    pub interval_type: String,
    /// How many of these.
    pub interval_count: i64,
    /// A cron line, which counts in the interval's place.
    pub cron: Option<String>,
    /// An IANA name, for the cron line; UTC without.
    pub time_zone: Option<String>,
    /// `run_once`, `run_all` or `skip`.
    pub missed: String,
    /// `allow` or `skip`.
    pub overlap: String,
    /// Where the interval is counted from; the database's time of its saving without.
    pub anchor: Option<DateTime<Utc>>,
}

impl ScheduleSpec {
    /// An active schedule without a timetable, for a task without arguments.
    #[must_use]
    pub fn new(name: impl Into<String>, task: impl Into<String>, queue: impl Into<String>) -> Self {
        let queue = queue.into();
        Self {
            name: Some(name.into()),
            task: task.into(),
            task_args: None,
            content: None,
            routing_key: Some(queue.clone()),
            queue: Some(queue),
            exchange: None,
            priority: 0,
            active: true,
            // What a cron line's row says to django-carrot, for which these are not NULL.
            interval_type: "days".to_owned(),
            interval_count: 1,
            cron: None,
            time_zone: None,
            missed: Missed::RunOnce.to_string(),
            overlap: Overlap::Allow.to_string(),
            anchor: None,
        }
    }
}

/// What is said of a column that can't be read, after its name.
pub(crate) const UNREADABLE: &str = "can't be read";

/// A schedule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScheduleRow {
    /// Its id. Never used again after its end.
    pub id: i64,
    /// What its user says of it.
    pub spec: ScheduleSpec,
    /// The next occurrence, as far as a service has reckoned it.
    pub next_run: Option<DateTime<Utc>>,
    /// The last occurrence that was published.
    pub last_run: Option<DateTime<Utc>>,
    /// Why it does not run, as the services have found.
    pub refusal: Option<ScheduleRefusal>,
    /// The timetable that the next occurrence was reckoned from; see [`planned_by`](Self::planned_by).
    pub planned_for: Option<PlannedFor>,
    /// Which columns can't be read, and why: what stands for them here is but to be shown.
    pub unreadable: Vec<(&'static str, String)>,
}

/// What a message needs of a schedule.
const OF_MESSAGE: [&str; 9] = [
    "task",
    "task_args",
    "content",
    "queue",
    "exchange",
    "routing_key",
    "priority",
    "missed",
    "overlap",
];

/// What its timetable needs.
const OF_TIMETABLE: [&str; 4] = ["interval_type", "interval_count", "cron", "time_zone"];

impl ScheduleRow {
    /// What is wrong with one of the columns of what its user says, if that can't be read. Its name is
    /// not needed.
    #[must_use]
    pub fn fault(&self) -> Option<String> {
        self.fault_in(&OF_TIMETABLE)
            .or_else(|| self.fault_in(&OF_MESSAGE))
    }

    /// What is wrong with its timetable, if that can't be read. What the services note for themselves is
    /// made anew when the schedule is edited or enabled.
    #[must_use]
    pub fn timetable_fault(&self) -> Option<String> {
        let has_cron = self.spec.cron.as_ref().is_some_and(|cron| !cron.is_empty());
        let anchor = if has_cron {
            None
        } else {
            self.fault_in(&["anchor"])
        };
        self.fault_in(&OF_TIMETABLE).or(anchor)
    }

    /// What is wrong with its next occurrence, if that can't be read.
    #[must_use]
    pub fn next_run_fault(&self) -> Option<String> {
        self.fault_in(&["next_run"])
    }

    /// Whether that column can't be read.
    #[must_use]
    pub fn is_unreadable(&self, column: &str) -> bool {
        self.unreadable.iter().any(|(odd, _)| *odd == column)
    }

    fn fault_in(&self, columns: &[&str]) -> Option<String> {
        let odd = self.unreadable.iter();
        odd.filter(|(column, _)| columns.contains(column))
            .map(|(column, reason)| format!("{column} {UNREADABLE}: {reason}"))
            .next()
    }

    /// What the next occurrence, which is `first`, was reckoned from: an interval from there. Where that
    /// is not known any more, it is the timetable as it stands; where that of another version can't be
    /// read, there is but the one occurrence.
    #[must_use]
    pub fn planned_by(&self, first: DateTime<Utc>) -> Timetable {
        let spec = ScheduleSpec {
            anchor: Some(first),
            ..self.spec.clone()
        };
        let spec = match &self.planned_for {
            None => Some(spec),
            Some(planned_for) => planned_for.read().map(|noted| ScheduleSpec {
                interval_type: noted.interval_type,
                interval_count: noted.interval_count,
                time_zone: Some(noted.time_zone),
                cron: Some(noted.cron),
                ..spec
            }),
        };
        spec.and_then(|spec| spec.timetable(first).ok())
            .unwrap_or_else(|| Timetable::once(first))
    }

    /// Its message for an occurrence, or for one beside the timetable, under a new key.
    ///
    /// # Errors
    /// Why there can't be one: its arguments can't be read, or it names no queue.
    pub fn message(&self, planned: Option<DateTime<Utc>>) -> Result<Message, String> {
        self.spec.message(Occurrence {
            schedule: self.id,
            planned,
        })
    }

    /// What people call it.
    #[must_use]
    pub fn title(&self) -> String {
        let name = self.spec.name.as_deref().filter(|name| !name.is_empty());
        format!("{} ({:?})", self.id, name.unwrap_or(&self.spec.task))
    }
}

impl ScheduleSpec {
    /// Whether it says the same as another in a column.
    pub(super) fn is_equal_in(&self, other: &Self, column: &str) -> bool {
        match column {
            "task_name" => self.name == other.name,
            "task" => self.task == other.task,
            "task_args" => self.task_args == other.task_args,
            "content" => self.content == other.content,
            "queue" => self.queue == other.queue,
            "exchange" => self.exchange == other.exchange,
            "routing_key" => self.routing_key == other.routing_key,
            "priority" => self.priority == other.priority,
            "interval_type" => self.interval_type == other.interval_type,
            "interval_count" => self.interval_count == other.interval_count,
            "cron" => self.cron == other.cron,
            "time_zone" => self.time_zone == other.time_zone,
            "missed" => self.missed == other.missed,
            "overlap" => self.overlap == other.overlap,
            // Nobody says these of a schedule.
            _ => false,
        }
    }

    /// Whether it has the timetable of another.
    pub(super) fn has_same_timetable(&self, other: &Self) -> bool {
        let timetable = |spec: &Self| {
            let zone = spec.time_zone.clone().unwrap_or_default();
            let cron = spec.cron.clone().unwrap_or_default();
            (spec.interval_type.clone(), spec.interval_count, cron, zone)
        };
        timetable(self) == timetable(other) && self.anchor == other.anchor
    }

    /// Its timetable as a row notes it.
    pub(super) fn planned_for(&self) -> PlannedFor {
        let noted = Noted {
            interval_type: self.interval_type.clone(),
            interval_count: self.interval_count,
            time_zone: self.time_zone.clone().unwrap_or_default(),
            cron: self.cron.clone().unwrap_or_default(),
        };
        noted.written()
    }

    /// Whether it is the same as another, but for whether it is active and since when.
    pub(crate) fn has_same_definition(&self, other: &Self) -> bool {
        let Self { active, anchor, .. } = *other;
        Self {
            active,
            anchor,
            ..self.clone()
        } == *other
    }

    /// When it runs. An interval without an anchor is counted from `now`.
    ///
    /// # Errors
    /// What is wrong with its interval, cron line or time zone.
    pub fn timetable(&self, now: DateTime<Utc>) -> Result<Timetable, TimetableError> {
        let some = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
        match some(&self.cron) {
            Some(line) => {
                let zone = some(&self.time_zone).map_or(Ok(Tz::UTC), |name| zone(&name))?;
                Timetable::cron(&line, zone)
            }
            None => Timetable::every(
                &self.interval_type,
                self.interval_count,
                self.anchor.unwrap_or(now),
            ),
        }
    }

    /// The message of an occurrence.
    ///
    /// # Errors
    /// Why there can't be one.
    pub fn message(&self, occurrence: Occurrence) -> Result<Message, String> {
        let columns = Columns {
            id: 0,
            key: names::new_key(),
            task: self.task.clone(),
            task_args: self.task_args.clone(),
            content: self.content.clone(),
            queue: self.queue.clone(),
            exchange: self.exchange.clone(),
            routing_key: self.routing_key.clone(),
            priority: self.priority,
            occurrence: Some(occurrence),
        };
        columns.decode_schedule().map_err(|row| row.reason)
    }
}

/// Which schedules.
#[derive(Debug, Clone, Copy)]
pub enum WhichSchedules<'a> {
    /// All, by their ids.
    All,
    /// The one with this id.
    Id(i64),
    /// Those of this name; Django promises no more than to mean it to be one.
    Name(&'a str),
}

/// What became of a change to a schedule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EditResult {
    /// It is saved.
    Saved,
    /// Somebody else has changed it since it was read: nothing is saved.
    Changed,
    /// Another one has the name: nothing is saved.
    NameTaken,
    /// It is gone.
    Gone,
}

/// What there is to do for schedules.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Agenda {
    /// The database's time.
    pub now: DateTime<Utc>,
    /// The earliest next occurrence of the active schedules.
    pub next: Option<DateTime<Utc>>,
    /// Whether an active schedule's next occurrence is to be from_current_timetable: it is new, or its timetable has
    /// been changed.
    pub has_unplanned: bool,
    /// Whether what stands first of the next occurrences is no time, or is not written as we write it.
    pub has_malformed: bool,
}

/// Which schedules to advance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReadySchedules {
    /// Those whose next occurrence is to be reckoned.
    Unplanned,
    /// The same of the one with this id.
    Saved(i64),
    /// Those whose next occurrence is due.
    Due,
    /// Those whose next occurrence is no time, or is not written as we write it: no statement that compares
    /// times finds these when they are due.
    Malformed,
}

/// Which schedules' next occurrences are to be reckoned anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RecomputeScope {
    /// What those who were here before have left: those that were refused and have none, and those that
    /// have run, or are counted from a time, and run again, later than now, since a clock was set back.
    AtStart,
    /// All: the clock was set back.
    ClockSetBack,
}

/// A schedule that is locked to be advanced.
#[derive(Debug, Clone)]
pub struct Candidate {
    /// Its row.
    pub row: ScheduleRow,
    /// The database's time.
    pub now: DateTime<Utc>,
    /// A message of it that is not finished: that of its first such occurrence, or one beside the
    /// timetable. Only looked for where `overlap` is `skip` and it is due.
    pub unfinished: Option<UnfinishedMessage>,
}

impl Candidate {
    /// Whether an occurrence of it has come.
    #[must_use]
    pub fn is_due(&self) -> bool {
        self.row.next_run.is_some_and(|next| next <= self.now)
    }
}

/// A schedule's message that is not finished.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnfinishedMessage {
    /// Its key.
    pub key: String,
    /// Where it stands.
    pub status: Status,
    /// When it was recorded.
    pub since: DateTime<Utc>,
}

/// What becomes of a schedule: written in one transaction.
#[derive(Debug, Clone, PartialEq)]
pub struct Advance {
    /// Its next occurrence, if there is one.
    pub next: Option<DateTime<Utc>>,
    /// Whether that is reckoned from its timetable as it is now. Otherwise what it was reckoned from stays.
    pub from_current_timetable: bool,
    /// Where its interval is counted from, if that was not known.
    pub anchor: Option<DateTime<Utc>>,
    /// Why it does not run.
    pub refusal: Option<ScheduleRefusal>,
    /// The messages of the occurrences that are due.
    pub messages: Vec<Message>,
}
