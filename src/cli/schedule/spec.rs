//! From what was typed to what stands in the row.

use chrono::{DateTime, Utc};
use chrono_tz::Tz;

use super::args::{AddArgs, EditArgs, FieldArgs};
use crate::cli::{Exit, Failure, typed};
use crate::config::Config;
use crate::message::{Literal, Message, Object, Occurrence, python};
use crate::schedule;
use crate::store::{ScheduleRow, ScheduleSpec};
use crate::timetable::{self, Interval, TimetableError};

/// What a cron line's row says to django-carrot, whose columns are not NULL.
const BESIDE_CRON: (&str, i64) = ("days", 1);

/// What the row of a new schedule says.
pub(super) fn new(args: &AddArgs, config: &Config) -> Result<ScheduleSpec, Failure> {
    let change = Change {
        name: Some(args.name.clone()),
        task: Some(args.task.clone()),
        ..Change::of(&args.fields)?
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

/// What is to be another.
#[derive(Debug, Default)]
pub(super) struct Change {
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

impl Change {
    pub(super) fn read(args: &EditArgs) -> Result<Self, Failure> {
        if args.rename.is_none() && args.task.is_none() && args.fields == FieldArgs::default() {
            let problem =
                "say what is to change, as --every 10m; `schedule edit --help` has it all";
            return Err(Failure::new(Exit::Usage, problem));
        }
        let change = Self {
            name: args.rename.clone(),
            task: args.task.clone(),
            ..Self::of(&args.fields)?
        };
        change.check_names()?;
        Ok(change)
    }

    fn of(fields: &FieldArgs) -> Result<Self, Failure> {
        let interval = fields.every.as_deref().map(str::parse).transpose();
        let zone = fields.timezone.as_deref().map(timetable::zone).transpose();
        let args = fields.args.as_deref();
        let kwargs = fields.kwargs.as_deref();
        Ok(Self {
            interval: interval.map_err(|error| wrong("--every", &error))?,
            cron: fields.cron.clone(),
            zone: zone.map_err(|error| wrong("--timezone", &error))?,
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

    fn check_names(&self) -> Result<(), Failure> {
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

    /// Whether it is about when it runs.
    pub(super) const fn timetable(&self) -> bool {
        self.interval.is_some() || self.cron.is_some() || self.zone.is_some()
    }

    /// Whether it is about the message.
    pub(super) const fn message(&self) -> bool {
        self.args.is_some() || self.kwargs.is_some() || self.queue.is_some()
    }

    /// What the row says after it.
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
                // From now on.
                to.anchor = None;
            }
            (to.interval_type, to.interval_count) = (unit.to_owned(), count);
            to.cron = None;
        }
        if let Some(cron) = &self.cron {
            to.cron = Some(cron.trim().to_owned());
            (to.interval_type, to.interval_count) = (BESIDE_CRON.0.to_owned(), BESIDE_CRON.1);
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
            to.task_args = listed(args);
        }
        if let Some(kwargs) = &self.kwargs {
            to.content = Some(kwargs.to_string());
        }
        if let Some(queue) = &self.queue {
            // A routing key of its own is for an exchange of its own.
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

/// As django-carrot keeps a schedule's arguments: Python literals without brackets.
fn listed(args: &[Literal]) -> Option<String> {
    let listed: Vec<String> = args.iter().map(python::repr).collect();
    (!listed.is_empty()).then(|| listed.join(", "))
}

/// The zone that the row names; UTC if none.
pub(super) fn zone(spec: &ScheduleSpec) -> Result<Tz, TimetableError> {
    let name = spec.time_zone.as_deref().filter(|name| !name.is_empty());
    name.map_or(Ok(Tz::UTC), timetable::zone)
}

/// Refuses a timetable that can't be met, or whose last time is over.
pub(super) fn check_timetable(spec: &ScheduleSpec, now: DateTime<Utc>) -> Result<(), Failure> {
    spec.timetable(now)
        .and_then(|timetable| timetable.first_after(now))
        .map(drop)
        .map_err(|error| Failure::new(Exit::Data, error))
}

/// Refuses what no service would run.
pub(super) fn check(spec: &ScheduleSpec, now: DateTime<Utc>) -> Result<(), Failure> {
    schedule::first_run(spec, now)
        .map(drop)
        .map_err(|reason| Failure::new(Exit::Data, reason))
}

/// Refuses a row of which something can't be read.
pub(super) fn check_readable(row: &ScheduleRow) -> Result<(), Failure> {
    row.fault().map_or(Ok(()), |fault| {
        let problem = format!("{fault}; `schedule edit` puts another value there");
        Err(Failure::new(Exit::Data, problem))
    })
}

/// Refuses what no message can be made from.
pub(super) fn check_message(id: i64, spec: &ScheduleSpec) -> Result<Message, Failure> {
    let beside = Occurrence {
        schedule: id,
        planned: None,
    };
    spec.message(beside)
        .map_err(|reason| Failure::new(Exit::Data, reason))
}

fn wrong(option: &str, error: &TimetableError) -> Failure {
    Failure::new(Exit::Data, format!("{option}: {error}"))
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
        Change::of(&fields).unwrap().applied_to(was)
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
    fn an_interval_begins_anew_only_where_it_is_another() {
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
        // What django-carrot sees of it.
        assert_eq!(
            (daily.interval_type.as_str(), daily.interval_count),
            ("days", 1)
        );
        let again = edited(&daily, every("1d"));
        assert_eq!((again.cron, again.anchor), (None, None));
    }

    #[test]
    fn arguments_stand_there_as_django_carrot_reads_them() {
        let list = |args| listed(&Literal::list(args));
        assert_eq!(list(json!([])), None);
        assert_eq!(list(json!([1, "x", true])).as_deref(), Some("1, 'x', True"));
        let read = python::parse_list(&list(json!(["a, b", [null]])).unwrap());
        assert_eq!(read, Ok(Literal::list(json!(["a, b", [null]]))));
    }
}
