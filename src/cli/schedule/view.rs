//! Prints schedules, for people and as JSON.

use chrono::{DateTime, SecondsFormat, Utc};
use chrono_tz::Tz;
use serde::Serialize;

use super::spec;
use crate::message::{Literal, Object, Payload};
use crate::schedule;
use crate::store::ScheduleRow;
use crate::timetable::{Interval, Timetable};

/// How many of the next runs are shown.
const SHOWN_RUNS: usize = 10;

const RUN_FORMAT: &str = "%a %Y-%m-%d %H:%M:%S %:z";
const UTC_FORMAT: &str = "%Y-%m-%d %H:%M:%SZ";

/// A schedule, and the time at which it is shown.
pub(super) struct ScheduleView<'a> {
    row: &'a ScheduleRow,
    now: DateTime<Utc>,
    zone: Tz,
    timetable: Option<Timetable>,
    arguments: Option<Payload>,
    /// Why services do not run it.
    problem: Option<String>,
}

impl<'a> ScheduleView<'a> {
    pub(super) fn new(row: &'a ScheduleRow, now: DateTime<Utc>) -> Self {
        let message = row.message(None).ok();
        Self {
            row,
            now,
            zone: spec::zone(&row.spec).unwrap_or(Tz::UTC),
            timetable: match row.timetable_fault() {
                Some(_) => None,
                None => row.spec.timetable(now).ok(),
            },
            arguments: message
                .filter(|_| {
                    !["task_args", "content"]
                        .iter()
                        .any(|of| row.is_unreadable(of))
                })
                .map(|message| message.arguments),
            problem: schedule::why_not_running(row, now),
        }
    }

    /// Why services would not run it, whether or not it is enabled.
    pub(super) fn problem(&self) -> Option<&str> {
        self.problem.as_deref()
    }

    /// The next run: as a service has planned it, or else computed here.
    fn next_run(&self) -> Option<DateTime<Utc>> {
        if !self.row.spec.active || self.problem().is_some() {
            return None;
        }
        let timetable = self.timetable.as_ref()?;
        self.row.next_run.or_else(|| timetable.next_after(self.now))
    }

    /// The next runs, as if it were enabled.
    fn runs(&self) -> Vec<DateTime<Utc>> {
        let Some(timetable) = &self.timetable else {
            return Vec::new();
        };
        let later = |time: &DateTime<Utc>| timetable.next_after(*time);
        std::iter::successors(later(&self.now), later)
            .take(SHOWN_RUNS)
            .collect()
    }

    fn name(&self) -> String {
        printable(self.row.spec.name.as_deref().unwrap_or_default())
    }

    /// `every 5 minutes`, or the cron line.
    fn when(&self) -> String {
        let spec = &self.row.spec;
        if let Some(cron) = spec.cron.as_deref().filter(|cron| !cron.is_empty()) {
            let zone = spec.time_zone.as_deref().filter(|zone| !zone.is_empty());
            return printable(&format!("{cron} {}", zone.unwrap_or("UTC")));
        }
        match Interval::new(&spec.interval_type, spec.interval_count) {
            Ok(interval) => format!("every {interval}"),
            Err(_) => printable(&format!(
                "every {} {}",
                spec.interval_count, spec.interval_type
            )),
        }
    }

