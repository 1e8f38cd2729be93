//! The ledger's batch: ends, releases, begun runs and claims, in one transaction.

use std::collections::{HashMap, HashSet};

use diesel::prelude::*;
use diesel::sql_types::{Bool, Integer, Text};

use super::current_states::{CurrentState, current_states};
use super::engine::{Engine, MessageUpdate};
use super::guards::is_in;
use super::publishing::{InsertPurpose, insert};
use super::put_off::put_off;
use super::republish::republish;
use super::rows::{KeyRow, KeyedRow};
use super::transition::{EventSql, EventTerms, cache};
use super::values::ValueTable;
use crate::state::{Event, Status};
use crate::store::{
    Batch, BatchResult, Begin, Claim, ClaimRequest, Finish, FinishResult, NewRow, WorkerId,
};

pub(super) fn write(
    engine: &mut impl Engine,
    owner: WorkerId,
    batch: &Batch,
) -> QueryResult<BatchResult> {
    let finished = finish(engine, owner, &batch.finishes)?;
    let put_offs = put_off(engine, owner, &batch.put_offs)?;
    release(engine, owner, &batch.releases)?;
    republish(engine, owner, &batch.republishes)?;
    let begun = begin(engine, owner, &batch.begins)?;
    let claims = claim(engine, owner, &batch.claims)?;
    let with_row = find_existing(engine, &batch.row_checks)?;
    Ok(BatchResult {
        finished,
        put_offs,
        begun,
        claims,
        with_row,
    })
}

/// The keys that have a row.
fn find_existing(engine: &mut impl Engine, keys: &[String]) -> QueryResult<Vec<String>> {
    if keys.is_empty() {
        return Ok(Vec::new());
    }
    let values = ValueTable::keys(keys.iter().map(String::as_str));
    let sql = format!("SELECT m.uuid FROM {}", engine.messages_sql(&values));
    let rows: Vec<KeyRow> = engine.load(&sql, Some(&values))?;
    Ok(rows.into_iter().map(|row| row.uuid).collect())
}

/// Runs an update and returns the keys of the messages that it changed.
fn update_returning_keys(
    engine: &mut impl Engine,
    update: &MessageUpdate<'_>,
) -> QueryResult<HashSet<String>> {
    let rows: Vec<KeyRow> = engine.update_returning(update, &["uuid"])?;
    Ok(rows.into_iter().map(|row| row.uuid).collect())
}

/// Writes ends. The guard is the fence: an end counts only if the message still belongs to `owner` or to nobody.
fn finish<E: Engine>(
    engine: &mut E,
    owner: WorkerId,
    finishes: &[Finish],
) -> QueryResult<Vec<FinishResult>> {
    if finishes.is_empty() {
        return Ok(Vec::new());
    }
    let mut sorted: Vec<&Finish> = finishes.iter().collect();
    sorted.sort_unstable_by(|a, b| a.key.cmp(&b.key));
    let change = cache::ends::<E>(owner);
    let values = ValueTable::keys(sorted.iter().map(|f| f.key.as_str()))
        .texts("status", sorted.iter().map(|f| f.end.status().as_str()))
        .integers("attempts", sorted.iter().map(|f| f.attempts))
        .nullable("output", sorted.iter().map(|f| f.output.as_deref()))
        .nullable("exception", sorted.iter().map(|f| f.exception.as_deref()))
        .nullable("traceback", sorted.iter().map(|f| f.traceback.as_deref()))
        .nullable("log", sorted.iter().map(|f| f.log.as_deref()));
    let written = update_returning_keys(engine, &change.for_keys(values))?;
    let missed = finishes
        .iter()
        .map(|finish| finish.key.as_str())
        .filter(|key| !written.contains(*key));
    let states = current_states(engine, missed)?;
    let result = |finish: &Finish| {
        if written.contains(&finish.key) {
            return FinishResult::Written;
        }
        match states.get(&finish.key) {
            None => FinishResult::Gone,
            Some(state) if state.is_final() => FinishResult::Already,
            Some(_) => FinishResult::Taken,
        }
    };
    Ok(finishes.iter().map(result).collect())
}

