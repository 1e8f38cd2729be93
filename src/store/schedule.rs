//! A schedule's row in `carrot_scheduledtask`.

use chrono::{DateTime, Utc};
use chrono_tz::Tz;

use super::planned_for::{PlannedFor, TimetableColumns};
use super::refusal::ScheduleRefusal;
use super::row::Columns;
use crate::message::{Message, Occurrence};
use crate::names;
use crate::state::Status;
use crate::timetable::{Missed, Overlap, Timetable, TimetableError, zone};

/// A schedule as its user defines it. Texts are as they are in the row, valid or not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScheduleSpec {
    /// `task_name`: the schedule's name.
    pub name: Option<String>,
    /// The task's name.
    pub task: String,
    /// The positional arguments: Python literals in a list without brackets.
    pub task_args: Option<String>,
    /// The kwargs as JSON.
    pub content: Option<String>,
    /// The queue.
    pub queue: Option<String>,
    /// The exchange; `None` for the default one.
    pub exchange: Option<String>,
    /// The routing key; `None` for the queue's name.
    pub routing_key: Option<String>,
    /// The priority of its messages, 0 to 255.
    pub priority: i64,
    /// Whether it runs.
    pub active: bool,
    /// `seconds`, `minutes`, `hours` or `days`.
    pub interval_type: String,
    /// How many of these units.
    pub interval_count: i64,
    /// A cron line, which replaces the interval.
    pub cron: Option<String>,
    /// The IANA name of the cron line's time zone; `None` for UTC.
    pub time_zone: Option<String>,
    /// `run_once`, `run_all` or `skip`.
    pub missed: String,
    /// `allow` or `skip`.
    pub overlap: String,
    /// The time from which the interval counts; `None` for the database's time when a service first plans it.
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
            // django-carrot needs values that are not NULL, even with a cron line.
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

/// The text after the name of a column that can't be read.
pub(crate) const UNREADABLE: &str = "can't be read";

/// A schedule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScheduleRow {
    /// Its id, which is never reused.
    pub id: i64,
    /// Its definition.
    pub spec: ScheduleSpec,
    /// The next occurrence, once a service has computed it.
    pub next_run: Option<DateTime<Utc>>,
    /// The last occurrence that was published.
    pub last_run: Option<DateTime<Utc>>,
    /// Why it does not run, as a service has noted it.
    pub refusal: Option<ScheduleRefusal>,
    /// The timetable from which the next occurrence was computed; see [`planned_by`](Self::planned_by).
    pub planned_for: Option<PlannedFor>,
    /// Which columns can't be read, and why. Their values in this struct are only good to be shown.
    pub unreadable: Vec<(&'static str, String)>,
}

