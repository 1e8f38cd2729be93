//! The statements of `carrot_scheduledtask`.
//!
//! A row notes the timetable that its next occurrence was reckoned from. Whoever changes the timetable,
//! and however, leaves a row whose note does not fit, and an index holds those alone: to find them costs
//! nothing where there are none.

use chrono::{DateTime, Utc};
use diesel::prelude::*;
use diesel::result::Error;
use diesel::sql_types::{BigInt, Binary, Nullable, Text};

use super::engine::Engine;
use super::times;
use super::values::Values;
use crate::message::{python, wire};
use crate::store::{Edited, ScheduleRow, ScheduleSpec, WhichSchedules};

#[derive(QueryableByName)]
pub(super) struct Row {
    #[diesel(sql_type = BigInt)]
    id: i64,
    #[diesel(sql_type = Nullable<Text>)]
    task_name: Option<String>,
    #[diesel(sql_type = Text)]
    task: String,
    #[diesel(sql_type = Nullable<Text>)]
    task_args: Option<String>,
    #[diesel(sql_type = Nullable<Text>)]
    content: Option<String>,
    #[diesel(sql_type = Nullable<Text>)]
    queue: Option<String>,
    #[diesel(sql_type = Nullable<Text>)]
    exchange: Option<String>,
    #[diesel(sql_type = Nullable<Text>)]
    routing_key: Option<String>,
    #[diesel(sql_type = BigInt)]
    priority: i64,
    #[diesel(sql_type = BigInt)]
    active: i64,
    #[diesel(sql_type = Text)]
    interval_type: String,
    #[diesel(sql_type = BigInt)]
    interval_count: i64,
    #[diesel(sql_type = Nullable<Text>)]
    cron: Option<String>,
    #[diesel(sql_type = Nullable<Text>)]
    time_zone: Option<String>,
    #[diesel(sql_type = Text)]
    missed: String,
    #[diesel(sql_type = Text)]
    overlap: String,
    #[diesel(sql_type = Nullable<Text>)]
    anchor: Option<String>,
    #[diesel(sql_type = Nullable<Text>)]
    next_run: Option<String>,
    #[diesel(sql_type = Nullable<Text>)]
    last_run: Option<String>,
    #[diesel(sql_type = Nullable<Text>)]
    refusal: Option<String>,
    /// Not everywhere of the characters that the rest has.
    #[diesel(sql_type = Nullable<Binary>)]
    planned_for: Option<Vec<u8>>,
    #[diesel(sql_type = Nullable<Text>)]
    unfinished_from: Option<String>,
    /// The database's time.
    #[diesel(sql_type = Text)]
    pub(super) now: String,
}

impl Row {
    /// The columns that make one.
    pub(super) fn columns<E: Engine>() -> String {
        let bigint = E::BIGINT;
        format!(
            "CAST(m.id AS {bigint}) AS id, m.task_name, m.task, m.task_args, m.content, m.queue, \
             m.exchange, m.routing_key, CAST(m.priority AS {bigint}) AS priority, \
             CAST(CASE WHEN m.active THEN 1 ELSE 0 END AS {bigint}) AS active, m.interval_type, \
             CAST(m.interval_count AS {bigint}) AS interval_count, m.cron, m.time_zone, m.missed, \
             m.overlap, {anchor} AS anchor, {next_run} AS next_run, {last_run} AS last_run, \
             m.refusal, m.planned_for, {unfinished_from} AS unfinished_from, {now} AS now",
            unfinished_from = E::time_text("m.unfinished_from"),
            anchor = E::time_text("m.anchor"),
            next_run = E::time_text("m.next_run"),
            last_run = E::time_text("m.last_run"),
            now = E::time_text(E::NOW),
        )
    }
}

impl Row {
    /// No message of an occurrence planned before then is unfinished, if that is known.
    pub(super) fn unfinished_from(&self) -> Option<DateTime<Utc>> {
        times::parse(self.unfinished_from.as_deref()?)
    }
}

impl From<Row> for ScheduleRow {
    fn from(row: Row) -> Self {
        let time = |text: Option<String>| text.as_deref().and_then(times::parse);
        Self {
            id: row.id,
            spec: ScheduleSpec {
                name: row.task_name,
                task: row.task,
                task_args: row.task_args,
                content: row.content,
                queue: row.queue,
                exchange: row.exchange,
                routing_key: row.routing_key,
                priority: row.priority,
                active: row.active != 0,
                interval_type: row.interval_type,
                interval_count: row.interval_count,
                cron: row.cron,
                time_zone: row.time_zone,
                missed: row.missed,
                overlap: row.overlap,
                anchor: time(row.anchor),
            },
            next_run: time(row.next_run),
            last_run: time(row.last_run),
            refusal: row.refusal,
            planned_for: row.planned_for.map(text_of),
        }
    }
}

