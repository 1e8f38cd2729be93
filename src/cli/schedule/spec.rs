//! Makes a schedule's row from the command line.

use chrono::{DateTime, Utc};
use chrono_tz::Tz;

use super::args::{AddArgs, EditArgs, FieldArgs};
use crate::cli::exit::Exit;
use crate::cli::failure::CommandFailure;
use crate::cli::typed;
use crate::config::Config;
use crate::message::{Literal, Message, Object, Occurrence, python};
use crate::schedule;
use crate::store::{ScheduleRow, ScheduleSpec};
use crate::timetable::{self, Interval, TimetableError};

/// The interval in the row of a cron line: django-carrot's columns are not NULL.
const CRON_INTERVAL: (&str, i64) = ("days", 1);

/// The content of a new schedule's row.
pub(super) fn new(args: &AddArgs, config: &Config) -> Result<ScheduleSpec, CommandFailure> {
    let change = ScheduleChange {
        name: Some(args.name.clone()),
        task: Some(args.task.clone()),
        ..ScheduleChange::of(&args.fields)?
    };
    change.check_names()?;
    let queue = typed::queue(args.fields.queue.as_ref(), config);
    typed::check_name("--queue", &queue)?;
    let spec = ScheduleSpec {
        active: !args.disabled,
        ..ScheduleSpec::new(&args.name, &args.task, queue)
    };
    Ok(change.applied_to(&spec))
}

/// The fields of a schedule that are to be set.
#[derive(Debug, Default)]
pub(super) struct ScheduleChange {
    name: Option<String>,
    task: Option<String>,
    interval: Option<Interval>,
    cron: Option<String>,
    zone: Option<Tz>,
    args: Option<Vec<Literal>>,
    kwargs: Option<Object>,
    queue: Option<String>,
    priority: Option<u8>,
    missed: Option<&'static str>,
    overlap: Option<&'static str>,
}

impl ScheduleChange {
    pub(super) fn read(args: &EditArgs) -> Result<Self, CommandFailure> {
        if args.rename.is_none() && args.task.is_none() && args.fields == FieldArgs::default() {
            let problem =
                "say what is to change, as --every 10m; `schedule edit --help` has it all";
            return Err(CommandFailure::new(Exit::Usage, problem));
        }
        let change = Self {
            name: args.rename.clone(),
            task: args.task.clone(),
            ..Self::of(&args.fields)?
        };
        change.check_names()?;
        Ok(change)
    }

    fn of(fields: &FieldArgs) -> Result<Self, CommandFailure> {
        let interval = fields.every.as_deref().map(str::parse).transpose();
        let zone = fields.timezone.as_deref().map(timetable::zone).transpose();
        let args = fields.args.as_deref();
        let kwargs = fields.kwargs.as_deref();
        Ok(Self {
            interval: interval.map_err(|error| invalid_option("--every", &error))?,
            cron: fields.cron.clone(),
            zone: zone.map_err(|error| invalid_option("--timezone", &error))?,
            args: args
                .map(|args| typed::positional(Some(args), &[]))
                .transpose()?,
            kwargs: kwargs
                .map(|kwargs| typed::named(Some(kwargs)))
                .transpose()?,
            queue: fields.queue.clone(),
            priority: fields.priority,
            missed: fields.missed.map(|missed| missed.policy().as_str()),
            overlap: fields.overlap.map(|overlap| overlap.policy().as_str()),
            ..Self::default()
        })
    }

    fn check_names(&self) -> Result<(), CommandFailure> {
        let names = [
            ("NAME", &self.name),
            ("TASK", &self.task),
            ("--queue", &self.queue),
        ];
        names
            .into_iter()
            .filter_map(|(what, name)| Some((what, name.as_ref()?)))
            .try_for_each(|(what, name)| typed::check_name(what, name))
    }

    /// Whether it changes when the schedule runs.
    pub(super) const fn changes_timetable(&self) -> bool {
        self.interval.is_some() || self.cron.is_some() || self.zone.is_some()
    }

    /// Whether it changes the schedule's message.
    pub(super) const fn changes_message(&self) -> bool {
        self.args.is_some() || self.kwargs.is_some() || self.queue.is_some()
    }

    /// The row's content with the change.
    pub(super) fn applied_to(&self, was: &ScheduleSpec) -> ScheduleSpec {
        let mut to = was.clone();
        if let Some(name) = &self.name {
            to.name = Some(name.clone());
        }
        self.set_timetable(&mut to);
        self.set_message(&mut to);
        if let Some(missed) = self.missed {
            to.missed = missed.to_owned();
        }
        if let Some(overlap) = self.overlap {
            to.overlap = overlap.to_owned();
        }
        to
    }

    fn set_timetable(&self, to: &mut ScheduleSpec) {
        if let Some(interval) = self.interval {
            let (unit, count) = (interval.unit().as_str(), i64::from(interval.count()));
            let same = (to.interval_type.as_str(), to.interval_count) == (unit, count);
            if !same || to.cron.is_some() {
                // The interval is counted from now on.
                to.anchor = None;
            }
            (to.interval_type, to.interval_count) = (unit.to_owned(), count);
            to.cron = None;
        }
        if let Some(cron) = &self.cron {
            to.cron = Some(cron.trim().to_owned());
            (to.interval_type, to.interval_count) = (CRON_INTERVAL.0.to_owned(), CRON_INTERVAL.1);
        }
        if let Some(zone) = self.zone {
            to.time_zone = Some(zone.name().to_owned());
        }
    }

