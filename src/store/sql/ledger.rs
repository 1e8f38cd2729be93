//! The ledger's batch: ends, releases, begun runs and claims, in one transaction.

use std::collections::{HashMap, HashSet};

use diesel::prelude::*;
use diesel::sql_types::{BigInt, Bool, Integer, Nullable, Text};

use super::engine::{Engine, MessageRow, Update};
use super::guards::{is_in, is_not_in};
use super::loose::LooseText;
use super::publishing::{Inserted, insert};
use super::put_off::put_off;
use super::republish::republish;
use super::transition::{Change, Terms};
use super::values::Values;
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
    let with_row = look(engine, &batch.row_checks)?;
    Ok(BatchResult {
        finished,
        put_offs,
        begun,
        claims,
        with_row,
    })
}

/// Those of `keys` that have a row.
fn look(engine: &mut impl Engine, keys: &[String]) -> QueryResult<Vec<String>> {
    if keys.is_empty() {
        return Ok(Vec::new());
    }
    let values = Values::keys(keys.iter().map(String::as_str));
    let sql = format!("SELECT m.uuid FROM {}", engine.messages(&values));
    let rows: Vec<Key> = engine.load(&sql, Some(&values))?;
    Ok(rows.into_iter().map(|row| row.uuid).collect())
}

#[derive(QueryableByName)]
struct Key {
    #[diesel(sql_type = Text)]
    uuid: String,
}

impl MessageRow for Key {
    fn key(&self) -> &str {
        &self.uuid
    }
}

/// The keys of the messages that an update has changed.
fn changed(engine: &mut impl Engine, update: &Update<'_>) -> QueryResult<HashSet<String>> {
    let rows: Vec<Key> = engine.update_returning(update, &["uuid"])?;
    Ok(rows.into_iter().map(|row| row.uuid).collect())
}

/// The fence: an end counts if the message is still ours, or nobody's.
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
    let change = Change::of_ends::<E>(owner);
    let values = Values::keys(sorted.iter().map(|f| f.key.as_str()))
        .texts("status", sorted.iter().map(|f| f.end.status().as_str()))
        .integers("attempts", sorted.iter().map(|f| f.attempts))
        .nullable("output", sorted.iter().map(|f| f.output.as_deref()))
        .nullable("exception", sorted.iter().map(|f| f.exception.as_deref()))
        .nullable("traceback", sorted.iter().map(|f| f.traceback.as_deref()))
        .nullable("log", sorted.iter().map(|f| f.log.as_deref()));
    let written = changed(engine, &change.of_keys(values))?;
    let missed = finishes
        .iter()
        .map(|finish| finish.key.as_str())
        .filter(|key| !written.contains(*key));
    let states = states(engine, missed)?;
    let verdict = |finish: &Finish| {
        if written.contains(&finish.key) {
            return FinishResult::Written;
        }
        match states.get(&finish.key) {
            None => FinishResult::Gone,
            Some((status, _)) if status.is_some_and(Status::is_final) => FinishResult::Already,
            Some(_) => FinishResult::Taken,
        }
    };
    Ok(finishes.iter().map(verdict).collect())
}

fn release<E: Engine>(engine: &mut E, owner: WorkerId, keys: &[String]) -> QueryResult<()> {
    if keys.is_empty() {
        return Ok(());
    }
    let mut keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    keys.sort_unstable();
    let change = Change::by::<E>(Event::Release, owner);
    engine.update(&change.of_keys(Values::keys(keys))).map(drop)
}

/// Fenced as an end is. What is nobody's is claimed once more: a crash may have forgotten the claim, and
/// the delivery of what is not begun is acknowledged.
fn begin<E: Engine>(engine: &mut E, owner: WorkerId, begins: &[Begin]) -> QueryResult<Vec<bool>> {
    if begins.is_empty() {
        return Ok(Vec::new());
    }
    let mut sorted: Vec<&Begin> = begins.iter().collect();
    sorted.sort_unstable_by(|a, b| a.key.cmp(&b.key));
    let change = Change::by::<E>(Event::Begin, owner);
    let values = Values::keys(sorted.iter().map(|b| b.key.as_str()))
        .integers("attempts", sorted.iter().map(|b| b.attempts));
    let begun = changed(engine, &change.of_keys(values))?;
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
    let mut adopted: Vec<&NewRow> = requests
        .iter()
        .filter_map(|request| request.adopt.as_ref())
        .collect();
    keep_missing(engine, &mut adopted)?;
    if !adopted.is_empty() {
        adopted.sort_unstable_by(|a, b| a.key.cmp(&b.key));
        insert(engine, &adopted, Inserted::Adopted)?;
    }
    // Sorted, so that two services that claim the same messages lock them in one order.
    let mut wanted: Vec<&str> = requests
        .iter()
        .map(|request| request.key.as_str())
        .collect();
    wanted.sort_unstable();
    let mut claimed = take(engine, Event::Claim, owner, &wanted)?;
    let mut can_lose_copy = HashMap::new();
    wanted.retain(|key| !claimed.contains_key(*key));
    if !wanted.is_empty() {
        let locked = lock(engine, &wanted)?;
        // A row that comes from here on is looked for again: nothing guards it.
        wanted.retain(|key| locked.contains_key(*key));
        can_lose_copy = locked;
    }
    if !wanted.is_empty() {
        claimed.extend(take(engine, Event::TakeOver, owner, &wanted)?);
        wanted.retain(|key| !claimed.contains_key(*key));
        let is_held = |key: &&str| can_lose_copy.get(*key).is_some_and(|can| *can);
        let held: Vec<&str> = wanted.iter().copied().filter(is_held).collect();
        note_lost_copies(engine, &held)?;
    }
    let states = states(engine, wanted)?;
    let verdict = |request: &ClaimRequest| {
        if let Some(ours) = claimed.get(&request.key) {
            return ours.clone();
        }
        match states.get(&request.key) {
            None => Claim::NoRow,
            Some((Some(status), _)) if status.is_final() => Claim::Final(*status),
            Some((_, holder)) => Claim::Owned(WorkerId(holder.unwrap_or_default())),
        }
    };
    Ok(requests.iter().map(verdict).collect())
}