/// A timetable's text, which is ASCII if it can be met, in whatever characters the table has.
fn text_of(mut bytes: Vec<u8>) -> String {
    bytes.retain(|byte| *byte != 0);
    String::from_utf8_lossy(&bytes).into_owned()
}

/// A time of the database's.
pub(super) fn time_of(text: &str) -> QueryResult<DateTime<Utc>> {
    times::parse(text).ok_or_else(|| {
        Error::DeserializationError(format!("the database's time is {text:?}").into())
    })
}

#[derive(QueryableByName)]
pub(in crate::store) struct Now {
    #[diesel(sql_type = Text)]
    now: String,
}

pub(super) fn now<E: Engine>(engine: &mut E) -> QueryResult<DateTime<Utc>> {
    now_on::<E>(|sql| engine.load(sql, None))
}

/// The database's time, on a connection of whomever.
pub(in crate::store) fn now_on<E: Engine>(
    load: impl FnOnce(&str) -> QueryResult<Vec<Now>>,
) -> QueryResult<DateTime<Utc>> {
    let rows = load(&format!("SELECT {} AS now", E::time_text(E::NOW)))?;
    time_of(rows.first().map_or("", |row| &row.now))
}

pub(super) fn schedules<E: Engine>(
    engine: &mut E,
    which: &WhichSchedules<'_>,
) -> QueryResult<Vec<ScheduleRow>> {
    load(engine, which, "")
}

fn load<E: Engine>(
    engine: &mut E,
    which: &WhichSchedules<'_>,
    lock: &str,
) -> QueryResult<Vec<ScheduleRow>> {
    let columns = Row::columns::<E>();
    let rows: Vec<Row> = match which {
        WhichSchedules::All => {
            let sql = format!("SELECT {columns} FROM carrot_scheduledtask m ORDER BY m.id {lock}");
            engine.load(&sql, None)?
        }
        WhichSchedules::Id(id) => {
            let sql =
                format!("SELECT {columns} FROM carrot_scheduledtask m WHERE m.id = {id} {lock}");
            engine.load_once(&sql)?
        }
        WhichSchedules::Name(name) => {
            let values = Values::default().texts("name", [*name]);
            let source = engine.source(&values);
            let sql = format!(
                "SELECT {columns} FROM {source} JOIN carrot_scheduledtask m \
                 ON m.task_name = v.name ORDER BY m.id {lock}"
            );
            engine.load(&sql, Some(&values))?
        }
    };
    let rows = rows.into_iter().map(ScheduleRow::from);
    Ok(match which {
        // A collation may take another one for it.
        WhichSchedules::Name(name) => rows
            .filter(|row| row.spec.name.as_deref() == Some(name))
            .collect(),
        _ => rows.collect(),
    })
}

/// The columns of a [`ScheduleSpec`] in [`spec_values`], and what they are set to.
fn spec_set<E: Engine>() -> Vec<(&'static str, String)> {
    let texts = [
        "task_name",
        "task",
        "task_args",
        "content",
        "queue",
        "exchange",
        "routing_key",
        "interval_type",
        "cron",
        "time_zone",
        "missed",
        "overlap",
    ];
    let mut set: Vec<_> = texts
        .into_iter()
        .map(|column| (column, format!("v.{column}")))
        .collect();
    set.push(("interval_count", "v.interval_count".to_owned()));
    set.push(("priority", "v.priority".to_owned()));
    set.push(("active", "v.active = 1".to_owned()));
    set.push((
        "anchor",
        format!("COALESCE({}, {})", E::time_of("v.anchor"), E::NOW),
    ));
    set
}

/// The texts of a schedule in characters that the table has.
fn fitting(engine: &impl Engine, spec: &ScheduleSpec) -> ScheduleSpec {
    let mut spec = spec.clone();
    if engine.last_character() != char::MAX {
        spec.task_args = spec.task_args.as_deref().map(python::ascii);
        spec.content = spec.content.as_deref().map(wire::ascii);
    }
    spec
}