/// The columns that make up a schedule's messages.
const MESSAGE_COLUMNS: [&str; 9] = [
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

/// The columns that make up its timetable.
const TIMETABLE_COLUMNS: [&str; 4] = ["interval_type", "interval_count", "cron", "time_zone"];

impl ScheduleRow {
    /// What is wrong with its definition, if a column of that can't be read. The name does not matter.
    #[must_use]
    pub fn fault(&self) -> Option<String> {
        self.fault_in(&TIMETABLE_COLUMNS)
            .or_else(|| self.fault_in(&MESSAGE_COLUMNS))
    }

    /// What is wrong with its timetable, if a column of that can't be read. The columns that services write are
    /// not included: they are recomputed when the schedule is edited or enabled.
    #[must_use]
    pub fn timetable_fault(&self) -> Option<String> {
        let has_cron = self.spec.cron.as_ref().is_some_and(|cron| !cron.is_empty());
        let anchor = if has_cron {
            None
        } else {
            self.fault_in(&["anchor"])
        };
        self.fault_in(&TIMETABLE_COLUMNS).or(anchor)
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

    /// The timetable from which the next occurrence, `first`, was computed; an interval counts from `first`. If the
    /// row does not say, this is its current timetable. If another version wrote a timetable that this one can't
    /// read, `first` is its only occurrence.
    #[must_use]
    pub fn planned_by(&self, first: DateTime<Utc>) -> Timetable {
        let spec = ScheduleSpec {
            anchor: Some(first),
            ..self.spec.clone()
        };
        let spec = match &self.planned_for {
            None => Some(spec),
            Some(planned_for) => planned_for.split().map(|noted| ScheduleSpec {
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

    /// Its message, under a new key: for the occurrence `planned`, or for none when it is run by hand.
    ///
    /// # Errors
    /// Why it can't have one: its arguments can't be read, or it names no queue.
    pub fn message(&self, planned: Option<DateTime<Utc>>) -> Result<Message, String> {
        self.spec.message(Occurrence {
            schedule: self.id,
            planned,
        })
    }

    /// Its id and name, for people.
    #[must_use]
    pub fn title(&self) -> String {
        let name = self.spec.name.as_deref().filter(|name| !name.is_empty());
        format!("{} ({:?})", self.id, name.unwrap_or(&self.spec.task))
    }
}

impl ScheduleSpec {
    /// Whether `column` is the same in both definitions; `false` for columns that are not part of it.
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
            _ => false,
        }
    }

    /// Whether both have the same timetable and anchor.
    pub(super) fn has_same_timetable(&self, other: &Self) -> bool {
        let timetable = |spec: &Self| {
            let zone = spec.time_zone.clone().unwrap_or_default();
            let cron = spec.cron.clone().unwrap_or_default();
            (spec.interval_type.clone(), spec.interval_count, cron, zone)
        };
        timetable(self) == timetable(other) && self.anchor == other.anchor
    }

    /// Its timetable as the column `planned_for` has it.
    pub(super) fn planned_for(&self) -> PlannedFor {
        let columns = TimetableColumns {
            interval_type: self.interval_type.clone(),
            interval_count: self.interval_count,
            time_zone: self.time_zone.clone().unwrap_or_default(),
            cron: self.cron.clone().unwrap_or_default(),
        };
        columns.join()
    }

    /// Whether both are the same, apart from `active` and `anchor`.
    pub(crate) fn has_same_definition(&self, other: &Self) -> bool {
        let Self { active, anchor, .. } = *other;
        Self {
            active,
            anchor,
            ..self.clone()
        } == *other
    }

    /// Its timetable. An interval without an anchor counts from `now`.
    ///
    /// # Errors
    /// What is wrong with its interval, cron line or time zone.
    pub fn timetable(&self, now: DateTime<Utc>) -> Result<Timetable, TimetableError> {
        let non_empty = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
        match non_empty(&self.cron) {
            Some(line) => {
                let zone = non_empty(&self.time_zone).map_or(Ok(Tz::UTC), |name| zone(&name))?;
                Timetable::cron(&line, zone)
            }
            None => Timetable::every(
                &self.interval_type,
                self.interval_count,
                self.anchor.unwrap_or(now),
            ),
        }
    }

    /// The message of an occurrence, under a new key.
    ///
    /// # Errors
    /// Why it can't have one.
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

/// Selects schedules.
#[derive(Debug, Clone, Copy)]
pub enum WhichSchedules<'a> {
    /// All, by their ids.
    All,
    /// The one with this id.
    Id(i64),
    /// Those with this name. Names are meant to be unique, but Django's table does not ensure it.
    Name(&'a str),
}

/// The result of editing a schedule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EditResult {
    /// It is saved.
    Saved,
    /// Somebody else has changed it since it was read: nothing is saved.
    Changed,
    /// Another schedule has the name: nothing is saved.
    NameTaken,
    /// It is deleted.
    Gone,
}

/// The work that is waiting for a scheduler.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Agenda {
    /// The database's time.
    pub now: DateTime<Utc>,
    /// The earliest next occurrence of the active schedules.
    pub next: Option<DateTime<Utc>>,
    /// Whether an active schedule has no current next occurrence: it is new, or its timetable has been changed.
    pub has_unplanned: bool,
    /// Whether the first `next_run` in the order of the index is no time, or not in the format that services write.
    pub has_malformed: bool,
}

/// The schedules to advance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReadySchedules {
    /// Those without a current next occurrence.
    Unplanned,
    /// The schedule with this id, if it has no current next occurrence.
    Saved(i64),
    /// Those whose next occurrence is due.
    Due,
    /// Those whose `next_run` is no time, or not in the format that services write. Statements that compare times
    /// do not find them when they are due.
    Malformed,
}

/// The schedules whose next occurrence is to be recomputed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RecomputeReason {
    /// What earlier services have left: those that were refused and have no next occurrence, and those whose next
    /// occurrence is in the future together with their last run or anchor, since a clock was set back.
    AtStart,
    /// All with a future next occurrence, because the clock was set back.
    ClockSetBack,
}

/// A schedule that is locked to be advanced.
#[derive(Debug, Clone)]
pub struct Candidate {
    /// Its row.
    pub row: ScheduleRow,
    /// The database's time.
    pub now: DateTime<Utc>,
    /// A message of it that is not final: that of its earliest occurrence, or one that was run by hand. Only read
    /// where `overlap` is `skip` and the schedule is due.
    pub unfinished: Option<UnfinishedMessage>,
}

impl Candidate {
    /// Whether its next occurrence is due.
    #[must_use]
    pub fn is_due(&self) -> bool {
        self.row.next_run.is_some_and(|next| next <= self.now)
    }
}

/// A schedule's message that is not in a final state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnfinishedMessage {
    /// Its key.
    pub key: String,
    /// Its state.
    pub status: Status,
    /// When it was recorded.
    pub since: DateTime<Utc>,
}

/// The changes that advance a schedule, written in one transaction.
#[derive(Debug, Clone, PartialEq)]
pub struct Advance {
    /// Its next occurrence, if there is one.
    pub next: Option<DateTime<Utc>>,
    /// Whether `next` is computed from its current timetable, which is then noted in `planned_for`. Otherwise
    /// `planned_for` stays as it is.
    pub from_current_timetable: bool,
    /// The time from which its interval counts, if the row had none.
    pub anchor: Option<DateTime<Utc>>,
    /// Why it does not run.
    pub refusal: Option<ScheduleRefusal>,
    /// The messages of the occurrences that are due.
    pub messages: Vec<Message>,
}
