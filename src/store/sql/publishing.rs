//! The statements of publishing.

use diesel::prelude::*;

use super::bounds::{count_within_limit, fits_one_statement};
use super::engine::Engine;
use super::guards::is_in;
use super::leases::is_refused;
use super::times;
use super::transition::{EventSql, EventTerms, cache};
use super::values::ValueTable;
use crate::state::{Event, Status};
use crate::store::{BATCH_BYTES, NewRow, PUBLISH_LEASE};

/// Why rows are inserted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::store) enum InsertPurpose {
    /// Their recorder publishes them, within its lease.
    Leased,
    /// The sweep publishes them now, or at the time that they name.
    Due,
    /// They record messages that were delivered without rows. Adopted rows have unique keys: an existing one stays as
    /// it is.
    Adopted,
}

/// A connection that rows can be inserted on: ours, or the caller's.
pub(in crate::store) trait InsertTarget<E> {
    /// The table of messages can store all characters up to this one. Asked only if a row has characters beyond
    /// ASCII.
    fn highest_character(&mut self) -> QueryResult<char>;

    /// The most bytes of values in one statement. Asked only if the rows may exceed one statement.
    fn most_bytes(&mut self) -> QueryResult<usize> {
        Ok(BATCH_BYTES)
    }

    /// The FROM item that reads `values` as `v`.
    fn values_sql(&self, values: &ValueTable<'_>) -> String;

    /// Runs the INSERT.
    fn insert(&mut self, sql: &str, values: &ValueTable<'_>) -> QueryResult<usize>;
}

impl<E: Engine> InsertTarget<E> for E {
    fn highest_character(&mut self) -> QueryResult<char> {
        Ok(Engine::highest_character(self))
    }

    fn most_bytes(&mut self) -> QueryResult<usize> {
        Ok(Engine::most_bytes(self))
    }

    fn values_sql(&self, values: &ValueTable<'_>) -> String {
        Engine::values_sql(self, values)
    }

    fn insert(&mut self, sql: &str, values: &ValueTable<'_>) -> QueryResult<usize> {
        self.execute(sql, Some(values))
    }
}

/// Inserts rows, with as many statements as they need, and returns how many it inserted.
pub(in crate::store) fn insert<E: Engine>(
    target: &mut dyn InsertTarget<E>,
    rows: &[&NewRow],
    inserted: InsertPurpose,
) -> QueryResult<usize> {
    let highest_character = match rows.iter().all(|row| row.is_ascii()) {
        true => char::MAX,
        false => target.highest_character()?,
    };
    let rows: Vec<_> = rows
        .iter()
        .map(|row| row.restricted_to(highest_character))
        .collect();
    let mut rest: Vec<&NewRow> = rows.iter().map(AsRef::as_ref).collect();
    if fits_one_statement(rest.iter().copied()) {
        return insert_chunk(target, &rest, inserted);
    }
    let most_bytes = target.most_bytes()?;
    let mut count = 0;
    while !rest.is_empty() {
        let others = rest.split_off(count_within_limit(rest.iter().copied(), most_bytes));
        count += insert_chunk(target, &rest, inserted)?;
        rest = others;
    }
    Ok(count)
}

fn insert_chunk<E: Engine>(
    target: &mut dyn InsertTarget<E>,
    rows: &[&NewRow],
    inserted: InsertPurpose,
) -> QueryResult<usize> {
    let due: Vec<_> = rows.iter().map(|row| row.due.map(times::to_text)).collect();
    let planned = |row: &NewRow| row.occurrence.and_then(|of| of.planned).map(times::to_text);
    let planned: Vec<_> = rows.iter().map(|row| planned(row)).collect();
    // No schedule has the id 0.
    let schedule = |row: &NewRow| row.occurrence.map_or(0, |of| of.schedule);
    let texts = |text: for<'r> fn(&'r NewRow) -> &'r str| rows.iter().map(move |row| text(row));
    let nullable =
        |text: for<'r> fn(&'r NewRow) -> Option<&'r str>| rows.iter().map(move |row| text(row));
    let values = ValueTable::keys(texts(|row| &row.key))
        .texts("status", texts(|row| row.status.as_str()))
        .texts("task", texts(|row| &row.task))
        .nullable("task_args", nullable(|row| row.task_args.as_deref()))
        .nullable("content", nullable(|row| row.content.as_deref()))
        .texts("queue", texts(|row| &row.queue))
        .texts("exchange", texts(|row| &row.exchange))
        .texts("routing_key", texts(|row| &row.routing_key))
        .integers("priority", rows.iter().map(|row| row.priority))
        .nullable("exception", nullable(|row| row.exception.as_deref()))
        .nullable("due", due.iter().map(Option::as_deref))
        .integers("schedule_id", rows.iter().map(|row| schedule(row)))
        .nullable("planned", planned.iter().map(Option::as_deref));
    let (adopted_uuid, unless_there) = match inserted {
        InsertPurpose::Adopted => ("v.uuid", E::SKIP_ADOPTED),
        InsertPurpose::Leased | InsertPurpose::Due => ("NULL", ""),
    };
    let due_by_default = match inserted {
        InsertPurpose::Due => E::NOW.to_owned(),
        InsertPurpose::Leased | InsertPurpose::Adopted => lease_end::<E>(),
    };
    let sql = format!(
        "INSERT INTO carrot_messagelog (uuid, status, task, task_args, content, queue, exchange, \
             routing_key, priority, exception, publish_time, failure_time, due_time, schedule_id, \
             planned_time, adopted_uuid) \
         SELECT v.uuid, v.status, v.task, v.task_args, v.content, v.queue, v.exchange, \
             v.routing_key, v.priority, v.exception, COALESCE({due}, {now}), \
             CASE WHEN {is_failed} THEN {now} END, \
             CASE WHEN {is_leasable} THEN COALESCE({due}, {due_by_default}) END, \
             NULLIF(v.schedule_id, 0), {planned}, {adopted_uuid} \
         FROM {source} WHERE 1 = 1 ORDER BY v.position {unless_there}",
        now = E::NOW,
        is_failed = is_in("v.status", [Status::Failed]),
        is_leasable = is_in("v.status", Event::Lease.sources()),
        due = E::text_to_time("v.due"),
        planned = E::text_to_time("v.planned"),
        source = target.values_sql(&values),
    );
    target.insert(&sql, &values)
}