fn release<E: Engine>(engine: &mut E, owner: WorkerId, keys: &[String]) -> QueryResult<()> {
    if keys.is_empty() {
        return Ok(());
    }
    let mut keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    keys.sort_unstable();
    let change = cache::by_worker::<E>(Event::Release, owner);
    engine
        .update(&change.for_keys(ValueTable::keys(keys)))
        .map(drop)
}

/// Counts attempts before they run, with the fence of [`finish`]. It claims a message that belongs to nobody once
/// more: a crash of the database may have lost the claim, and the delivery of a message that does not begin is
/// acknowledged.
fn begin<E: Engine>(engine: &mut E, owner: WorkerId, begins: &[Begin]) -> QueryResult<Vec<bool>> {
    if begins.is_empty() {
        return Ok(Vec::new());
    }
    let mut sorted: Vec<&Begin> = begins.iter().collect();
    sorted.sort_unstable_by(|a, b| a.key.cmp(&b.key));
    let change = cache::by_worker::<E>(Event::Begin, owner);
    let values = ValueTable::keys(sorted.iter().map(|b| b.key.as_str()))
        .integers("attempts", sorted.iter().map(|b| b.attempts));
    let begun = update_returning_keys(engine, &change.for_keys(values))?;
    Ok(begins
        .iter()
        .map(|begin| begun.contains(&begin.key))
        .collect())
}

fn claim(
    engine: &mut impl Engine,
    owner: WorkerId,
    requests: &[ClaimRequest],
) -> QueryResult<Vec<Claim>> {
    if requests.is_empty() {
        return Ok(Vec::new());
    }
    adopt(engine, requests)?;
    // Sorted, so that two services that claim the same messages lock them in the same order.
    let mut wanted: Vec<&str> = requests
        .iter()
        .map(|request| request.key.as_str())
        .collect();
    wanted.sort_unstable();
    let mut claimed = claim_where_allowed(engine, Event::Claim, owner, &wanted)?;
    let mut can_lose_copy = HashMap::new();
    wanted.retain(|key| !claimed.contains_key(*key));
    if !wanted.is_empty() {
        let locked = lock_messages(engine, &wanted)?;
        // A row that is inserted from here on is not locked. Its request gets `NoRow`, so that the caller looks for the
        // row again.
        wanted.retain(|key| locked.contains_key(*key));
        can_lose_copy = locked;
    }
    if !wanted.is_empty() {
        claimed.extend(claim_where_allowed(
            engine,
            Event::TakeOver,
            owner,
            &wanted,
        )?);
        wanted.retain(|key| !claimed.contains_key(*key));
        let is_taken = |key: &&str| can_lose_copy.get(*key).is_some_and(|can| *can);
        let taken: Vec<&str> = wanted.iter().copied().filter(is_taken).collect();
        record_lost_copies(engine, &taken)?;
    }
    let states = current_states(engine, wanted)?;
    let answer = |request: &ClaimRequest| {
        if let Some(ours) = claimed.get(&request.key) {
            return ours.clone();
        }
        match states.get(&request.key) {
            None => Claim::NoRow,
            Some(CurrentState {
                status: Some(status),
                ..
            }) if status.is_final() => Claim::Final(*status),
            Some(state) => Claim::Owned(WorkerId(state.owner.unwrap_or_default())),
        }
    };
    Ok(requests.iter().map(answer).collect())
}

/// Inserts rows for messages that were delivered without one.
fn adopt(engine: &mut impl Engine, requests: &[ClaimRequest]) -> QueryResult<()> {
    let mut adopted: Vec<&NewRow> = requests
        .iter()
        .filter_map(|request| request.adopt.as_ref())
        .collect();
    drop_cancelled_with_row(engine, &mut adopted)?;
    if !adopted.is_empty() {
        adopted.sort_unstable_by(|a, b| a.key.cmp(&b.key));
        insert(engine, &adopted, InsertPurpose::Adopted)?;
    }
    Ok(())
}