fn spec_values<'a>(spec: &'a ScheduleSpec, anchor: Option<&'a str>) -> Values<'a> {
    Values::default()
        .nullable("task_name", [spec.name.as_deref()])
        .texts("task", [spec.task.as_str()])
        .nullable("task_args", [spec.task_args.as_deref()])
        .nullable("content", [spec.content.as_deref()])
        .nullable("queue", [spec.queue.as_deref()])
        .nullable("exchange", [spec.exchange.as_deref()])
        .nullable("routing_key", [spec.routing_key.as_deref()])
        .texts("interval_type", [spec.interval_type.as_str()])
        .nullable("cron", [spec.cron.as_deref()])
        .nullable("time_zone", [spec.time_zone.as_deref()])
        .texts("missed", [spec.missed.as_str()])
        .texts("overlap", [spec.overlap.as_str()])
        .nullable("anchor", [anchor])
        .integers("interval_count", [spec.interval_count])
        .integers("priority", [spec.priority])
        .integers("active", [i64::from(spec.active)])
}

/// Whether another one than that has the name.
fn is_taken<E: Engine>(engine: &mut E, spec: &ScheduleSpec, id: Option<i64>) -> QueryResult<bool> {
    let Some(name) = &spec.name else {
        return Ok(false);
    };
    let named = schedules(engine, &WhichSchedules::Name(name))?;
    Ok(named.iter().any(|row| Some(row.id) != id))
}

/// `None` where one of that name is there.
pub(super) fn add<E: Engine>(engine: &mut E, spec: &ScheduleSpec) -> QueryResult<Option<i64>> {
    if is_taken(engine, spec, None)? {
        return Ok(None);
    }
    let spec = fitting(engine, spec);
    let anchor = spec.anchor.map(times::text);
    let values = spec_values(&spec, anchor.as_deref());
    let set = spec_set::<E>();
    let columns: Vec<_> = set.iter().map(|(column, _)| *column).collect();
    let to: Vec<_> = set.iter().map(|(_, to)| to.as_str()).collect();
    let sql = format!(
        "INSERT INTO carrot_scheduledtask ({}) SELECT {} FROM {}",
        columns.join(", "),
        to.join(", "),
        engine.source(&values)
    );
    engine.insert_one(&sql, &values).map(Some)
}

pub(super) fn edit<E: Engine>(
    engine: &mut E,
    id: i64,
    was: &ScheduleSpec,
    to: &ScheduleSpec,
) -> QueryResult<Edited> {
    let rows = load(engine, &WhichSchedules::Id(id), E::LOCK)?;
    let Some(row) = rows.first() else {
        return Ok(Edited::Gone);
    };
    if row.spec != *was {
        return Ok(Edited::Changed);
    }
    if to.name != was.name && is_taken(engine, to, Some(id))? {
        return Ok(Edited::NameTaken);
    }
    let to = fitting(engine, to);
    let anchor = to.anchor.map(times::text);
    let values = spec_values(&to, anchor.as_deref()).integers("id", [id]);
    let mut set = spec_set::<E>();
    set.push(("refusal", "NULL".to_owned()));
    let is_moved = to.anchor != was.anchor && row.planned_for == Some(to.timetable_text());
    // A refusal is found again if it holds still.
    if is_moved || row.next_run.is_none() {
        set.push(("planned_for", "NULL".to_owned()));
    }
    // What it has missed was another timetable's.
    if !was.active && !to.fires_as(was) {
        set.push(("next_run", "NULL".to_owned()));
    }
    engine.update_schedules(&values, &set)?;
    Ok(Edited::Saved)
}

pub(super) fn activate(engine: &mut impl Engine, id: i64, active: bool) -> QueryResult<bool> {
    // As an edit does: a refusal is found again if it holds still.
    let anew = if active {
        ", refusal = NULL, \
         planned_for = CASE WHEN next_run IS NULL THEN NULL ELSE planned_for END"
    } else {
        ""
    };
    let sql = format!("UPDATE carrot_scheduledtask SET active = {active}{anew} WHERE id = {id}");
    // How many rows that changes is not how many there are, on MySQL.
    let rows = load(engine, &WhichSchedules::Id(id), "")?;
    engine.batch(&sql)?;
    Ok(!rows.is_empty())
}

pub(super) fn remove(engine: &mut impl Engine, id: i64) -> QueryResult<bool> {
    let rows = load(engine, &WhichSchedules::Id(id), "")?;
    engine.batch(&format!("DELETE FROM carrot_scheduledtask WHERE id = {id}"))?;
    Ok(!rows.is_empty())
}
