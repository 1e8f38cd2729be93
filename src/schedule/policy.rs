//! The columns of a schedule beside its timetable, and whether a schedule can run.

use chrono::{DateTime, Utc};

use crate::message::{Message, Occurrence};
use crate::store::{ScheduleRefusal, ScheduleRow, ScheduleSpec};
use crate::timetable::{Missed, Overlap, TimetableError};

/// The columns of a schedule beside its timetable, parsed.
pub(super) struct SchedulePolicy {
    pub(super) missed: Missed,
    pub(super) overlap: Overlap,
    /// The template of its messages, which differ only in their key and occurrence.
    pub(super) message: Message,
}

impl SchedulePolicy {
    /// Parses a row, or says what is wrong with it.
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

/// When a schedule that is about to be saved will first run.
///
/// # Errors
/// Why it would not run, for its user.
pub fn first_run(spec: &ScheduleSpec, now: DateTime<Utc>) -> Result<DateTime<Utc>, String> {
    let to_text = |error: TimetableError| error.to_string();
    SchedulePolicy::read(spec, 0)?;
    spec.timetable(now)
        .map_err(to_text)?
        .first_after(now)
        .map_err(to_text)
}

/// Why no service runs a schedule. A refusal in the row may be outdated, so this checks the row again; only a refusal
/// by the database can't be checked here.
#[must_use]
pub fn why_not_running(row: &ScheduleRow, now: DateTime<Utc>) -> Option<String> {
    let noted = row.refusal.as_ref().filter(|refusal| match refusal {
        ScheduleRefusal::NotRecorded(_) => true,
        ScheduleRefusal::NextRunLost(_) => row.next_run.is_none(),
        ScheduleRefusal::Faulty(_) => false,
    });
    let unreadable = row.fault().or_else(|| row.timetable_fault());
    unreadable
        .or_else(|| first_run(&row.spec, now).err())
        .or_else(|| row.next_run_fault())
        .or_else(|| noted.map(ScheduleRefusal::to_string))
}
