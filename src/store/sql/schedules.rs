//! The statements of `carrot_scheduledtask`.
//!
//! A row records, in `planned_for`, the timetable from which its next occurrence was computed. Any change of the
//! timetable, by whomever, leaves a row in which the two differ. An index contains only such rows, so that finding
//! them costs nothing if there are none.

use chrono::{DateTime, Utc};
use diesel::prelude::*;
use diesel::result::Error;
use diesel::sql_types::Text;

use super::engine::Engine;
use super::schedule_row::LooseScheduleRow;
use super::times;
use super::values::ValueTable;
use crate::message::{python, wire};
use crate::store::{EditResult, ScheduleRow, ScheduleSpec, WhichSchedules};

/// Parses a time that the database wrote.
pub(super) fn parse_database_time(text: &str) -> QueryResult<DateTime<Utc>> {
    times::parse(text).ok_or_else(|| {
        Error::DeserializationError(format!("the database's time is {text:?}").into())
    })
}

#[derive(QueryableByName)]
pub(in crate::store) struct NowRow {
    #[diesel(sql_type = Text)]
    now: String,
}

pub(super) fn now<E: Engine>(engine: &mut E) -> QueryResult<DateTime<Utc>> {
    load_now::<E>(|sql| engine.load(sql, None))
}

/// The database's time, on any connection.
pub(in crate::store) fn load_now<E: Engine>(
    load: impl FnOnce(&str) -> QueryResult<Vec<NowRow>>,
) -> QueryResult<DateTime<Utc>> {
    let rows = load(&format!("SELECT {} AS now", E::time_to_text(E::NOW)))?;
    parse_database_time(rows.first().map_or("", |row| &row.now))
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
    let columns = LooseScheduleRow::columns::<E>();
    let rows: Vec<LooseScheduleRow> = match which {
        WhichSchedules::All => {
            let sql = format!("SELECT {columns} FROM carrot_scheduledtask m ORDER BY m.id {lock}");
            engine.load(&sql, None)?
        }
        WhichSchedules::Id(id) => {
            let sql =
                format!("SELECT {columns} FROM carrot_scheduledtask m WHERE m.id = {id} {lock}");
            engine.load_unprepared(&sql)?
        }
        WhichSchedules::Name(name) => {
            let values = ValueTable::default().texts("name", [*name]);
            let source = engine.values_sql(&values);
            let sql = format!(
                "SELECT {columns} FROM {source} JOIN carrot_scheduledtask m \
                 ON m.task_name = v.name ORDER BY m.id {lock}"
            );
            engine.load(&sql, Some(&values))?
        }
    };
    let rows = rows.into_iter().map(ScheduleRow::from);
    Ok(match which {
        // A collation may take another name for this one.
        WhichSchedules::Name(name) => rows
            .filter(|row| row.spec.name.as_deref() == Some(name))
            .collect(),
        _ => rows.collect(),
    })
}

/// The columns of a [`ScheduleSpec`] and their new values, which are in [`spec_values`].
fn spec_assignments<E: Engine>() -> Vec<(&'static str, String)> {
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
        format!("COALESCE({}, {})", E::text_to_time("v.anchor"), E::NOW),
    ));
    set
}

/// The schedule with its arguments in ASCII, if the table can't store all characters.
fn with_storable_texts(engine: &impl Engine, spec: &ScheduleSpec) -> ScheduleSpec {
    let mut spec = spec.clone();
    if engine.highest_character() != char::MAX {
        spec.task_args = spec.task_args.as_deref().map(python::ascii);
        spec.content = spec.content.as_deref().map(wire::ascii);
    }
    spec
}

