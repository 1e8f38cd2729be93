//! The statements of publishing and of the sweep.

use std::collections::BTreeSet;

use diesel::prelude::*;
use diesel::sql_types::{BigInt, Nullable, Text};

use super::bounds::{Sized, first_ids, first_rows, is_one_statement, size};
use super::engine::{ALWAYS, Engine, Id};
use super::guards::{is_in, joined};
use super::leases::is_refused;
use super::loose::LooseText;
use super::times;
use super::transition::cache::{self, Made};
use super::transition::{Change, Terms};
use super::values::Values;
use crate::message::{Message, Occurrence};
use crate::names;
use crate::state::{Event, Status};
use crate::store::row::Columns;
use crate::store::{BATCH_BYTES, NewRow, PUBLISH_LEASE, UndecodableRow};

/// What rows are inserted for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::store) enum Inserted {
    /// To be published by who records them, for as long as its lease lasts.
    Leased,
    /// To be published by the sweep, unless they say when.
    Due,
    /// Messages that are in hand: their keys are unique among such rows, and one that is there already
    /// stays.
    Adopted,
}

/// A connection that rows can be inserted on: of ours, or of somebody else's.
pub(in crate::store) trait Target<E> {
    /// The last character up to which the messages' table surely has them all; asked for if the rows
    /// have others than ASCII.
    fn last_character(&mut self) -> QueryResult<char>;

    /// How many bytes of values a statement has at most; asked for if there are many.
    fn most_bytes(&mut self) -> QueryResult<usize> {
        Ok(BATCH_BYTES)
    }

    /// What follows FROM to read `values` as `v`.
    fn source(&self, values: &Values<'_>) -> String;

    /// RunStore the statement that inserts.
    fn insert(&mut self, sql: &str, values: &Values<'_>) -> QueryResult<usize>;
}

impl<E: Engine> Target<E> for E {
    fn last_character(&mut self) -> QueryResult<char> {
        Ok(Engine::last_character(self))
    }

    fn most_bytes(&mut self) -> QueryResult<usize> {
        Ok(Engine::most_bytes(self))
    }

    fn source(&self, values: &Values<'_>) -> String {
        Engine::source(self, values)
    }

    fn insert(&mut self, sql: &str, values: &Values<'_>) -> QueryResult<usize> {
        self.execute(sql, Some(values))
    }
}

/// Inserts rows, with as many statements as it takes.
pub(in crate::store) fn insert<E: Engine>(
    target: &mut dyn Target<E>,
    rows: &[&NewRow],
    inserted: Inserted,
) -> QueryResult<usize> {
    let last = match rows.iter().all(|row| row.is_ascii()) {
        true => char::MAX,
        false => target.last_character()?,
    };
    let rows: Vec<_> = rows.iter().map(|row| row.restricted_to(last)).collect();
    let mut rest: Vec<&NewRow> = rows.iter().map(AsRef::as_ref).collect();
    if is_one_statement(rest.iter().copied()) {
        return insert_at_once(target, &rest, inserted);
    }
    let most = target.most_bytes()?;
    let mut count = 0;
    while !rest.is_empty() {
        let others = rest.split_off(first_rows(rest.iter().copied(), most));
        count += insert_at_once(target, &rest, inserted)?;
        rest = others;
    }
    Ok(count)
}

fn insert_at_once<E: Engine>(
    target: &mut dyn Target<E>,
    rows: &[&NewRow],
    inserted: Inserted,
) -> QueryResult<usize> {
    let due: Vec<_> = rows.iter().map(|row| row.due.map(times::text)).collect();
    let planned = |row: &NewRow| row.occurrence.and_then(|of| of.planned).map(times::text);
    let planned: Vec<_> = rows.iter().map(|row| planned(row)).collect();
    // No schedule has that id.
    let schedule = |row: &NewRow| row.occurrence.map_or(0, |of| of.schedule);
    let texts = |text: for<'r> fn(&'r NewRow) -> &'r str| rows.iter().map(move |row| text(row));
    let nullable =
        |text: for<'r> fn(&'r NewRow) -> Option<&'r str>| rows.iter().map(move |row| text(row));
    let values = Values::keys(texts(|row| &row.key))
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
        Inserted::Adopted => ("v.uuid", E::UNLESS_ADOPTED),
        Inserted::Leased | Inserted::Due => ("NULL", ""),
    };
    let lease = match inserted {
        Inserted::Due => E::NOW.to_owned(),
        Inserted::Leased | Inserted::Adopted => lease::<E>(),
    };
    let sql = format!(
        "INSERT INTO carrot_messagelog (uuid, status, task, task_args, content, queue, exchange, \
             routing_key, priority, exception, publish_time, failure_time, due_time, schedule_id, \
             planned_time, adopted_uuid) \
         SELECT v.uuid, v.status, v.task, v.task_args, v.content, v.queue, v.exchange, \
             v.routing_key, v.priority, v.exception, COALESCE({due}, {now}), \
             CASE WHEN {is_failed} THEN {now} END, \
             CASE WHEN {is_the_sweeps} THEN COALESCE({due}, {lease}) END, \
             NULLIF(v.schedule_id, 0), {planned}, {adopted_uuid} \
         FROM {source} WHERE 1 = 1 ORDER BY v.position {unless_there}",
        now = E::NOW,
        is_failed = is_in("v.status", [Status::Failed]),
        is_the_sweeps = is_in("v.status", Event::Lease.sources()),
        due = E::time_of("v.due"),
        planned = E::time_of("v.planned"),
        source = target.source(&values),
    );
    target.insert(&sql, &values)
}