/// A message that is to be CANCELLED because it has no row gets none if its own has come.
fn keep_missing(engine: &mut impl Engine, adopted: &mut Vec<&NewRow>) -> QueryResult<()> {
    let is_to_be_cancelled = |row: &NewRow| row.status == Status::Cancelled;
    let cancelled = adopted.iter().filter(|row| is_to_be_cancelled(row));
    let cancelled: Vec<String> = cancelled.map(|row| row.key.clone()).collect();
    let there: HashSet<String> = look(engine, &cancelled)?.into_iter().collect();
    adopted.retain(|row| !is_to_be_cancelled(row) || !there.contains(&row.key));
    Ok(())
}

#[derive(QueryableByName)]
struct Taken {
    #[diesel(sql_type = Text)]
    uuid: String,
    #[diesel(sql_type = Integer)]
    attempts: i32,
    #[diesel(sql_type = Bool)]
    suspect: bool,
}

impl MessageRow for Taken {
    fn key(&self) -> &str {
        &self.uuid
    }
}

/// Claims those of `wanted` that the event lets it have.
fn take<E: Engine>(
    engine: &mut E,
    event: Event,
    owner: WorkerId,
    wanted: &[&str],
) -> QueryResult<HashMap<String, Claim>> {
    let change = Change::by::<E>(event, owner);
    let update = change.of_keys(Values::keys(wanted.iter().copied()));
    let rows: Vec<Taken> = engine.update_returning(&update, &["uuid", "attempts", "suspect"])?;
    let ours = |row: Taken| {
        let claim = Claim::Ours {
            attempts: u32::try_from(row.attempts).unwrap_or(0),
            crash_suspect: row.suspect,
        };
        (row.uuid, claim)
    };
    Ok(rows.into_iter().map(ours).collect())
}

#[derive(QueryableByName)]
struct Locked {
    #[diesel(sql_type = Text)]
    uuid: String,
    #[diesel(sql_type = Bool)]
    can_lose_copy: bool,
}

/// Locks the messages, and returns which there are, and whether their states let them lose their copies. Whether their
/// owner is dead is asked by the statement after this one: a statement that has waited for a row still sees the
/// workers as they were before, and would take one that came meanwhile for dead.
fn lock<E: Engine>(engine: &mut E, keys: &[&str]) -> QueryResult<HashMap<String, bool>> {
    let values = Values::keys(keys.iter().copied());
    let sql = format!(
        "SELECT m.uuid, COALESCE({}, false) AS can_lose_copy FROM {} ORDER BY m.uuid {}",
        is_in("m.status", Event::LoseCopy.sources()),
        engine.messages_to_lock(&values),
        E::LOCK
    );
    let rows: Vec<Locked> = engine.load(&sql, Some(&values))?;
    let mut locked = HashMap::new();
    for row in rows {
        *locked.entry(row.uuid).or_default() |= row.can_lose_copy;
    }
    Ok(locked)
}

/// Notes that the delivery of messages that others have is about to be acknowledged: the broker has
/// none left then, so that whoever gives one back unrun must leave it to the sweep. The delivery is
/// gone once this is committed, so that it must not be forgotten.
fn note_lost_copies<E: Engine>(engine: &mut E, keys: &[&str]) -> QueryResult<()> {
    engine.require_durable()?;
    if keys.is_empty() {
        return Ok(());
    }
    let change = Change::of::<E>(Event::LoseCopy, &Terms::default());
    let values = Values::keys(keys.iter().copied());
    engine.update(&change.of_keys(values)).map(drop)
}

#[derive(QueryableByName)]
struct StateRow {
    #[diesel(sql_type = Text)]
    uuid: String,
    #[diesel(sql_type = Nullable<Text>)]
    status: Option<LooseText>,
    #[diesel(sql_type = Nullable<BigInt>)]
    owner: Option<i64>,
}

/// Where a message stands, and with whom.
pub(super) type State = (Option<Status>, Option<i64>);

/// Where the messages stand that a guarded statement passed over; rarely any.
pub(super) fn states<'a>(
    engine: &mut impl Engine,
    keys: impl IntoIterator<Item = &'a str>,
) -> QueryResult<HashMap<String, State>> {
    let values = Values::keys(keys);
    if values.len() == 0 {
        return Ok(HashMap::new());
    }
    // Should Django's table hold a key twice, the row that is not over comes last and counts.
    let sql = format!(
        "SELECT m.uuid, m.status, m.owner FROM {} ORDER BY {}",
        engine.messages(&values),
        is_not_in("m.status", Status::finals())
    );
    let rows: Vec<StateRow> = engine.load(&sql, Some(&values))?;
    let status = |status: Option<LooseText>| status?.shown().parse().ok();
    Ok(rows
        .into_iter()
        .map(|row| (row.uuid, (status(row.status), row.owner)))
        .collect())
}
