//! The ledger's batch: ends, releases, begun runs and claims, in one transaction.

use std::collections::{HashMap, HashSet};

use diesel::prelude::*;
use diesel::sql_types::{BigInt, Bool, Integer, Nullable, Text};

use super::engine::{ALWAYS, Engine, MessageRow, Update};
use super::guards::{OWNER_IS_DEAD, allows, list};
use super::loose::LooseText;
use super::publishing::{Inserted, insert};
use super::put_off::put_off;
use super::republish::republish;
use super::values::Values;
use crate::state::{End, Event, Status};
use crate::store::{
    Batch, BatchResult, Begin, Claim, ClaimRequest, Finish, Finished, NewRow, WorkerId,
};

pub(super) fn write(
    engine: &mut impl Engine,
    owner: WorkerId,
    batch: &Batch,
) -> QueryResult<BatchResult> {
    let finished = finish(engine, owner, &batch.finishes)?;
    let put_back = put_off(engine, owner, &batch.put_offs)?;
    release(engine, owner, &batch.releases)?;
    republish(engine, owner, &batch.republishes)?;
    let begun = begin(engine, owner, &batch.begins)?;
    let claims = claim(engine, owner, &batch.claims)?;
    let looked = look(engine, &batch.looks)?;
    Ok(BatchResult {
        finished,
        put_back,
        begun,
        claims,
        looked,
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
) -> QueryResult<Vec<Finished>> {
    if finishes.is_empty() {
        return Ok(Vec::new());
    }
    let mut sorted: Vec<&Finish> = finishes.iter().collect();
    sorted.sort_unstable_by(|a, b| a.key.cmp(&b.key));
    let at = |status: Status, column: &str| {
        format!(
            "CASE WHEN v.status = '{status}' THEN {} ELSE m.{column} END",
            E::NOW
        )
    };
    let written = changed(
        engine,
        &Update {
            values: Values::keys(sorted.iter().map(|f| f.key.as_str()))
                .texts("status", sorted.iter().map(|f| f.end.status().as_str()))
                .integers("attempts", sorted.iter().map(|f| f.attempts))
                .nullable("output", sorted.iter().map(|f| f.output.as_deref()))
                .nullable("exception", sorted.iter().map(|f| f.exception.as_deref()))
                .nullable("traceback", sorted.iter().map(|f| f.traceback.as_deref()))
                .nullable("log", sorted.iter().map(|f| f.log.as_deref())),
            set: &[
                ("status", "v.status"),
                ("attempts", "v.attempts"),
                ("output", "v.output"),
                ("exception", "v.exception"),
                ("traceback", "v.traceback"),
                ("log", "v.log"),
                ("completion_time", &at(Status::Completed, "completion_time")),
                ("failure_time", &at(Status::Failed, "failure_time")),
            ],
            // The same from whatever end.
            given: &format!(
                "{} AND {}",
                allows(Event::Finish(End::Completed)),
                ours_or_nobodys(owner)
            ),
            and: ALWAYS,
        },
    )?;
    let missed = finishes
        .iter()
        .map(|finish| finish.key.as_str())
        .filter(|key| !written.contains(*key));
    let states = states(engine, missed)?;
    let verdict = |finish: &Finish| {
        if written.contains(&finish.key) {
            return Finished::Written;
        }
        match states.get(&finish.key) {
            None => Finished::Gone,
            Some((status, _)) if status.is_some_and(Status::is_final) => Finished::Already,
            Some(_) => Finished::Taken,
        }
    };
    Ok(finishes.iter().map(verdict).collect())
}

fn release(engine: &mut impl Engine, owner: WorkerId, keys: &[String]) -> QueryResult<()> {
    if keys.is_empty() {
        return Ok(());
    }
    let mut keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    keys.sort_unstable();
    engine
        .update(&Update {
            values: Values::keys(keys),
            set: &[
                (
                    "status",
                    "CASE WHEN m.due_time IS NULL THEN 'PUBLISHED' ELSE 'PENDING' END",
                ),
                // A mark that comes late must not find a PENDING one without: there is no copy.
                (
                    "owner",
                    "CASE WHEN m.due_time IS NULL THEN NULL ELSE m.owner END",
                ),
            ],
            given: &format!("{} AND m.owner = {}", allows(Event::Release), owner.0),
            and: ALWAYS,
        })
        .map(drop)
}

/// Fenced as an end is. What is nobody's is claimed once more: a crash may have forgotten the claim, and
/// the delivery of what is not begun is acknowledged.
fn begin(engine: &mut impl Engine, owner: WorkerId, begins: &[Begin]) -> QueryResult<Vec<bool>> {
    if begins.is_empty() {
        return Ok(Vec::new());
    }
    let mut sorted: Vec<&Begin> = begins.iter().collect();
    sorted.sort_unstable_by(|a, b| a.key.cmp(&b.key));
    let begun = changed(
        engine,
        &Update {
            values: Values::keys(sorted.iter().map(|b| b.key.as_str()))
                .integers("attempts", sorted.iter().map(|b| b.attempts)),
            set: &[
                ("attempts", "v.attempts"),
                // Whether a copy was lost is known of an owned one only.
                (
                    "due_time",
                    "CASE WHEN m.status = 'IN_PROGRESS' THEN m.due_time END",
                ),
                ("status", "'IN_PROGRESS'"),
                ("owner", &owner.0.to_string()),
            ],
            given: &format!("{} AND {}", allows(Event::Claim), ours_or_nobodys(owner)),
            and: ALWAYS,
        },
    )?;
    Ok(begins
        .iter()
        .map(|begin| begun.contains(&begin.key))
        .collect())
}

/// The condition that no other worker has the message, if it is not over.
pub(super) fn ours_or_nobodys(owner: WorkerId) -> String {
    format!("(m.status <> 'IN_PROGRESS' OR m.owner = {})", owner.0)
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
    let is_free = format!(
        "m.status <> 'IN_PROGRESS' OR m.owner IS NULL OR m.owner = {}",
        owner.0
    );
    let mut claimed = take(engine, owner, &wanted, &is_free, &[])?;
    let mut in_progress = HashMap::new();
    wanted.retain(|key| !claimed.contains_key(*key));
    if !wanted.is_empty() {
        let locked = lock(engine, &wanted)?;
        // A row that comes from here on is looked for again: nothing guards it.
        wanted.retain(|key| locked.contains_key(*key));
        in_progress = locked;
    }
    if !wanted.is_empty() {
        let takeable = format!("{is_free} OR {OWNER_IS_DEAD}");
        // What died in a run had begun: from here on, it is put off for the first time.
        let anew = [("put_off_since", "NULL"), ("put_off_reason", "NULL")];
        claimed.extend(take(engine, owner, &wanted, &takeable, &anew)?);
        wanted.retain(|key| !claimed.contains_key(*key));
        let is_in_progress = |key: &&str| in_progress.get(*key).is_some_and(|is| *is);
        let held: Vec<&str> = wanted.iter().copied().filter(is_in_progress).collect();
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

/// Claims those of `wanted` for which `condition` holds, and sets some more of them.
fn take(
    engine: &mut impl Engine,
    owner: WorkerId,
    wanted: &[&str],
    condition: &str,
    and_set: &[(&'static str, &str)],
) -> QueryResult<HashMap<String, Claim>> {
    let owner = owner.0.to_string();
    let taken = [
        ("suspect", "m.suspect OR m.status = 'IN_PROGRESS'"),
        ("status", "'IN_PROGRESS'"),
        ("owner", owner.as_str()),
        ("due_time", "NULL"),
    ];
    let update = Update {
        values: Values::keys(wanted.iter().copied()),
        set: &[&taken, and_set].concat(),
        given: &allows(Event::Claim),
        and: condition,
    };
    let rows: Vec<Taken> = engine.update_returning(&update, &["uuid", "attempts", "suspect"])?;
    let ours = |row: Taken| {
        let claim = Claim::Ours {
            attempts: u32::try_from(row.attempts).unwrap_or(0),
            suspect: row.suspect,
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
    is_in_progress: bool,
}

/// Locks the messages, and returns which there are, and whether each is in progress. Whether their owner
/// is dead is asked by the statement after this one: a statement that has waited for a row still sees the
/// workers as they were before, and would take one that came meanwhile for dead.
fn lock<E: Engine>(engine: &mut E, keys: &[&str]) -> QueryResult<HashMap<String, bool>> {
    let values = Values::keys(keys.iter().copied());
    let sql = format!(
        "SELECT m.uuid, COALESCE(m.status = 'IN_PROGRESS', false) AS is_in_progress FROM {} \
         ORDER BY m.uuid {}",
        engine.messages_to_lock(&values),
        E::LOCK
    );
    let rows: Vec<Locked> = engine.load(&sql, Some(&values))?;
    let mut locked = HashMap::new();
    for row in rows {
        *locked.entry(row.uuid).or_default() |= row.is_in_progress;
    }
    Ok(locked)
}

/// Notes that the delivery of messages that others have is about to be acknowledged: the broker has
/// none left then, so that whoever gives one back unrun must leave it to the sweep. The delivery is
/// gone once this is committed, so that it must not be forgotten.
fn note_lost_copies<E: Engine>(engine: &mut E, keys: &[&str]) -> QueryResult<()> {
    engine.must_last()?;
    if keys.is_empty() {
        return Ok(());
    }
    engine
        .update(&Update {
            values: Values::keys(keys.iter().copied()),
            set: &[("due_time", E::NOW)],
            given: "m.status = 'IN_PROGRESS'",
            and: ALWAYS,
        })
        .map(drop)
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
        "SELECT m.uuid, m.status, m.owner FROM {} ORDER BY m.status NOT IN ({})",
        engine.messages(&values),
        list(Status::ALL.into_iter().filter(|status| status.is_final()))
    );
    let rows: Vec<StateRow> = engine.load(&sql, Some(&values))?;
    let status = |status: Option<LooseText>| status?.shown().parse().ok();
    Ok(rows
        .into_iter()
        .map(|row| (row.uuid, (status(row.status), row.owner)))
        .collect())
}
