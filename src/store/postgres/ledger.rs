//! The ledger's batch: ends, releases, begun runs and claims, in one transaction.

use std::collections::{HashMap, HashSet};

use diesel::connection::SimpleConnection;
use diesel::pg::PgConnection;
use diesel::prelude::*;
use diesel::sql_types::{Array, BigInt, Bool, Integer, Nullable, Text};

use super::super::{
    Batch, BatchResult, Begin, Claim, ClaimRequest, Finish, Finished, NewRow, WorkerId,
};
use super::guards::{OWNER_IS_DEAD, list, sources};
use super::publishing::RowArrays;
use super::statement::Statement;
use crate::state::{End, Event, Status};

pub(super) fn write(
    connection: &mut PgConnection,
    owner: WorkerId,
    batch: &Batch,
) -> QueryResult<BatchResult> {
    if batch.may_be_forgotten() {
        connection.batch_execute("SET LOCAL synchronous_commit = off")?;
    }
    let finished = finish(connection, owner, &batch.finishes)?;
    release(connection, owner, &batch.releases)?;
    let begun = begin(connection, owner, &batch.begins)?;
    let claims = claim(connection, owner, &batch.claims)?;
    Ok(BatchResult {
        finished,
        begun,
        claims,
    })
}

/// The fence: an end counts if the message is still ours, or nobody's.
fn finish(
    connection: &mut PgConnection,
    owner: WorkerId,
    finishes: &[Finish],
) -> QueryResult<Vec<Finished>> {
    if finishes.is_empty() {
        return Ok(Vec::new());
    }
    let mut sorted: Vec<&Finish> = finishes.iter().collect();
    sorted.sort_unstable_by(|a, b| a.key.cmp(&b.key));
    let column = |text: fn(&Finish) -> Option<&str>| -> Vec<Option<&str>> {
        sorted.iter().map(|finish| text(finish)).collect()
    };
    let sql = format!(
        "UPDATE carrot_messagelog m SET status = v.status, attempts = v.attempts, \
             output = v.output, exception = v.exception, traceback = v.traceback, log = v.log, \
             completion_time = CASE WHEN v.status = 'COMPLETED' THEN now() ELSE m.completion_time END, \
             failure_time = CASE WHEN v.status = 'FAILED' THEN now() ELSE m.failure_time END \
         FROM unnest(?, ?, ?, ?, ?, ?, ?) \
             AS v(key, status, attempts, output, exception, traceback, log) \
         WHERE m.uuid = v.key \
             AND m.status IN ({finishable}) AND (m.status <> 'IN_PROGRESS' OR m.owner = ?) \
         RETURNING m.uuid",
        // The same from whatever end.
        finishable = sources(Event::Finish(End::Completed)),
    );
    let written: HashSet<String> = Statement::<Text>::new(&sql)
        .bind::<Array<Text>, _>(sorted.iter().map(|f| f.key.as_str()).collect::<Vec<_>>())
        .bind::<Array<Text>, _>(
            sorted
                .iter()
                .map(|f| f.end.status().as_str())
                .collect::<Vec<_>>(),
        )
        .bind::<Array<Integer>, _>(sorted.iter().map(|f| count(f.attempts)).collect::<Vec<_>>())
        .bind::<Array<Nullable<Text>>, _>(column(|f| f.output.as_deref()))
        .bind::<Array<Nullable<Text>>, _>(column(|f| f.exception.as_deref()))
        .bind::<Array<Nullable<Text>>, _>(column(|f| f.traceback.as_deref()))
        .bind::<Array<Nullable<Text>>, _>(column(|f| f.log.as_deref()))
        .bind::<BigInt, _>(owner.0)
        .load(connection)?
        .into_iter()
        .collect();
    let missed: Vec<&str> = finishes
        .iter()
        .map(|finish| finish.key.as_str())
        .filter(|key| !written.contains(*key))
        .collect();
    let states = states(connection, &missed)?;
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

fn release(connection: &mut PgConnection, owner: WorkerId, keys: &[String]) -> QueryResult<()> {
    if keys.is_empty() {
        return Ok(());
    }
    diesel::sql_query(format!(
        "UPDATE carrot_messagelog SET owner = NULL, \
             status = CASE WHEN due_time IS NULL THEN 'PUBLISHED' ELSE 'PENDING' END \
         WHERE uuid = ANY($1) AND status IN ({}) AND owner = $2",
        sources(Event::Release)
    ))
    .bind::<Array<Text>, _>(keys)
    .bind::<BigInt, _>(owner.0)
    .execute(connection)
    .map(drop)
}

fn begin(
    connection: &mut PgConnection,
    owner: WorkerId,
    begins: &[Begin],
) -> QueryResult<Vec<bool>> {
    if begins.is_empty() {
        return Ok(Vec::new());
    }
    let mut sorted: Vec<&Begin> = begins.iter().collect();
    sorted.sort_unstable_by(|a, b| a.key.cmp(&b.key));
    let sql = "UPDATE carrot_messagelog m SET attempts = v.attempts \
        FROM unnest(?, ?) AS v(key, attempts) \
        WHERE m.uuid = v.key AND m.status = 'IN_PROGRESS' AND m.owner = ? RETURNING m.uuid";
    let begun: HashSet<String> = Statement::<Text>::new(sql)
        .bind::<Array<Text>, _>(sorted.iter().map(|b| b.key.as_str()).collect::<Vec<_>>())
        .bind::<Array<Integer>, _>(sorted.iter().map(|b| count(b.attempts)).collect::<Vec<_>>())
        .bind::<BigInt, _>(owner.0)
        .load(connection)?
        .into_iter()
        .collect();
    Ok(begins
        .iter()
        .map(|begin| begun.contains(&begin.key))
        .collect())
}

fn claim(
    connection: &mut PgConnection,
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
    if !adopted.is_empty() {
        adopted.sort_unstable_by(|a, b| a.key.cmp(&b.key));
        RowArrays::of(adopted).insert(connection, true)?;
    }
    // Sorted, so that two services that claim the same messages lock them in one order.
    let mut wanted: Vec<&str> = requests
        .iter()
        .map(|request| request.key.as_str())
        .collect();
    wanted.sort_unstable();
    let mut claimed = take(connection, owner, &wanted, IS_FREE)?;
    wanted.retain(|key| !claimed.contains_key(*key));
    if !wanted.is_empty() {
        lock(connection, &wanted)?;
        let takeable = format!("{IS_FREE} OR {OWNER_IS_DEAD}");
        claimed.extend(take(connection, owner, &wanted, &takeable)?);
        wanted.retain(|key| !claimed.contains_key(*key));
        note_lost_copies(connection, &wanted)?;
    }
    let states = states(connection, &wanted)?;
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

/// The condition that no other worker has the message, given ours.
const IS_FREE: &str = "m.status <> 'IN_PROGRESS' OR m.owner IS NULL OR m.owner = v.claimer";

/// Claims those of `wanted` for which `condition` holds.
fn take(
    connection: &mut PgConnection,
    owner: WorkerId,
    wanted: &[&str],
    condition: &str,
) -> QueryResult<HashMap<String, Claim>> {
    let sql = format!(
        "UPDATE carrot_messagelog m SET status = 'IN_PROGRESS', owner = v.claimer, due_time = NULL, \
             suspect = m.suspect OR m.status = 'IN_PROGRESS' \
         FROM (SELECT unnest(?) AS key, ? AS claimer) AS v \
         WHERE m.uuid = v.key AND m.status IN ({claimable}) AND ({condition}) \
         RETURNING m.uuid, m.attempts, m.suspect",
        claimable = sources(Event::Claim),
    );
    let rows = Statement::<(Text, Integer, Bool)>::new(&sql)
        .bind::<Array<Text>, _>(wanted)
        .bind::<BigInt, _>(owner.0)
        .load::<(String, i32, bool)>(connection)?;
    let ours = |(key, attempts, suspect)| {
        let attempts = u32::try_from(attempts).unwrap_or(0);
        (key, Claim::Ours { attempts, suspect })
    };
    Ok(rows.into_iter().map(ours).collect())
}

/// Locks the messages. Whether their owner is dead is asked by the statement after this one: a
/// statement that has waited for a row still sees the workers as they were before, and would take one
/// that came meanwhile for dead.
fn lock(connection: &mut PgConnection, keys: &[&str]) -> QueryResult<()> {
    diesel::sql_query(
        "SELECT uuid FROM carrot_messagelog WHERE uuid = ANY($1) ORDER BY uuid FOR UPDATE",
    )
    .bind::<Array<Text>, _>(keys)
    .execute(connection)
    .map(drop)
}

/// Notes that the delivery of messages that others have is about to be acknowledged: the broker has
/// none left then, so that whoever gives one back unrun must leave it to the sweep. The delivery is
/// gone once this is committed, so that it must not be forgotten.
fn note_lost_copies(connection: &mut PgConnection, keys: &[&str]) -> QueryResult<()> {
    connection.batch_execute("SET LOCAL synchronous_commit = on")?;
    diesel::sql_query(
        "UPDATE carrot_messagelog SET due_time = now() \
         WHERE uuid = ANY($1) AND status = 'IN_PROGRESS'",
    )
    .bind::<Array<Text>, _>(keys)
    .execute(connection)
    .map(drop)
}

#[derive(QueryableByName)]
struct StateRow {
    #[diesel(sql_type = Text)]
    uuid: String,
    #[diesel(sql_type = Text)]
    status: String,
    #[diesel(sql_type = Nullable<BigInt>)]
    owner: Option<i64>,
}

/// Where a message stands, and with whom.
type State = (Option<Status>, Option<i64>);

/// Where the messages stand that a guarded statement passed over; rarely any.
fn states(connection: &mut PgConnection, keys: &[&str]) -> QueryResult<HashMap<String, State>> {
    if keys.is_empty() {
        return Ok(HashMap::new());
    }
    // Should Django's table hold a key twice, the row that is not over comes last and counts.
    let sql = format!(
        "SELECT uuid, status, owner FROM carrot_messagelog WHERE uuid = ANY($1) \
         ORDER BY status NOT IN ({})",
        list(Status::ALL.into_iter().filter(|status| status.is_final()))
    );
    let rows: Vec<StateRow> = diesel::sql_query(sql)
        .bind::<Array<Text>, _>(keys)
        .load(connection)?;
    Ok(rows
        .into_iter()
        .map(|row| (row.uuid, (row.status.parse().ok(), row.owner)))
        .collect())
}

fn count(runs: u32) -> i32 {
    i32::try_from(runs).unwrap_or(i32::MAX)
}
