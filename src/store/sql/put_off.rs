//! RunStore that are put off: their messages wait in their rows.

use std::borrow::Cow;
use std::collections::HashMap;

use diesel::prelude::*;
use diesel::sql_types::Text;

use super::engine::{Engine, MessageRow};
use super::ledger::states;
use super::transition::{Change, Terms};
use super::values::Values;
use crate::state::{Cause, Event, Status};
use crate::store::{NewRow, PutOff, PutOffDue, PutOffResult, WorkerId};

/// The longest time until the next try, in seconds.
const LONGEST_WAIT: u32 = 30;

/// What stands for a wait without limit.
const NO_LIMIT: i64 = -1;

/// What stands for no wait at all.
const NO_WAIT: i64 = -2;

#[derive(QueryableByName)]
struct Changed {
    #[diesel(sql_type = Text)]
    uuid: String,
    #[diesel(sql_type = Text)]
    status: String,
}

impl MessageRow for Changed {
    fn key(&self) -> &str {
        &self.uuid
    }
}

/// Fenced as an end is. The database's clock alone decides what has been put off for too long: that stays
/// with us, or is ours again if it was nobody's, for the end that we write next.
pub(super) fn put_off<E: Engine>(
    engine: &mut E,
    owner: WorkerId,
    put_offs: &[PutOff],
) -> QueryResult<Vec<PutOffResult>> {
    if put_offs.is_empty() {
        return Ok(Vec::new());
    }
    let times = Times::of::<E>();
    let terms = Terms {
        then: Some(&times.next),
        same_cause: Some(&times.go_on),
        too_long: Some(&times.are_over),
        ..Terms::of(owner)
    };
    let change = Change::of::<E>(Event::PutOff, &terms);
    let mut sorted: Vec<&PutOff> = put_offs.iter().collect();
    sorted.sort_unstable_by(|a, b| a.row.key.cmp(&b.row.key));
    let last = engine.last_character();
    let rows = sorted.iter().map(|put_off| put_off.row.restricted_to(last));
    let rows: Vec<Cow<'_, NewRow>> = rows.collect();
    let update = change.of_keys(values(&sorted, &rows));
    let changed: Vec<Changed> = engine.update_returning(&update, &["uuid", "status"])?;
    let changed: HashMap<String, String> = changed
        .into_iter()
        .map(|row| (row.uuid, row.status))
        .collect();
    let missed = put_offs
        .iter()
        .map(|put_off| put_off.row.key.as_str())
        .filter(|key| !changed.contains_key(*key));
    let states = states(engine, missed)?;
    let verdict = |put_off: &PutOff| match (
        changed.get(&put_off.row.key).map(String::as_str),
        states.get(&put_off.row.key),
    ) {
        (Some(status), _) if status == Status::Pending.as_str() => PutOffResult::Waits,
        (Some(_), _) => PutOffResult::TooLong,
        (None, None) => PutOffResult::Gone,
        (None, Some((status, _))) if status.is_some_and(Status::is_final) => PutOffResult::Already,
        (None, Some(_)) => PutOffResult::Taken,
    };
    Ok(put_offs.iter().map(verdict).collect())
}

/// What comes with the event, of the same put-offs and their rows.
fn values<'a>(put_offs: &[&'a PutOff], rows: &'a [Cow<'a, NewRow>]) -> Values<'a> {
    Values::keys(rows.iter().map(|row| row.key.as_str()))
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
        .integers("cause", put_offs.iter().map(|p| number(p.cause)))
        .texts("reason", put_offs.iter().map(|p| p.reason.as_str()))
        .integers("patience", put_offs.iter().map(|p| patience(p.due)))
}

/// What a statement reckons of the row `m` and the value `v`.
struct Times {
    /// Whether it was put off before, for the same cause, and the clock has not been set back since.
    go_on: String,
    /// Whether that is longer ago than it may be.
    are_over: String,
    /// When it is published again: in as long as that is ago, and a second more.
    next: String,
}

impl Times {
    fn of<E: Engine>() -> Self {
        let since = E::seconds_since("m.put_off_since");
        let go_on = format!(
            "({since} >= 0 AND {} = v.cause)",
            cause_of("m.put_off_reason")
        );
        let elapsed = format!("(CASE WHEN {go_on} THEN {since} ELSE 0 END)");
        let are_over = format!("(v.patience >= 0 AND {go_on} AND {since} > v.patience)");
        let grown = format!("{elapsed} + 1.0");
        // The last try is at the end of its time, and not half a minute after that.
        let left = format!(
            "CASE WHEN v.patience >= 0 THEN v.patience - {elapsed} + 0.01 ELSE {LONGEST_WAIT} END"
        );
        let wait = format!(
            "(CASE WHEN v.patience = {NO_WAIT} THEN 0.0 ELSE {}({LONGEST_WAIT}, {grown}, {left}) END)",
            E::LEAST
        );
        Self {
            next: E::now_and_some(&wait),
            go_on,
            are_over,
        }
    }
}

/// The number of the cause of a reason that is noted in a row.
fn cause_of(reason: &str) -> String {
    let arms: Vec<String> = Cause::ALL
        .into_iter()
        .map(|cause| {
            format!(
                "WHEN {reason} LIKE '{}' THEN {}",
                cause.pattern(),
                number(cause)
            )
        })
        .collect();
    format!("CASE {} END", arms.join(" "))
}

fn number(cause: Cause) -> i64 {
    Cause::ALL
        .into_iter()
        .position(|other| other == cause)
        .and_then(|nth| i64::try_from(nth).ok())
        .unwrap_or_default()
}

fn patience(due: PutOffDue) -> i64 {
    match due {
        PutOffDue::Now => NO_WAIT,
        PutOffDue::Later(None) => NO_LIMIT,
        PutOffDue::Later(Some(limit)) => i64::try_from(limit.as_secs()).unwrap_or(i64::MAX),
    }
}
