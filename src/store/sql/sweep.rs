//! The sweep's statements: messages that are due to be published, and messages of dead workers.

use std::collections::BTreeSet;

use diesel::prelude::*;

use super::bounds::{SizedRow, ids_within_limit, message_size_sql};
use super::engine::{ALWAYS_TRUE, Engine};
use super::guards::{is_in, joined};
use super::message_row::MessageRow;
use super::publishing::lease_end;
use super::rows::IdRow;
use super::transition::{EventSql, EventTerms};
use super::values::ValueTable;
use crate::message::Message;
use crate::names;
use crate::state::Event;
use crate::store::UndecodableRow;

/// Fails PENDING messages whose rows can't be decoded.
pub(super) fn fail_undecodable<E: Engine>(
    engine: &mut E,
    rows: &[UndecodableRow],
) -> QueryResult<()> {
    let change = EventSql::new::<E>(Event::Reject, &EventTerms::default());
    fail_undecodable_by(engine, rows, &change)
}

/// Fails messages whose rows can't be decoded, by their ids: a statement does not find every key's row.
pub(super) fn fail_undecodable_by<E: Engine>(
    engine: &mut E,
    rows: &[UndecodableRow],
    change: &EventSql,
) -> QueryResult<()> {
    if rows.is_empty() {
        return Ok(());
    }
    let reasons: Vec<String> = rows
        .iter()
        .map(|row| names::storable(row.reason.clone()))
        .collect();
    let values = ValueTable::default()
        .integers("id", rows.iter().map(|row| row.id))
        .texts("exception", reasons.iter().map(String::as_str));
    engine.update_by_id("carrot_messagelog", &values, &change.set, &change.guard)
}

/// Leases due messages, except those to `excluded` queues, and returns them.
pub(super) fn take_due<E: Engine>(
    engine: &mut E,
    limit: usize,
    excluded: &BTreeSet<String>,
) -> QueryResult<Vec<Result<Message, UndecodableRow>>> {
    let values = ValueTable::default().texts("compared", excluded.iter().map(String::as_str));
    let wanted = match excluded.is_empty() {
        true => ALWAYS_TRUE.to_owned(),
        // As a row is decoded: Django leaves the queue empty where the routing key names it, and the reverse.
        false => format!(
            "COALESCE(NULLIF(m.queue, ''), m.routing_key, '') NOT IN (SELECT v.compared FROM {})",
            engine.values_sql(&values)
        ),
    };
    let lease_end = lease_end::<E>();
    let terms = EventTerms {
        time: Some(&lease_end),
        ..EventTerms::default()
    };
    let change = EventSql::new::<E>(Event::Lease, &terms);
    let sql = format!(
        "SELECT CAST(m.id AS {bigint}) AS id, {size} FROM {pending} \
         WHERE {given} AND m.due_time <= {now} AND {wanted} \
         ORDER BY m.due_time LIMIT {limit} {lock}",
        bigint = E::BIGINT,
        size = message_size_sql::<E>(),
        pending = E::FROM_PENDING,
        given = change.full_guard(),
        now = E::NOW,
        lock = E::FOR_UPDATE_SKIP_LOCKED,
    );
    let due: Vec<SizedRow> = match excluded.is_empty() {
        true => engine.load_unprepared(&sql)?,
        false => engine.load(&sql, Some(&values))?,
    };
    if due.is_empty() {
        return Ok(Vec::new());
    }
    let ids = ids_within_limit(&due);
    let rows: Vec<MessageRow> = engine.load_unprepared(&format!(
        "SELECT {} FROM carrot_messagelog m WHERE m.id IN ({}) ORDER BY m.due_time",
        MessageRow::columns::<E>(),
        joined(&ids)
    ))?;
    change.execute_on_locked(engine, ids)?;
    Ok(rows.into_iter().map(MessageRow::decode).collect())
}

/// Makes every message due that waits for its time.
pub(super) fn make_due<E: Engine>(engine: &mut E) -> QueryResult<()> {
    let now = E::NOW;
    engine.execute_unprepared(&format!(
        "UPDATE carrot_messagelog SET due_time = {now} WHERE {} AND due_time > {now}",
        is_in("status", Event::Lease.sources())
    ))
}

/// Makes messages of dead workers PENDING; must run in a transaction. It locks the rows first and then checks once more
/// whether their owners are dead. A statement sees the workers as they were when it began, but a row as it is when it
/// locks the row: it would take a worker that registered in between for dead.
pub(super) fn recover<E: Engine>(engine: &mut E, limit: usize) -> QueryResult<usize> {
    let change = EventSql::new::<E>(Event::Recover, &EventTerms::default());
    let guard = change.full_guard();
    let found = format!(
        "SELECT CAST(m.id AS {}) AS id FROM {} WHERE {guard} ORDER BY m.id LIMIT {limit} {}",
        E::BIGINT,
        E::FROM_IN_PROGRESS,
        E::FOR_UPDATE_SKIP_LOCKED
    );
    let found: Vec<IdRow> = engine.load(&found, None)?;
    if found.is_empty() {
        return Ok(0);
    }
    let still_dead = format!(
        "SELECT CAST(m.id AS {}) AS id FROM carrot_messagelog m WHERE m.id IN ({}) AND {guard}",
        E::BIGINT,
        joined(found.iter().map(|row| row.id)),
    );
    let still_dead: Vec<IdRow> = engine.load_unprepared(&still_dead)?;
    if still_dead.is_empty() {
        return Ok(0);
    }
    change.execute_on_locked(engine, still_dead.iter().map(|row| row.id))?;
    Ok(still_dead.len())
}
