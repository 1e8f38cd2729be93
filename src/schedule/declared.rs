//! ScheduleStore that a program brings along.

use chrono::DateTime;
use serde::Serialize;

use crate::config::Config;
use crate::message::{Literal, Object, python};
use crate::names;
use crate::store::{ScheduleSpec, ScheduleStore, StoreError, WhichSchedules};
use crate::timetable::{Interval, Missed, Overlap};

/// A schedule that an app brings along; see [`App::schedule`](crate::App::schedule).
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
/// When each timetable fires, and how the rest is meant, is what `schedule add --help` says of the options
/// of these names. What is wrong with one is said when the app is run, which then does not start.
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
    /// The first thing that was wrong.
    fault: Option<String>,
}

/// Why a schedule of the app's can't be one.
#[derive(Debug, thiserror::Error)]
#[error("schedule {name:?}: {reason}")]
pub struct ScheduleError {
    /// What it is called.
    pub name: String,
    /// What is wrong.
    pub reason: String,
}

impl Schedule {
    /// A schedule of that name for that task, which still needs [`every`](Self::every) or
    /// [`cron`](Self::cron).
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

    /// So long after one another, as `30s`, `5m`, `1h30m` or `7d`: a second at least.
    pub fn every(mut self, interval: impl Into<String>) -> Self {
        self.every = Some(interval.into());
        self
    }

    /// By a cron line of five to seven fields, or `@daily` and the like.
    pub fn cron(mut self, line: impl Into<String>) -> Self {
        self.cron = Some(line.into());
        self
    }

    /// The cron line goes by the clocks of this zone, as `Europe/Berlin`; UTC otherwise.
    pub fn timezone(mut self, zone: impl Into<String>) -> Self {
        self.zone = Some(zone.into());
        self
    }

    /// With these positional arguments: a tuple, a list, or anything else that serialises to a JSON array.
    pub fn args(mut self, args: impl Serialize) -> Self {
        match Literal::of(args) {
            Ok(Literal::List(args)) => self.args = args,
            Ok(_) => self.is_wrong("args must be a tuple or a list, such as `(1,)`".to_owned()),
            Err(error) => self.is_wrong(format!("args can't be written as JSON: {error}")),
        }
        self
    }

    /// With these named arguments: a struct, a map, or anything else that serialises to a JSON object.
    pub fn kwargs(mut self, kwargs: impl Serialize) -> Self {
        match Literal::of(kwargs) {
            Ok(Literal::Object(kwargs)) => self.kwargs = kwargs,
            Ok(_) => self.is_wrong("kwargs must be a struct or a map".to_owned()),
            Err(error) => self.is_wrong(format!("kwargs can't be written as JSON: {error}")),
        }
        self
    }

    /// By this queue, instead of the first of the configuration.
    pub fn queue(mut self, queue: impl Into<String>) -> Self {
        self.queue = Some(queue.into());
        self
    }

    /// With this priority: higher ones are run first; 0 by default.
    pub const fn priority(mut self, priority: u8) -> Self {
        self.priority = priority;
        self
    }

    /// What becomes of runs for which nobody was there; one for all of them by default.
    pub const fn missed(mut self, missed: Missed) -> Self {
        self.missed = missed;
        self
    }

    /// Whether a run may begin while the message of the one before is not finished; it may by default.
    pub const fn overlap(mut self, overlap: Overlap) -> Self {
        self.overlap = overlap;
        self
    }

    /// What it is called.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// What the row of it says.
    ///
    /// # Errors
    /// What is wrong with it. That its last time is over is nothing wrong: the program that brings it
    /// along goes on.
    pub(crate) fn spec(&self, config: &Config) -> Result<ScheduleSpec, ScheduleError> {
        self.row(config).map_err(|reason| self.is_no_good(reason))
    }

    /// The app has been given one of its name.
    pub(crate) fn is_there_already(&self) -> ScheduleError {
        self.is_no_good("is given twice: give one of them another name".to_owned())
    }

    fn is_no_good(&self, reason: String) -> ScheduleError {
        let name = self.name.clone();
        ScheduleError { name, reason }
    }

    fn row(&self, config: &Config) -> Result<ScheduleSpec, String> {
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
            task_args: listed(&self.args),
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

    fn is_wrong(&mut self, fault: String) {
        self.fault.get_or_insert(fault);
    }
}

/// Adds those that are not there, which is when there is none of their name.
///
/// # Errors
/// When the database is away, or refuses one.
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
                "the schedule {name} stays as it is in the database, which is not as this program has it: \
                 see `schedule edit`"
            );
        }
    }
    Ok(())
}

/// As django-carrot keeps a schedule's arguments: Python literals without brackets.
fn listed(args: &[Literal]) -> Option<String> {
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
    fn a_schedule_whose_last_time_is_over_is_no_fault() {
        assert!(spec(Schedule::new("launch", "task").cron("0 0 12 1 1 * 2020")).is_ok());
    }

    #[test]
    fn what_is_wrong_with_a_schedule_is_said_with_its_name() {
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
