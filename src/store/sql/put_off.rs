//! Runs that are put off: their messages wait in their rows.

use std::borrow::Cow;
use std::collections::HashMap;

use diesel::prelude::*;

use super::current_states::current_states;
use super::engine::Engine;
use super::rows::KeyStatusRow;
use super::transition::{EventSql, EventTerms};
use super::values::ValueTable;
use crate::state::{Cause, Event, Status};
use crate::store::{NewRow, PutOff, PutOffDue, PutOffResult, WorkerId};

/// The longest time until the next attempt, in seconds.
const MAX_DELAY_SECONDS: u32 = 30;

/// The `patience` of a put-off without a time limit.
const NO_LIMIT: i64 = -1;

/// The `patience` of a put-off that is due at once.
const NO_WAIT: i64 = -2;

/// Puts runs off, with the fence of [`finish`](super::ledger). The database's clock alone decides which messages have
/// been put off for too long. Those stay with `owner`, who gets them back if they belonged to nobody, and who writes
/// their ends next.
pub(super) fn put_off<E: Engine>(
    engine: &mut E,
    owner: WorkerId,
    put_offs: &[PutOff],
) -> QueryResult<Vec<PutOffResult>> {
    if put_offs.is_empty() {
        return Ok(Vec::new());
    }
    let times = PutOffTimes::of::<E>();
    let terms = EventTerms {
        time: Some(&times.due),
        same_cause: Some(&times.same_cause),
        too_long: Some(&times.too_long),
        ..EventTerms::of(owner)
    };
    let change = EventSql::new::<E>(Event::PutOff, &terms);
    let mut sorted: Vec<&PutOff> = put_offs.iter().collect();
    sorted.sort_unstable_by(|a, b| a.row.key.cmp(&b.row.key));
    let last = engine.highest_character();
    let rows = sorted.iter().map(|put_off| put_off.row.restricted_to(last));
    let rows: Vec<Cow<'_, NewRow>> = rows.collect();
    let update = change.for_keys(values(&sorted, &rows));
    let changed: Vec<KeyStatusRow> = engine.update_returning(&update, &["uuid", "status"])?;
    let changed: HashMap<String, String> = changed
        .into_iter()
        .map(|row| (row.uuid, row.status))
        .collect();
    let missed = put_offs
        .iter()
        .map(|put_off| put_off.row.key.as_str())
        .filter(|key| !changed.contains_key(*key));
    let states = current_states(engine, missed)?;
    let result = |put_off: &PutOff| match (
        changed.get(&put_off.row.key).map(String::as_str),
        states.get(&put_off.row.key),
    ) {
        (Some(status), _) if status == Status::Pending.as_str() => PutOffResult::Waits,
        (Some(_), _) => PutOffResult::TooLong,
        (None, None) => PutOffResult::Gone,
        (None, Some(state)) if state.is_final() => PutOffResult::Already,
        (None, Some(_)) => PutOffResult::Taken,
    };
    Ok(put_offs.iter().map(result).collect())
}

/// The values of the event: the put-offs and their rows, in the same order.
fn values<'a>(put_offs: &[&'a PutOff], rows: &'a [Cow<'a, NewRow>]) -> ValueTable<'a> {
    ValueTable::keys(rows.iter().map(|row| row.key.as_str()))
        .texts("task", rows.iter().map(|row| row.task.as_str()))
        .nullable("task_args", rows.iter().map(|row| row.task_args.as_deref()))
        .nullable("content", rows.iter().map(|row| row.content.as_deref()))
        .texts("queue", rows.iter().map(|row| row.queue.as_str()))
        .texts("exchange", rows.iter().map(|row| row.exchange.as_str()))
        .texts(
            "routing_key",
            rows.iter().map(|row| row.routing_key.as_str()),
        )
        .integers("priority", rows.iter().map(|row| row.priority))
        .integers("attempts", put_offs.iter().map(|p| p.attempts))
        .integers(
            "suspect",
            put_offs.iter().map(|p| i64::from(p.crash_suspect)),
        )
        .integers("cause", put_offs.iter().map(|p| cause_number(p.cause)))
        .texts("reason", put_offs.iter().map(|p| p.reason.as_str()))
        .integers("patience", put_offs.iter().map(|p| wait_limit(p.due)))
}

/// The SQL of the waiting times, computed from the row `m` and the value `v`.
struct PutOffTimes {
    /// The condition that the row was put off before for the same cause, and the clock has not been set back since.
    same_cause: String,
    /// The condition that this was longer ago than the time limit.
    too_long: String,
    /// When the message is published again: after as long as it has waited already, and a second more.
    due: String,
}

impl PutOffTimes {
    fn of<E: Engine>() -> Self {
        let since = E::seconds_since("m.put_off_since");
        let same_cause = format!(
            "({since} >= 0 AND {} = v.cause)",
            cause_number_sql("m.put_off_reason")
        );
        let elapsed = format!("(CASE WHEN {same_cause} THEN {since} ELSE 0 END)");
        let too_long = format!("(v.patience >= 0 AND {same_cause} AND {since} > v.patience)");
        let grown = format!("{elapsed} + 1.0");
        // The last attempt comes at the end of the time limit, not half a minute later.
        let left = format!(
            "CASE WHEN v.patience >= 0 THEN v.patience - {elapsed} + 0.01 ELSE {MAX_DELAY_SECONDS} END"
        );
        let wait = format!(
            "(CASE WHEN v.patience = {NO_WAIT} THEN 0.0 ELSE {}({MAX_DELAY_SECONDS}, {grown}, {left}) END)",
            E::LEAST
        );
        Self {
            due: E::now_plus_expression(&wait),
            same_cause,
            too_long,
        }
    }
}

/// The number of the cause that a row's reason names.
fn cause_number_sql(reason: &str) -> String {
    let arms: Vec<String> = Cause::ALL
        .into_iter()
        .map(|cause| {
            format!(
                "WHEN {reason} LIKE '{}' THEN {}",
                cause.like_pattern(),
                cause_number(cause)
            )
        })
        .collect();
    format!("CASE {} END", arms.join(" "))
}

fn cause_number(cause: Cause) -> i64 {
    Cause::ALL
        .into_iter()
        .position(|other| other == cause)
        .and_then(|nth| i64::try_from(nth).ok())
        .unwrap_or_default()
}

fn wait_limit(due: PutOffDue) -> i64 {
    match due {
        PutOffDue::Now => NO_WAIT,
        PutOffDue::Later(None) => NO_LIMIT,
        PutOffDue::Later(Some(limit)) => i64::try_from(limit.as_secs()).unwrap_or(i64::MAX),
    }
}
