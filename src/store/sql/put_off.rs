//! Runs that are put off: their messages wait in their rows.

use std::collections::HashMap;

use diesel::prelude::*;
use diesel::sql_types::Text;

use super::engine::{ALWAYS, Engine, MessageRow, Update};
use super::guards::allows;
use super::ledger::{ours_or_nobodys, states};
use super::values::Values;
use crate::state::{Cause, Event, Status};
use crate::store::{PutBack, PutOff, PutOffDue, WorkerId};

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
) -> QueryResult<Vec<PutBack>> {
    if put_offs.is_empty() {
        return Ok(Vec::new());
    }
    let times = Times::of::<E>();
    let if_too_long = |then: &str, otherwise: &str| {
        format!(
            "CASE WHEN {} THEN {then} ELSE {otherwise} END",
            times.are_over
        )
    };
    let changed: Vec<Changed> = {
        let mut sorted: Vec<&PutOff> = put_offs.iter().collect();
        sorted.sort_unstable_by(|a, b| a.row.key.cmp(&b.row.key));
        let last = engine.last_character();
        let rows: Vec<_> = sorted
            .iter()
            .map(|put_off| put_off.row.within(last))
            .collect();
        let ours = owner.0.to_string();
        engine.update_returning(
            &Update {
                values: Values::keys(rows.iter().map(|row| row.key.as_str()))
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
                    .integers("attempts", sorted.iter().map(|p| p.attempts))
                    .integers("suspect", sorted.iter().map(|p| i64::from(p.suspect)))
                    .integers("cause", sorted.iter().map(|p| number(p.cause)))
                    .texts("reason", sorted.iter().map(|p| p.reason.as_str()))
                    .integers("patience", sorted.iter().map(|p| patience(p.due))),
                set: &[
                    ("task", "v.task"),
                    ("task_args", "v.task_args"),
                    ("content", "v.content"),
                    ("queue", "v.queue"),
                    ("exchange", "v.exchange"),
                    ("routing_key", "v.routing_key"),
                    ("priority", "v.priority"),
                    ("attempts", "v.attempts"),
                    ("suspect", "(m.suspect OR v.suspect = 1)"),
                    // Whether a copy was lost is known of an owned one only.
                    (
                        "due_time",
                        &if_too_long(
                            "CASE WHEN m.status = 'IN_PROGRESS' THEN m.due_time END",
                            &times.next,
                        ),
                    ),
                    // A message can be delivered before its publisher marks it. Where it has an owner, that
                    // mark comes too late: see `mark_published`.
                    ("owner", &ours),
                    ("status", &if_too_long("'IN_PROGRESS'", "'PENDING'")),
                    // From here on what the times are reckoned from.
                    (
                        "put_off_since",
                        &format!(
                            "CASE WHEN {} THEN m.put_off_since ELSE {} END",
                            times.go_on,
                            E::NOW
                        ),
                    ),
                    ("put_off_reason", "v.reason"),
                ],
                given: &format!("{} AND {}", allows(Event::PutOff), ours_or_nobodys(owner)),
                and: ALWAYS,
            },
            &["uuid", "status"],
        )?
    };
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
        (Some(status), _) if status == Status::Pending.as_str() => PutBack::Waits,
        (Some(_), _) => PutBack::TooLong,
        (None, None) => PutBack::Gone,
        (None, Some((status, _))) if status.is_some_and(Status::is_final) => PutBack::Already,
        (None, Some(_)) => PutBack::Taken,
    };
    Ok(put_offs.iter().map(verdict).collect())
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