/// When a lease that is taken now will be over.
fn lease<E: Engine>() -> String {
    E::now_and(i64::try_from(PUBLISH_LEASE.as_secs()).unwrap_or(i64::MAX))
}

pub(super) fn record<E: Engine>(engine: &mut E, rows: &[NewRow]) -> QueryResult<()> {
    let rows: Vec<&NewRow> = rows.iter().collect();
    insert::<E>(engine, &rows, Inserted::Leased).map(drop)
}

pub(super) fn mark_published<E: Engine>(engine: &mut E, keys: &[String]) -> QueryResult<()> {
    let confirmed = || {
        let is_refused = is_refused();
        let terms = Terms {
            same_cause: Some(&is_refused),
            ..Terms::default()
        };
        Change::of::<E>(Event::Confirm, &terms)
    };
    let change = |nothing_noted| {
        cache::once::<E>(Made::Confirmed { nothing_noted }, || match nothing_noted {
            true => confirmed().where_nothing_is_noted(),
            false => confirmed(),
        })
    };
    let values = || Values::keys(keys.iter().map(String::as_str));
    if E::SETS_TEXTS_SLOWLY {
        let change = change(true);
        if engine.update(&change.of_keys(values()))? >= keys.len() {
            return Ok(());
        }
    }
    engine.update(&change(false).of_keys(values())).map(drop)
}

pub(super) fn fail_pending<E: Engine>(
    engine: &mut E,
    failures: &[(String, String)],
) -> QueryResult<()> {
    let change = Change::of::<E>(Event::Reject, &Terms::default());
    let values = Values::keys(failures.iter().map(|(key, _)| key.as_str())).texts(
        "exception",
        failures.iter().map(|(_, reason)| reason.as_str()),
    );
    engine.update(&change.of_keys(values)).map(drop)
}

/// The columns of a message. None keeps the row from being loaded, whatever stands there.
#[derive(QueryableByName)]
pub(super) struct MessageRow {
    #[diesel(sql_type = BigInt)]
    pub(super) id: i64,
    #[diesel(sql_type = Nullable<Text>)]
    uuid: Option<LooseText>,
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
    priority: Option<i64>,
    #[diesel(sql_type = Nullable<BigInt>)]
    schedule_id: Option<i64>,
    #[diesel(sql_type = Nullable<Text>)]
    planned_time: Option<LooseText>,
}

impl MessageRow {
    /// The columns that make one.
    pub(super) fn columns<E: Engine>() -> String {
        let bigint = E::BIGINT;
        format!(
            "CAST(m.id AS {bigint}) AS id, m.uuid, m.task, m.task_args, m.content, m.queue, \
             m.exchange, m.routing_key, CAST(m.priority AS {bigint}) AS priority, \
             CAST(m.schedule_id AS {bigint}) AS schedule_id, {planned} AS planned_time",
            planned = E::time_text("m.planned_time"),
        )
    }

    /// The message, or what is wrong with its row.
    pub(super) fn decode(self) -> Result<Message, UndecodableRow> {
        let id = self.id;
        let key = match self.uuid.map(LooseText::read_key) {
            Some(Ok(key)) => key,
            odd => {
                let fault = odd.and_then(Result::err);
                let fault = fault.unwrap_or_else(|| "it is NULL".to_owned());
                return Err(UndecodableRow {
                    id,
                    key: format!("of row {id}"),
                    reason: format!("uuid can't be read: {fault}"),
                });
            }
        };
        let mut fault = None;
        let mut read = |column: &str, value: Option<LooseText>| match value?.read() {
            Ok(text) => Some(text),
            Err(reason) => {
                fault.get_or_insert_with(|| format!("{column} can't be read: {reason}"));
                None
            }
        };
        // It is run all the same, as one beside the timetable.
        let planned = self.planned_time.map(LooseText::shown);
        let planned = planned.as_deref().and_then(times::parse);
        let occurrence = |schedule| Occurrence { schedule, planned };
        let columns = Columns {
            id,
            key,
            task: read("task", self.task).unwrap_or_default(),
            task_args: read("task_args", self.task_args),
            content: read("content", self.content),
            queue: read("queue", self.queue),
            exchange: read("exchange", self.exchange),
            routing_key: read("routing_key", self.routing_key),
            priority: self.priority.unwrap_or_default(),
            occurrence: self.schedule_id.map(occurrence),
        };
        match fault {
            None => columns.decode(),
            Some(reason) => Err(UndecodableRow {
                id,
                key: columns.key,
                reason,
            }),
        }
    }
}

