//! Schedules that a program declares.

use chrono::DateTime;
use serde::Serialize;

use crate::config::Config;
use crate::message::{Literal, Object, python};
use crate::names;
use crate::store::{ScheduleSpec, ScheduleStore, StoreError, WhichSchedules};
use crate::timetable::{Interval, Missed, Overlap};

/// A schedule that an app declares; see [`App::schedule`](crate::App::schedule).
///
/// ```
/// use carrot_actors::Schedule;
///
/// let poll = Schedule::new("poll", "mail.poll").every("5m");
/// let nightly = Schedule::new("nightly", "reports.build")
///     .cron("0 3 * * 1-5")
///     .timezone("Europe/Berlin")
///     .args((2026,))
///     .queue("reports");
/// ```
///
/// `schedule add --help` describes the options of the same names: when each timetable fires, and what the others
/// mean. An app with a faulty schedule does not start, and reports the fault when it is run.
#[derive(Debug, Clone)]
#[must_use = "a schedule runs when it is given to an app"]
pub struct Schedule {
    name: String,
    task: String,
    every: Option<String>,
    cron: Option<String>,
    zone: Option<String>,
    args: Vec<Literal>,
    kwargs: Object,
    queue: Option<String>,
    priority: u8,
    missed: Missed,
    overlap: Overlap,
    /// The first fault that a method has found.
    fault: Option<String>,
}

/// What is wrong with a schedule that an app declares.
#[derive(Debug, thiserror::Error)]
#[error("schedule {name:?}: {reason}")]
pub struct ScheduleError {
    /// The schedule's name.
    pub name: String,
    /// What is wrong.
    pub reason: String,
}

impl Schedule {
    /// A schedule with this name for this task. It still needs [`every`](Self::every) or [`cron`](Self::cron).
    pub fn new(name: impl Into<String>, task: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            task: task.into(),
            every: None,
            cron: None,
            zone: None,
            args: Vec::new(),
            kwargs: Object::default(),
            queue: None,
            priority: 0,
            missed: Missed::RunOnce,
            overlap: Overlap::Allow,
            fault: None,
        }
    }

    /// Runs at an interval, such as `30s`, `5m`, `1h30m` or `7d`, of at least a second.
    pub fn every(mut self, interval: impl Into<String>) -> Self {
        self.every = Some(interval.into());
        self
    }

    /// Runs by a cron line of five to seven fields, or `@daily` and the like.
    pub fn cron(mut self, line: impl Into<String>) -> Self {
        self.cron = Some(line.into());
        self
    }

    /// The time zone of the cron line, such as `Europe/Berlin`; UTC by default.
    pub fn timezone(mut self, zone: impl Into<String>) -> Self {
        self.zone = Some(zone.into());
        self
    }

    /// The positional arguments: a tuple, a list, or anything else that serialises to a JSON array.
    pub fn args(mut self, args: impl Serialize) -> Self {
        match Literal::of(args) {
            Ok(Literal::List(args)) => self.args = args,
            Ok(_) => self.note_fault("args must be a tuple or a list, such as `(1,)`".to_owned()),
            Err(error) => self.note_fault(format!("args can't be written as JSON: {error}")),
        }
        self
    }

    /// The keyword arguments: a struct, a map, or anything else that serialises to a JSON object.
    pub fn kwargs(mut self, kwargs: impl Serialize) -> Self {
        match Literal::of(kwargs) {
            Ok(Literal::Object(kwargs)) => self.kwargs = kwargs,
            Ok(_) => self.note_fault("kwargs must be a struct or a map".to_owned()),
            Err(error) => self.note_fault(format!("kwargs can't be written as JSON: {error}")),
        }
        self
    }

    /// The queue; by default the first one of the configuration.
    pub fn queue(mut self, queue: impl Into<String>) -> Self {
        self.queue = Some(queue.into());
        self
    }

    /// The priority, 0 by default: messages with higher ones run first.
    pub const fn priority(mut self, priority: u8) -> Self {
        self.priority = priority;
        self
    }

    /// What happens to runs that no service was there to publish; by default, one run makes up for all of them.
    pub const fn missed(mut self, missed: Missed) -> Self {
        self.missed = missed;
        self
    }

    /// Whether a run may begin while the message of the previous one is not finished; by default it may.
    pub const fn overlap(mut self, overlap: Overlap) -> Self {
        self.overlap = overlap;
        self
    }

    /// Its name.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Its row.
    ///
    /// # Errors
    /// What is wrong with it. A schedule whose last occurrence is over is not faulty, so that the program that
    /// declares it still starts.
    pub(crate) fn spec(&self, config: &Config) -> Result<ScheduleSpec, ScheduleError> {
        self.to_spec(config).map_err(|reason| self.error(reason))
    }

    /// The error of an app that declares its name twice.
    pub(crate) fn declared_twice(&self) -> ScheduleError {
        self.error("is given twice: give one of them another name".to_owned())
    }

    fn error(&self, reason: String) -> ScheduleError {
        let name = self.name.clone();
        ScheduleError { name, reason }
    }

    fn to_spec(&self, config: &Config) -> Result<ScheduleSpec, String> {
        if let Some(fault) = &self.fault {
            return Err(fault.clone());
        }
        let first = || config.queues.first().map(|queue| queue.name.clone());
        let queue = self.queue.clone().or_else(first).unwrap_or_default();
        for (what, name) in [
            ("its name", &self.name),
            ("its task", &self.task),
            ("its queue", &queue),
        ] {
            let length = name.chars().count();
            if length == 0 || length > names::COLUMN_CHARS || name.contains('\0') {
                return Err(format!(
                    "{what} must have 1 to {} characters",
                    names::COLUMN_CHARS
                ));
            }
        }
        let mut spec = ScheduleSpec {
            task_args: render_args(&self.args),
            content: (!self.kwargs.is_empty()).then(|| self.kwargs.to_string()),
            priority: self.priority.into(),
            cron: self.cron.as_ref().map(|line| line.trim().to_owned()),
            time_zone: self.zone.clone(),
            missed: self.missed.to_string(),
            overlap: self.overlap.to_string(),
            ..ScheduleSpec::new(&self.name, &self.task, queue)
        };
        match (&self.every, &self.cron) {
            (Some(interval), None) => {
                let interval: Interval = interval.parse().map_err(|error| format!("{error}"))?;
                spec.interval_type = interval.unit().as_str().to_owned();
                spec.interval_count = interval.count().into();
            }
            (None, Some(_)) => {}
            _ => return Err("say when it runs, by `every` or by `cron`".to_owned()),
        }
        let timetable = spec.timetable(DateTime::UNIX_EPOCH);
        timetable.map_err(|error| error.to_string())?;
        Ok(spec)
    }

    fn note_fault(&mut self, fault: String) {
        self.fault.get_or_insert(fault);
    }
}