    fn set_message(&self, to: &mut ScheduleSpec) {
        if let Some(task) = &self.task {
            to.task.clone_from(task);
        }
        if let Some(args) = &self.args {
            to.task_args = python_args(args);
        }
        if let Some(kwargs) = &self.kwargs {
            to.content = Some(kwargs.to_string());
        }
        if let Some(queue) = &self.queue {
            // A routing key other than the queue's name is meant for the schedule's own exchange, and is kept.
            let key = to.routing_key.as_deref().unwrap_or_default();
            if key.is_empty() || to.queue.as_deref() == Some(key) {
                to.routing_key = Some(queue.clone());
            }
            to.queue = Some(queue.clone());
        }
        if let Some(priority) = self.priority {
            to.priority = priority.into();
        }
    }
}

/// A schedule's arguments as django-carrot stores them: Python literals without brackets.
fn python_args(args: &[Literal]) -> Option<String> {
    let listed: Vec<String> = args.iter().map(python::repr).collect();
    (!listed.is_empty()).then(|| listed.join(", "))
}

/// The time zone in the row; UTC if there is none.
pub(super) fn zone(spec: &ScheduleSpec) -> Result<Tz, TimetableError> {
    let name = spec.time_zone.as_deref().filter(|name| !name.is_empty());
    name.map_or(Ok(Tz::UTC), timetable::zone)
}

/// Refuses a timetable that is invalid, or has no time left.
pub(super) fn check_timetable(
    spec: &ScheduleSpec,
    now: DateTime<Utc>,
) -> Result<(), CommandFailure> {
    spec.timetable(now)
        .and_then(|timetable| timetable.first_after(now))
        .map(drop)
        .map_err(|error| CommandFailure::new(Exit::Data, error))
}

/// Refuses a schedule that services would not run.
pub(super) fn check(spec: &ScheduleSpec, now: DateTime<Utc>) -> Result<(), CommandFailure> {
    schedule::first_run(spec, now)
        .map(drop)
        .map_err(|reason| CommandFailure::new(Exit::Data, reason))
}

/// Refuses a row with a value that can't be read.
pub(super) fn check_readable(row: &ScheduleRow) -> Result<(), CommandFailure> {
    row.fault().map_or(Ok(()), |fault| {
        let problem = format!("{fault}; `schedule edit` puts another value there");
        Err(CommandFailure::new(Exit::Data, problem))
    })
}

/// Refuses a schedule from which no message can be made.
pub(super) fn check_message(id: i64, spec: &ScheduleSpec) -> Result<Message, CommandFailure> {
    let beside = Occurrence {
        schedule: id,
        planned: None,
    };
    spec.message(beside)
        .map_err(|reason| CommandFailure::new(Exit::Data, reason))
}

fn invalid_option(option: &str, error: &TimetableError) -> CommandFailure {
    CommandFailure::new(Exit::Data, format!("{option}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn row() -> ScheduleSpec {
        ScheduleSpec {
            interval_type: "minutes".to_owned(),
            interval_count: 5,
            anchor: DateTime::from_timestamp(1_000_000_000, 0),
            ..ScheduleSpec::new("tick", "task", "default")
        }
    }

    fn edited(was: &ScheduleSpec, fields: FieldArgs) -> ScheduleSpec {
        ScheduleChange::of(&fields).unwrap().applied_to(was)
    }

    #[test]
    fn a_queue_is_its_own_routing_key_unless_the_row_has_another() {
        let second = || FieldArgs {
            queue: Some("second".to_owned()),
            ..FieldArgs::default()
        };
        let key = |routing_key: Option<&str>| {
            let was = ScheduleSpec {
                routing_key: routing_key.map(str::to_owned),
                ..row()
            };
            let to = edited(&was, second());
            assert_eq!(to.queue.as_deref(), Some("second"));
            to.routing_key.unwrap()
        };
        assert_eq!(key(Some("default")), "second");
        assert_eq!(key(Some("")), "second");
        assert_eq!(key(None), "second");
        assert_eq!(key(Some("reports.daily")), "reports.daily");
    }

    #[test]
    fn an_interval_is_counted_anew_only_if_it_changes() {
        let every = |interval: &str| FieldArgs {
            every: Some(interval.to_owned()),
            ..FieldArgs::default()
        };
        assert_eq!(edited(&row(), every("300s")), row());
        assert_eq!(edited(&row(), every("10m")).anchor, None);
        let cron = FieldArgs {
            cron: Some(" @daily ".to_owned()),
            ..FieldArgs::default()
        };
        let daily = edited(&row(), cron);
        assert_eq!(daily.cron.as_deref(), Some("@daily"));
        // What django-carrot reads.
        assert_eq!(
            (daily.interval_type.as_str(), daily.interval_count),
            ("days", 1)
        );
        let again = edited(&daily, every("1d"));
        assert_eq!((again.cron, again.anchor), (None, None));
    }

    #[test]
    fn arguments_are_stored_as_django_carrot_reads_them() {
        let list = |args| python_args(&Literal::list(args));
        assert_eq!(list(json!([])), None);
        assert_eq!(list(json!([1, "x", true])).as_deref(), Some("1, 'x', True"));
        let read = python::parse_list(&list(json!(["a, b", [null]])).unwrap());
        assert_eq!(read, Ok(Literal::list(json!(["a, b", [null]]))));
    }
}