/// When a lease that is taken now ends.
pub(super) fn lease_end<E: Engine>() -> String {
    E::now_plus(i64::try_from(PUBLISH_LEASE.as_secs()).unwrap_or(i64::MAX))
}

pub(super) fn record<E: Engine>(engine: &mut E, rows: &[NewRow]) -> QueryResult<()> {
    let rows: Vec<&NewRow> = rows.iter().collect();
    insert::<E>(engine, &rows, InsertPurpose::Leased).map(drop)
}

/// Records that the broker has confirmed messages. Where setting texts is slow, it first updates the messages that were
/// never put off or refused, which are nearly all, without setting any.
pub(super) fn mark_published<E: Engine>(engine: &mut E, keys: &[String]) -> QueryResult<()> {
    let render = || {
        let is_refused = is_refused();
        let terms = EventTerms {
            same_cause: Some(&is_refused),
            ..EventTerms::default()
        };
        EventSql::new::<E>(Event::Confirm, &terms)
    };
    let values = || ValueTable::keys(keys.iter().map(String::as_str));
    if E::TEXT_UPDATES_ARE_SLOW {
        let confirmed = cache::confirmed::<E>(true, || render().without_put_off());
        if engine.update(&confirmed.for_keys(values()))? >= keys.len() {
            return Ok(());
        }
    }
    let confirmed = cache::confirmed::<E>(false, render);
    engine.update(&confirmed.for_keys(values())).map(drop)
}

/// Fails PENDING messages that can't be published, each for its reason.
pub(super) fn fail_pending<E: Engine>(
    engine: &mut E,
    failures: &[(String, String)],
) -> QueryResult<()> {
    let change = EventSql::new::<E>(Event::Reject, &EventTerms::default());
    let values = ValueTable::keys(failures.iter().map(|(key, _)| key.as_str())).texts(
        "exception",
        failures.iter().map(|(_, reason)| reason.as_str()),
    );
    engine.update(&change.for_keys(values)).map(drop)
}