/// Adds the schedules whose names the database does not have.
///
/// # Errors
/// When the database is away, or refuses a schedule.
pub(crate) fn add_missing(
    specs: &[ScheduleSpec],
    session: &mut dyn ScheduleStore,
) -> Result<(), StoreError> {
    for spec in specs {
        let name = spec.name.as_deref().unwrap_or_default();
        if session.add_schedule(spec)?.is_some() {
            log::info!("added the schedule {name}");
            continue;
        }
        let there = session.schedules(&WhichSchedules::Name(name))?;
        if !there.iter().any(|row| row.spec.has_same_definition(spec)) {
            log::info!(
                "the schedule {name} stays as it is in the database, which differs from this program's: \
                 see `schedule edit`"
            );
        }
    }
    Ok(())
}

/// Writes a schedule's arguments as django-carrot does: Python literals without brackets.
fn render_args(args: &[Literal]) -> Option<String> {
    let listed: Vec<String> = args.iter().map(python::repr).collect();
    (!listed.is_empty()).then(|| listed.join(", "))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn spec(schedule: Schedule) -> Result<ScheduleSpec, String> {
        let spec = schedule.spec(&Config::default());
        spec.map_err(|error| error.to_string())
    }

    #[test]
    fn a_schedule_is_a_row_as_the_command_line_makes_it() {
        let row = spec(Schedule::new("tick", "clock.tick").every("90s")).unwrap();
        assert_eq!(
            row,
            ScheduleSpec {
                interval_type: "seconds".to_owned(),
                interval_count: 90,
                ..ScheduleSpec::new("tick", "clock.tick", "default")
            }
        );
        let row = spec(
            Schedule::new("nightly", "reports.build")
                .cron("0 3 * * 1-5")
                .timezone("Europe/Berlin")
                .args((2026, "May"))
                .kwargs(json!({"draft": true}))
                .queue("reports")
                .priority(7)
                .missed(Missed::Skip)
                .overlap(Overlap::Skip),
        );
        let row = row.unwrap();
        assert_eq!(row.task_args.as_deref(), Some("2026, 'May'"));
        assert_eq!(row.content.as_deref(), Some("{\"draft\":true}"));
        assert_eq!((row.queue.as_deref(), row.priority), (Some("reports"), 7));
        assert_eq!(
            (row.missed.as_str(), row.overlap.as_str()),
            ("skip", "skip")
        );
    }

    #[test]
    fn a_schedule_whose_last_occurrence_is_over_is_not_faulty() {
        assert!(spec(Schedule::new("launch", "task").cron("0 0 12 1 1 * 2020")).is_ok());
    }

    #[test]
    fn an_error_has_the_name_of_the_schedule() {
        let tick = || Schedule::new("tick", "clock.tick");
        for (schedule, expected) in [
            (
                tick(),
                "schedule \"tick\": say when it runs, by `every` or by `cron`",
            ),
            (
                tick().every("5m").cron("@daily"),
                "say when it runs, by `every` or",
            ),
            (tick().every("soon"), "soon"),
            (tick().every("0s"), "schedule \"tick\": "),
            (tick().cron("0 0 30 2 *"), "schedule \"tick\": "),
            (
                tick().cron("@daily").timezone("Europe/Berln"),
                "Europe/Berlin?",
            ),
            (tick().every("1s").args(5), "args must be a tuple"),
            (tick().every("1s").kwargs((1,)), "kwargs must be a struct"),
            (tick().every("1s").queue(""), "its queue must have 1 to 200"),
            (Schedule::new("", "task").every("1s"), "its name must have"),
        ] {
            let told = spec(schedule).unwrap_err();
            assert!(told.contains(expected), "{told}");
        }
    }
}
