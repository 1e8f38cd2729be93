//! What a schedule's columns may say beside its timetable.

use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, Utc};

use crate::message::{Message, Occurrence};
use crate::store::{ScheduleRefusal, ScheduleRow, ScheduleSpec};

/// What becomes of the occurrences that nobody looked for, or that came while the schedule was not
/// active.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Missed {
    /// One message stands for all.
    RunOnce,
    /// Each has its message, of the last 100.
    RunAll,
    /// None has one.
    Skip,
}

/// What becomes of an occurrence that is due while the message of the one before is not finished.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Overlap {
    /// It is published all the same.
    Allow,
    /// It is not.
    Skip,
}

impl Missed {
    /// What the row says.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::RunOnce => "run_once",
            Self::RunAll => "run_all",
            Self::Skip => "skip",
        }
    }
}

impl Overlap {
    /// What the row says.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Skip => "skip",
        }
    }
}

impl fmt::Display for Missed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for Overlap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Missed {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        [Self::RunOnce, Self::RunAll, Self::Skip]
            .into_iter()
            .find(|policy| policy.as_str() == text)
            .ok_or_else(|| format!("missed is {text:?}, not run_once, run_all or skip"))
    }
}

impl FromStr for Overlap {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        [Self::Allow, Self::Skip]
            .into_iter()
            .find(|policy| policy.as_str() == text)
            .ok_or_else(|| format!("overlap is {text:?}, not allow or skip"))
    }
}

/// What a row says beside its timetable, read.
pub(super) struct Terms {
    pub(super) missed: Missed,
    pub(super) overlap: Overlap,
    /// A message of it: another has but another key and time.
    pub(super) message: Message,
}

impl Terms {
    /// What a row says, or what is wrong with it.
    pub(super) fn of(row: &ScheduleRow) -> Result<Self, String> {
        match row.fault() {
            Some(fault) => Err(fault),
            None => Self::read(&row.spec, row.id),
        }
    }

    fn read(spec: &ScheduleSpec, schedule: i64) -> Result<Self, String> {
        if u8::try_from(spec.priority).is_err() {
            return Err(format!("priority is {}, not 0 to 255", spec.priority));
        }
        if spec.task.is_empty() {
            return Err("the row names no task".to_owned());
        }
        Ok(Self {
            missed: spec.missed.parse()?,
            overlap: spec.overlap.parse()?,
            message: spec.message(Occurrence {
                schedule,
                planned: None,
            })?,
        })
    }
}

/// When a schedule that is about to be saved will run first.
///
/// # Errors
/// Why it would not run, in words for its user.
pub fn check(spec: &ScheduleSpec, now: DateTime<Utc>) -> Result<DateTime<Utc>, String> {
    let say = |error: crate::timetable::TimetableError| error.to_string();
    Terms::read(spec, 0)?;
    spec.timetable(now)
        .map_err(say)?
        .first_after(now)
        .map_err(say)
}

/// Why no service runs a schedule. What one has noted in the row may have been put right since, but for what
/// the database alone can tell.
#[must_use]
pub fn problem(row: &ScheduleRow, now: DateTime<Utc>) -> Option<String> {
    let noted = row.refusal.as_ref().filter(|refusal| match refusal {
        ScheduleRefusal::NotRecorded(_) => true,
        ScheduleRefusal::NextRunLost(_) => row.next_run.is_none(),
        ScheduleRefusal::Faulty(_) => false,
    });
    let unreadable = row.fault().or_else(|| row.timetable_fault());
    unreadable
        .or_else(|| check(&row.spec, now).err())
        .or_else(|| row.next_run_fault())
        .or_else(|| noted.map(ScheduleRefusal::to_string))
}