fn spec_values<'a>(spec: &'a ScheduleSpec, anchor: Option<&'a str>) -> ValueTable<'a> {
    ValueTable::default()
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

/// Whether a schedule other than `id` has the name.
fn is_name_taken<E: Engine>(
    engine: &mut E,
    spec: &ScheduleSpec,
    id: Option<i64>,
) -> QueryResult<bool> {
    let Some(name) = &spec.name else {
        return Ok(false);
    };
    let named = schedules(engine, &WhichSchedules::Name(name))?;
    Ok(named.iter().any(|row| Some(row.id) != id))
}

/// Adds a schedule and returns its id, or `None` if another schedule has its name.
pub(super) fn add<E: Engine>(engine: &mut E, spec: &ScheduleSpec) -> QueryResult<Option<i64>> {
    if is_name_taken(engine, spec, None)? {
        return Ok(None);
    }
    let spec = with_storable_texts(engine, spec);
    let anchor = spec.anchor.map(times::to_text);
    let values = spec_values(&spec, anchor.as_deref());
    let set = spec_assignments::<E>();
    let columns: Vec<_> = set.iter().map(|(column, _)| *column).collect();
    let to: Vec<_> = set.iter().map(|(_, to)| to.as_str()).collect();
    let sql = format!(
        "INSERT INTO carrot_scheduledtask ({}) SELECT {} FROM {}",
        columns.join(", "),
        to.join(", "),
        engine.values_sql(&values)
    );
    engine.insert_one(&sql, &values).map(Some)
}

/// Changes a schedule from `was` to `to`, unless somebody else has changed it meanwhile.
pub(super) fn edit<E: Engine>(
    engine: &mut E,
    id: i64,
    was: &ScheduleSpec,
    to: &ScheduleSpec,
) -> QueryResult<EditResult> {
    let rows = load(engine, &WhichSchedules::Id(id), E::FOR_UPDATE)?;
    let Some(row) = rows.first() else {
        return Ok(EditResult::Gone);
    };
    if row.spec != *was {
        return Ok(EditResult::Changed);
    }
    if to.name != was.name && is_name_taken(engine, to, Some(id))? {
        return Ok(EditResult::NameTaken);
    }
    let to = with_storable_texts(engine, to);
    let anchor = to.anchor.map(times::to_text);
    let values = spec_values(&to, anchor.as_deref()).integers("id", [id]);
    let mut set = spec_assignments::<E>();
    // A column that can't be read stays as it is, unless the edit changes it.
    set.retain(|(column, _)| !row.is_unreadable(column) || !to.is_equal_in(was, column));
    set.push(("refusal", "NULL".to_owned()));
    if has_unreadable_timing(row) {
        set.push(("planned_for", "NULL".to_owned()));
        set.push(("next_run", "NULL".to_owned()));
        engine.update_schedules(&values, &set)?;
        return Ok(EditResult::Saved);
    }
    let is_moved = to.anchor != was.anchor && row.planned_for == Some(to.planned_for());
    // If the refusal still applies, the scheduler finds it again.
    if is_moved || row.next_run.is_none() {
        set.push(("planned_for", "NULL".to_owned()));
    }
    // The missed occurrences were of another timetable.
    if !was.active && !to.has_same_timetable(was) {
        set.push(("next_run", "NULL".to_owned()));
    }
    engine.update_schedules(&values, &set)?;
    Ok(EditResult::Saved)
}

/// Whether its next occurrence, or the anchor of its intervals, can't be read: the schedule then starts from now.
fn has_unreadable_timing(row: &ScheduleRow) -> bool {
    row.is_unreadable("next_run") || row.is_unreadable("anchor")
}

pub(super) fn activate<E: Engine>(engine: &mut E, id: i64, active: bool) -> QueryResult<bool> {
    // On MySQL, the count of updated rows excludes rows that did not change.
    let rows = load(engine, &WhichSchedules::Id(id), "")?;
    // As in an edit: if the refusal still applies, the scheduler finds it again.
    let reset = match rows.first() {
        _ if !active => String::new(),
        Some(row) if has_unreadable_timing(row) => {
            let anchor = match row.is_unreadable("anchor") {
                true => format!(", anchor = {}", E::NOW),
                false => String::new(),
            };
            format!(", refusal = NULL, planned_for = NULL, next_run = NULL{anchor}")
        }
        _ => ", refusal = NULL, \
              planned_for = CASE WHEN next_run IS NULL THEN NULL ELSE planned_for END"
            .to_owned(),
    };
    let sql = format!("UPDATE carrot_scheduledtask SET active = {active}{reset} WHERE id = {id}");
    engine.execute_unprepared(&sql)?;
    Ok(!rows.is_empty())
}

pub(super) fn remove(engine: &mut impl Engine, id: i64) -> QueryResult<bool> {
    let rows = load(engine, &WhichSchedules::Id(id), "")?;
    engine.execute_unprepared(&format!("DELETE FROM carrot_scheduledtask WHERE id = {id}"))?;
    Ok(!rows.is_empty())
}