/// Ends PENDING messages that can't be read.
pub(super) fn fail_undecodable<E: Engine>(
    engine: &mut E,
    rows: &[UndecodableRow],
) -> QueryResult<()> {
    let change = Change::of::<E>(Event::Reject, &Terms::default());
    end_undecodable(engine, rows, &change)
}

/// Ends messages that can't be read, by their ids: not every key finds its row.
pub(super) fn end_undecodable<E: Engine>(
    engine: &mut E,
    rows: &[UndecodableRow],
    change: &Change,
) -> QueryResult<()> {
    if rows.is_empty() {
        return Ok(());
    }
    let reasons: Vec<String> = rows
        .iter()
        .map(|row| names::storable(row.reason.clone()))
        .collect();
    let values = Values::default()
        .integers("id", rows.iter().map(|row| row.id))
        .texts("exception", reasons.iter().map(String::as_str));
    engine.update_by_id("carrot_messagelog", &values, &change.set, &change.given)
}

pub(super) fn take_due<E: Engine>(
    engine: &mut E,
    limit: usize,
    but: &BTreeSet<String>,
) -> QueryResult<Vec<Result<Message, UndecodableRow>>> {
    let values = Values::default().texts("compared", but.iter().map(String::as_str));
    let wanted = match but.is_empty() {
        true => ALWAYS.to_owned(),
        // As a row is read: Django leaves one of them empty where the other says it all.
        false => format!(
            "COALESCE(NULLIF(m.queue, ''), m.routing_key, '') NOT IN (SELECT v.compared FROM {})",
            engine.source(&values)
        ),
    };
    let lease = lease::<E>();
    let terms = Terms {
        then: Some(&lease),
        ..Terms::default()
    };
    let change = Change::of::<E>(Event::Lease, &terms);
    let sql = format!(
        "SELECT CAST(m.id AS {bigint}) AS id, {size} FROM {pending} \
         WHERE {given} AND m.due_time <= {now} AND {wanted} \
         ORDER BY m.due_time LIMIT {limit} {lock}",
        bigint = E::BIGINT,
        size = size::<E>(),
        pending = E::PENDING,
        given = change.guard(),
        now = E::NOW,
        lock = E::LOCK_FREE,
    );
    let due: Vec<Sized> = match but.is_empty() {
        true => engine.load_once(&sql)?,
        false => engine.load(&sql, Some(&values))?,
    };
    if due.is_empty() {
        return Ok(Vec::new());
    }
    let ids = first_ids(&due);
    let rows: Vec<MessageRow> = engine.load_once(&format!(
        "SELECT {} FROM carrot_messagelog m WHERE m.id IN ({}) ORDER BY m.due_time",
        MessageRow::columns::<E>(),
        joined(&ids)
    ))?;
    change.of_locked(engine, ids)?;
    Ok(rows.into_iter().map(MessageRow::decode).collect())
}

pub(super) fn make_due<E: Engine>(engine: &mut E) -> QueryResult<()> {
    let now = E::NOW;
    engine.batch(&format!(
        "UPDATE carrot_messagelog SET due_time = {now} WHERE {} AND due_time > {now}",
        is_in("status", Event::Lease.sources())
    ))
}

/// In a transaction: first the rows are locked, then it is asked once more whether their owners are
/// dead. A statement sees the workers as they were when it began, and a row as it is when it locks
/// it; a worker that came in between would be taken for dead.
pub(super) fn recover<E: Engine>(engine: &mut E, limit: usize) -> QueryResult<usize> {
    let change = Change::of::<E>(Event::Recover, &Terms::default());
    let guard = change.guard();
    let found = format!(
        "SELECT CAST(m.id AS {}) AS id FROM {} WHERE {guard} ORDER BY m.id LIMIT {limit} {}",
        E::BIGINT,
        E::IN_PROGRESS,
        E::LOCK_FREE
    );
    let found: Vec<Id> = engine.load(&found, None)?;
    if found.is_empty() {
        return Ok(0);
    }
    let still = format!(
        "SELECT CAST(m.id AS {}) AS id FROM carrot_messagelog m WHERE m.id IN ({}) AND {guard}",
        E::BIGINT,
        joined(found.iter().map(|row| row.id)),
    );
    let still: Vec<Id> = engine.load_once(&still)?;
    if still.is_empty() {
        return Ok(0);
    }
    change.of_locked(engine, still.iter().map(|row| row.id))?;
    Ok(still.len())
}