    fn state(&self) -> &'static str {
        match (self.row.spec.active, self.problem()) {
            (false, _) => "disabled",
            (true, None) => "enabled",
            (true, Some(_)) => "refused",
        }
    }

    /// The schedule in one line: `nightly (1): 0 3 * * * Europe/Berlin, next run …`.
    pub(super) fn line(&self) -> String {
        let next = self.next_run().map_or_else(
            || self.state().to_owned(),
            |next| {
                let local = next.with_timezone(&self.zone).format(RUN_FORMAT);
                format!("next run {local}")
            },
        );
        format!("{} ({}): {}, {next}", self.name(), self.row.id, self.when())
    }

    /// All fields of the schedule, and its next runs.
    pub(super) fn page(&self) -> Vec<String> {
        let spec = &self.row.spec;
        let text =
            |text: &Option<String>| text.as_deref().map_or_else(|| "-".to_owned(), printable);
        let time = |time: Option<DateTime<Utc>>| {
            time.map_or_else(
                || "-".to_owned(),
                |time| time.format(UTC_FORMAT).to_string(),
            )
        };
        let (args, kwargs) = match &self.arguments {
            Some(Payload { args, kwargs }) => {
                (Literal::List(args.clone()).to_string(), kwargs.to_string())
            }
            None => (text(&spec.task_args), text(&spec.content)),
        };
        let mut lines: Vec<String> = [
            ("name", self.name()),
            ("id", self.row.id.to_string()),
            ("state", self.state().to_owned()),
            ("timetable", self.when()),
            ("task", printable(&spec.task)),
            ("args", args),
            ("kwargs", kwargs),
            ("queue", text(&spec.queue)),
            ("exchange", text(&spec.exchange)),
            ("routing key", text(&spec.routing_key)),
            ("priority", spec.priority.to_string()),
            ("missed", printable(&spec.missed)),
            ("overlap", printable(&spec.overlap)),
            ("last run", time(self.row.last_run)),
        ]
        .into_iter()
        .map(|(key, value)| format!("{key:<12}{value}"))
        .collect();
        let unreadable = self.row.unreadable.iter();
        lines.extend(
            unreadable.map(|(column, reason)| {
                printable(&format!("{:<12}{column}: {reason}", "unreadable"))
            }),
        );
        if let Some(problem) = self.problem() {
            lines.push(format!("{:<12}{}", "problem", printable(problem)));
            return lines;
        }
        lines.push(match spec.active {
            true => "next runs".to_owned(),
            false => "next runs, were it enabled".to_owned(),
        });
        let zone = self.zone.name();
        let runs = self.runs().into_iter().map(|run| {
            let local = run.with_timezone(&self.zone).format(RUN_FORMAT).to_string();
            [local, run.format(UTC_FORMAT).to_string()]
        });
        let heads = [zone.to_owned(), "UTC".to_owned()];
        let rows = std::iter::once(heads).chain(runs).collect::<Vec<_>>();
        lines.extend(columns(&rows).into_iter().map(|line| format!("  {line}")));
        lines
    }

    pub(super) fn report(&self) -> ScheduleJson<'_> {
        let spec = &self.row.spec;
        let given = |text: &'a Option<String>| text.as_deref().filter(|text| !text.is_empty());
        let cron = given(&spec.cron);
        let by_interval = cron.is_none();
        let arguments = self.arguments.as_ref();
        ScheduleJson {
            id: self.row.id,
            name: spec.name.as_deref(),
            task: &spec.task,
            args: arguments.map(|arguments| &arguments.args[..]),
            kwargs: arguments.map(|arguments| &arguments.kwargs),
            queue: spec.queue.as_deref(),
            exchange: spec.exchange.as_deref(),
            routing_key: spec.routing_key.as_deref(),
            priority: spec.priority,
            active: spec.active,
            interval_type: by_interval.then_some(&spec.interval_type),
            interval_count: by_interval.then_some(spec.interval_count),
            cron,
            timezone: given(&spec.time_zone).unwrap_or("UTC"),
            missed: &spec.missed,
            overlap: &spec.overlap,
            next_run: self.next_run().map(utc),
            last_run: self.row.last_run.map(utc),
            problem: self.problem(),
            next_runs: None,
        }
    }

    pub(super) fn report_with_runs(&self) -> ScheduleJson<'_> {
        let run = |run: DateTime<Utc>| {
            let local = run.with_timezone(&self.zone);
            RunTimes {
                local: local.to_rfc3339_opts(SecondsFormat::AutoSi, true),
                utc: utc(run),
            }
        };
        ScheduleJson {
            next_runs: Some(self.runs().into_iter().map(run).collect()),
            ..self.report()
        }
    }
}

/// A schedule as `--json` prints it.
#[derive(Serialize)]
pub(super) struct ScheduleJson<'a> {
    id: i64,
    name: Option<&'a str>,
    task: &'a str,
    args: Option<&'a [Literal]>,
    kwargs: Option<&'a Object>,
    queue: Option<&'a str>,
    exchange: Option<&'a str>,
    routing_key: Option<&'a str>,
    priority: i64,
    active: bool,
    interval_type: Option<&'a str>,
    interval_count: Option<i64>,
    cron: Option<&'a str>,
    timezone: &'a str,
    missed: &'a str,
    overlap: &'a str,
    next_run: Option<String>,
    last_run: Option<String>,
    problem: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_runs: Option<Vec<RunTimes>>,
}

/// The time of one run, in the schedule's zone and in UTC.
#[derive(Serialize)]
struct RunTimes {
    local: String,
    utc: String,
}

/// A table of schedules with a heading.
pub(super) fn table(views: &[ScheduleView<'_>]) -> Vec<String> {
    let heads = [
        "ID",
        "NAME",
        "TIMETABLE",
        "TASK",
        "QUEUE",
        "STATE",
        "NEXT RUN",
    ];
    let rows = views.iter().map(|view| {
        let spec = &view.row.spec;
        let next = view.next_run().map_or_else(
            || view.problem().map(printable).unwrap_or_default(),
            |next| next.format(UTC_FORMAT).to_string(),
        );
        [
            view.row.id.to_string(),
            view.name(),
            view.when(),
            printable(&spec.task),
            printable(spec.queue.as_deref().unwrap_or_default()),
            view.state().to_owned(),
            next,
        ]
    });
    let all: Vec<_> = std::iter::once(heads.map(str::to_owned))
        .chain(rows)
        .collect();
    columns(&all)
}

/// Aligns the columns.
fn columns<const N: usize>(rows: &[[String; N]]) -> Vec<String> {
    let width = |column: usize| {
        let widths = rows.iter().map(|row| row[column].chars().count());
        widths.max().unwrap_or_default()
    };
    let widths: Vec<usize> = (0..N).map(width).collect();
    let line = |row: &[String; N]| {
        let cells = row.iter().zip(&widths);
        let cells = cells.map(|(cell, &width)| format!("{cell:<width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect()
}

/// Replaces control characters, which could move a terminal's cursor.
fn printable(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { '\u{fffd}' } else { c })
        .collect()
}

fn utc(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::AutoSi, true)
}