/// Removes, from the rows to adopt, the CANCELLED rows of messages whose own rows have been committed by now.
fn drop_cancelled_with_row(
    engine: &mut impl Engine,
    adopted: &mut Vec<&NewRow>,
) -> QueryResult<()> {
    let is_to_be_cancelled = |row: &NewRow| row.status == Status::Cancelled;
    let cancelled = adopted.iter().filter(|row| is_to_be_cancelled(row));
    let cancelled: Vec<String> = cancelled.map(|row| row.key.clone()).collect();
    let existing: HashSet<String> = find_existing(engine, &cancelled)?.into_iter().collect();
    adopted.retain(|row| !is_to_be_cancelled(row) || !existing.contains(&row.key));
    Ok(())
}

#[derive(QueryableByName)]
struct ClaimedRow {
    #[diesel(sql_type = Text)]
    uuid: String,
    #[diesel(sql_type = Integer)]
    attempts: i32,
    #[diesel(sql_type = Bool)]
    suspect: bool,
}

impl KeyedRow for ClaimedRow {
    fn key(&self) -> &str {
        &self.uuid
    }
}

/// Claims the `wanted` messages that the event's guards admit.
fn claim_where_allowed<E: Engine>(
    engine: &mut E,
    event: Event,
    owner: WorkerId,
    wanted: &[&str],
) -> QueryResult<HashMap<String, Claim>> {
    let change = cache::by_worker::<E>(event, owner);
    let update = change.for_keys(ValueTable::keys(wanted.iter().copied()));
    let rows: Vec<ClaimedRow> =
        engine.update_returning(&update, &["uuid", "attempts", "suspect"])?;
    let ours = |row: ClaimedRow| {
        let claim = Claim::Ours {
            attempts: u32::try_from(row.attempts).unwrap_or(0),
            crash_suspect: row.suspect,
        };
        (row.uuid, claim)
    };
    Ok(rows.into_iter().map(ours).collect())
}

#[derive(QueryableByName)]
struct LockedMessage {
    #[diesel(sql_type = Text)]
    uuid: String,
    #[diesel(sql_type = Bool)]
    can_lose_copy: bool,
}

/// Locks the messages and returns which exist and whether their status lets them lose the broker's copy.
///
/// The next statement checks whether their owners are dead. This one can't: a statement that has waited for a row still
/// sees the workers as they were before the wait, and would take a worker that registered meanwhile for dead.
fn lock_messages<E: Engine>(engine: &mut E, keys: &[&str]) -> QueryResult<HashMap<String, bool>> {
    let values = ValueTable::keys(keys.iter().copied());
    let sql = format!(
        "SELECT m.uuid, COALESCE({}, false) AS can_lose_copy FROM {} ORDER BY m.uuid {}",
        is_in("m.status", Event::LoseBrokerCopy.sources()),
        engine.messages_to_lock_sql(&values),
        E::FOR_UPDATE
    );
    let rows: Vec<LockedMessage> = engine.load(&sql, Some(&values))?;
    let mut locked = HashMap::new();
    for row in rows {
        *locked.entry(row.uuid).or_default() |= row.can_lose_copy;
    }
    Ok(locked)
}

/// Records that the deliveries of messages which others run are about to be acknowledged. The broker then has no copy
/// left, so that a worker which gives such a message back unrun must leave it to the sweep. The delivery is gone once
/// this is committed, so that the commit must be durable.
fn record_lost_copies<E: Engine>(engine: &mut E, keys: &[&str]) -> QueryResult<()> {
    engine.require_durable()?;
    if keys.is_empty() {
        return Ok(());
    }
    let change = EventSql::new::<E>(Event::LoseBrokerCopy, &EventTerms::default());
    let values = ValueTable::keys(keys.iter().copied());
    engine.update(&change.for_keys(values)).map(drop)
}
