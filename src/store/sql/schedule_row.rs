//! A row of `carrot_scheduledtask`, as it loads and as it is decoded.

use chrono::{DateTime, Utc};
use diesel::prelude::*;
use diesel::sql_types::{BigInt, Binary, Nullable, Text};

use super::engine::Engine;
use super::loose::{LooseInteger, LooseText};
use super::times;
use crate::store::{ScheduleRow, ScheduleSpec};

/// The fault of a required column that is NULL.
const IS_NULL: &str = "it is NULL";

/// The most characters that an error shows of a value that should be a time.
const MAX_DISPLAYED_TIME: usize = 40;

/// The columns of a schedule. The row loads whatever values they have.
#[derive(QueryableByName)]
pub(super) struct LooseScheduleRow {
    #[diesel(sql_type = BigInt)]
    id: i64,
    #[diesel(sql_type = Nullable<Text>)]
    task_name: Option<LooseText>,
    #[diesel(sql_type = Nullable<Text>)]
    task: Option<LooseText>,
    #[diesel(sql_type = Nullable<Text>)]
    task_args: Option<LooseText>,
    #[diesel(sql_type = Nullable<Text>)]
    content: Option<LooseText>,
    #[diesel(sql_type = Nullable<Text>)]
    queue: Option<LooseText>,
    #[diesel(sql_type = Nullable<Text>)]
    exchange: Option<LooseText>,
    #[diesel(sql_type = Nullable<Text>)]
    routing_key: Option<LooseText>,
    #[diesel(sql_type = Nullable<BigInt>)]
    priority: Option<LooseInteger>,
    #[diesel(sql_type = BigInt)]
    active: i64,
    #[diesel(sql_type = Nullable<Text>)]
    interval_type: Option<LooseText>,
    #[diesel(sql_type = Nullable<BigInt>)]
    interval_count: Option<LooseInteger>,
    #[diesel(sql_type = Nullable<Text>)]
    cron: Option<LooseText>,
    #[diesel(sql_type = Nullable<Text>)]
    time_zone: Option<LooseText>,
    #[diesel(sql_type = Nullable<Text>)]
    missed: Option<LooseText>,
    #[diesel(sql_type = Nullable<Text>)]
    overlap: Option<LooseText>,
    #[diesel(sql_type = Nullable<Text>)]
    anchor: Option<LooseText>,
    #[diesel(sql_type = Nullable<Text>)]
    next_run: Option<LooseText>,
    #[diesel(sql_type = Nullable<Text>)]
    last_run: Option<LooseText>,
    #[diesel(sql_type = Nullable<Text>)]
    refusal: Option<LooseText>,
    /// Bytes, since some tables have it in another character set than the other texts.
    #[diesel(sql_type = Nullable<Binary>)]
    planned_for: Option<Vec<u8>>,
    #[diesel(sql_type = Nullable<Text>)]
    unfinished_from: Option<LooseText>,
    /// The database's time.
    #[diesel(sql_type = Text)]
    pub(super) now: String,
}

impl LooseScheduleRow {
    /// The columns to select.
    pub(super) fn columns<E: Engine>() -> String {
        let bigint = E::BIGINT;
        format!(
            "CAST(m.id AS {bigint}) AS id, m.task_name, m.task, m.task_args, m.content, m.queue, \
             m.exchange, m.routing_key, {priority} AS priority, \
             CAST(CASE WHEN m.active THEN 1 ELSE 0 END AS {bigint}) AS active, m.interval_type, \
             {interval_count} AS interval_count, m.cron, m.time_zone, m.missed, \
             m.overlap, {anchor} AS anchor, {next_run} AS next_run, {last_run} AS last_run, \
             m.refusal, m.planned_for, {unfinished_from} AS unfinished_from, {now} AS now",
            priority = E::integer("m.priority"),
            interval_count = E::integer("m.interval_count"),
            unfinished_from = E::time_to_text("m.unfinished_from"),
            anchor = E::time_to_text("m.anchor"),
            next_run = E::time_to_text("m.next_run"),
            last_run = E::time_to_text("m.last_run"),
            now = E::time_to_text(E::NOW),
        )
    }
}

impl LooseScheduleRow {
    /// The time before which no planned occurrence has an unfinished message, if it is known, and whether the row has
    /// it in our format, so that statements can compare it.
    pub(super) fn unfinished_from(&self) -> (Option<DateTime<Utc>>, bool) {
        let Some(text) = self.unfinished_from.clone().map(LooseText::into_display) else {
            return (None, true);
        };
        (times::parse(&text), times::is_canonical(&text))
    }
}

/// Reads columns and collects those that can't be read, each with its fault.
#[derive(Default)]
struct ColumnReader(Vec<(&'static str, String)>);

impl ColumnReader {
    /// A text, which is only for display if it can't be read.
    fn text(&mut self, column: &'static str, value: Option<LooseText>) -> Option<String> {
        let value = value?;
        if let Err(reason) = value.clone().read() {
            self.0.push((column, reason));
        }
        Some(value.into_display())
    }

    /// A text of a column that must not be NULL.
    fn some_text(&mut self, column: &'static str, value: Option<LooseText>) -> String {
        self.text(column, value).unwrap_or_else(|| {
            self.0.push((column, IS_NULL.to_owned()));
            String::new()
        })
    }

    fn integer(&mut self, column: &'static str, value: Option<LooseInteger>) -> i64 {
        let read = value.map_or_else(|| Err(IS_NULL.to_owned()), LooseInteger::read);
        read.unwrap_or_else(|reason| {
            self.0.push((column, reason));
            0
        })
    }

    fn time(&mut self, column: &'static str, value: Option<LooseText>) -> Option<DateTime<Utc>> {
        let text = value?.into_display();
        let time = times::parse(&text);
        if time.is_none() {
            let text: String = text.chars().take(MAX_DISPLAYED_TIME).collect();
            self.0.push((column, format!("it is {text:?}")));
        }
        time
    }
}

impl From<LooseScheduleRow> for ScheduleRow {
    fn from(row: LooseScheduleRow) -> Self {
        let mut read = ColumnReader::default();
        let spec = ScheduleSpec {
            name: read.text("task_name", row.task_name),
            task: read.some_text("task", row.task),
            task_args: read.text("task_args", row.task_args),
            content: read.text("content", row.content),
            queue: read.text("queue", row.queue),
            exchange: read.text("exchange", row.exchange),
            routing_key: read.text("routing_key", row.routing_key),
            priority: read.integer("priority", row.priority),
            active: row.active != 0,
            interval_type: read.some_text("interval_type", row.interval_type),
            interval_count: read.integer("interval_count", row.interval_count),
            cron: read.text("cron", row.cron),
            time_zone: read.text("time_zone", row.time_zone),
            missed: read.some_text("missed", row.missed),
            overlap: read.some_text("overlap", row.overlap),
            anchor: read.time("anchor", row.anchor),
        };
        Self {
            id: row.id,
            spec,
            next_run: read.time("next_run", row.next_run),
            last_run: read.time("last_run", row.last_run),
            refusal: row.refusal.map(|text| text.into_display().into()),
            planned_for: row.planned_for.map(|text| timetable_text(text).into()),
            unreadable: read.0,
        }
    }
}

/// A timetable's text in whatever encoding the table has. A timetable that can ever match is ASCII.
fn timetable_text(mut bytes: Vec<u8>) -> String {
    bytes.retain(|byte| *byte != 0);
    String::from_utf8_lossy(&bytes).into_owned()
}
