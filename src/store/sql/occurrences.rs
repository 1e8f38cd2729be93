//! The statements of the scheduler: they find the schedules that are due or unplanned, and advance them.

use std::collections::HashSet;

use chrono::{DateTime, Utc};
use diesel::prelude::*;
use diesel::result::Error;
use diesel::sql_types::{BigInt, Nullable, Text};

use super::candidates::{excluding, lock_candidates};
use super::engine::Engine;
use super::loose::LooseText;
use super::overlap::LockedSchedule;
use super::publishing::record;
use super::rows::IdRow;
use super::schedules::parse_database_time;
use super::times;
use super::values::ValueTable;
use crate::failpoint;
use crate::message::Message;
use crate::store::{
    Advance, Agenda, Candidate, NewRow, ReadySchedules, RecomputeReason, ScheduleRefusal,
};

#[derive(QueryableByName)]
struct AgendaRow {
    #[diesel(sql_type = Text)]
    now: String,
    #[diesel(sql_type = Nullable<Text>)]
    next: Option<LooseText>,
    #[diesel(sql_type = BigInt)]
    unplanned: i64,
}

/// A clock that was set back by at most this many seconds needs no recomputation.
const CLOCK_TOLERANCE_SECONDS: i64 = 10;

pub(super) fn agenda<E: Engine>(engine: &mut E, held: &[i64]) -> QueryResult<Agenda> {
    let excluded = excluding(held);
    let sql = format!(
        "SELECT {now} AS now, \
             (SELECT {next} FROM carrot_scheduledtask m WHERE {planned}{excluded} \
                 ORDER BY m.next_run LIMIT 1) AS next, \
             CAST(CASE WHEN EXISTS (SELECT 1 FROM carrot_scheduledtask m WHERE {unplanned}{excluded}) \
                 THEN 1 ELSE 0 END AS {bigint}) AS unplanned",
        now = E::time_to_text(E::NOW),
        next = E::time_to_text("m.next_run"),
        planned = E::IS_PLANNED,
        unplanned = E::IS_UNPLANNED,
        bigint = E::BIGINT,
    );
    let rows: Vec<AgendaRow> = if held.is_empty() {
        engine.load(&sql, None)?
    } else {
        engine.load_unprepared(&sql)?
    };
    let row = rows.into_iter().next().ok_or(Error::NotFound)?;
    let next = row.next.map(LooseText::into_display);
    Ok(Agenda {
        now: parse_database_time(&row.now)?,
        next: next.as_deref().and_then(times::parse),
        has_unplanned: row.unplanned != 0,
        has_malformed: next.is_some_and(|next| !times::is_canonical(&next)),
    })
}

/// Marks schedules whose next occurrence must be computed again, by deleting the timetable that it was computed from.
/// Must run in a transaction.
pub(super) fn recompute<E: Engine>(engine: &mut E, which: RecomputeReason) -> QueryResult<usize> {
    let condition = match which {
        RecomputeReason::AtStart => format!(
            "(m.refusal IS NOT NULL AND m.next_run IS NULL \
                 OR (m.last_run > {later} OR m.anchor > {later}) AND m.next_run > {later})",
            later = E::now_plus(CLOCK_TOLERANCE_SECONDS)
        ),
        RecomputeReason::ClockSetBack => format!("m.next_run > {}", E::NOW),
    };
    let sql = format!(
        "SELECT CAST(m.id AS {}) AS id FROM carrot_scheduledtask m WHERE m.active AND {condition} \
         ORDER BY m.id",
        E::BIGINT
    );
    let found: Vec<IdRow> = engine.load_unprepared(&sql)?;
    if !found.is_empty() {
        let values = ValueTable::default().integers("id", found.iter().map(|row| row.id));
        engine.update_schedules(&values, &[("planned_for", "NULL".to_owned())])?;
    }
    Ok(found.len())
}

/// Locks schedules that nobody else has locked, lets `decide` advance each, and records the advances and their
/// messages. Returns the number of schedules, and the messages. Must run in a transaction.
pub(super) fn advance<E: Engine>(
    engine: &mut E,
    ready: ReadySchedules,
    limit: usize,
    held: &[i64],
    decide: &mut dyn FnMut(&Candidate) -> Advance,
) -> QueryResult<(usize, Vec<Message>)> {
    let locked = lock_candidates(engine, ready, limit, held)?;
    if locked.is_empty() {
        return Ok((0, Vec::new()));
    }
    let candidates = locked.iter().map(|locked| &locked.candidate);
    let mut advances: Vec<Advance> = candidates.map(decide).collect();
    write_advances(engine, &locked, &advances)?;
    let messages = advances
        .iter_mut()
        .flat_map(|advance| std::mem::take(&mut advance.messages))
        .collect();
    let messages = without_existing(engine, messages)?;
    if !messages.is_empty() {
        let rows: Vec<NewRow> = messages.iter().map(NewRow::pending).collect();
        record(engine, &rows)?;
    }
    failpoint::hit("schedule.before-commit");
    Ok((locked.len(), messages))
}

#[derive(QueryableByName)]
struct PositionRow {
    #[diesel(sql_type = BigInt)]
    position: i64,
}

/// Removes messages whose occurrence already has a message, as after a clock was set back or a table was restored
/// from a dump.
fn without_existing<E: Engine>(
    engine: &mut E,
    messages: Vec<Message>,
) -> QueryResult<Vec<Message>> {
    let times = |message: &Message| {
        let of = message.occurrence?;
        Some((of.schedule, times::to_text(of.planned?)))
    };
    let times: Vec<_> = messages.iter().map(times).collect();
    let planned = || {
        (0_i64..)
            .zip(&times)
            .filter_map(|(nth, of)| Some((nth, of.as_ref()?)))
    };
    if planned().next().is_none() {
        return Ok(messages);
    }
    let values = ValueTable::default()
        .integers("nth", planned().map(|(nth, _)| nth))
        .integers("schedule_id", planned().map(|(_, (schedule, _))| *schedule))
        .texts(
            "planned",
            planned().map(|(_, (_, planned))| planned.as_str()),
        );
    // Not a join, which the planner may run from the messages, of which there may be millions.
    let sql = format!(
        "SELECT CAST(v.nth AS {bigint}) AS position FROM {source} \
         WHERE (SELECT count(*) FROM carrot_messagelog l \
             WHERE l.schedule_id = v.schedule_id AND l.planned_time = {planned}) > 0",
        bigint = E::BIGINT,
        source = engine.values_sql(&values),
        planned = E::text_to_time("v.planned"),
    );
    let taken: Vec<PositionRow> = engine.load(&sql, Some(&values))?;
    let existing: HashSet<i64> = taken.iter().map(|row| row.position).collect();
    let messages = (0_i64..).zip(messages);
    let left = messages.filter(|(nth, _)| !existing.contains(nth));
    Ok(left.map(|(_, message)| message).collect())
}

/// Writes what `decide` has decided about each locked schedule.
fn write_advances<E: Engine>(
    engine: &mut E,
    locked: &[LockedSchedule],
    advances: &[Advance],
) -> QueryResult<()> {
    let texts = |time: fn(&Advance) -> Option<DateTime<Utc>>| -> Vec<Option<String>> {
        advances
            .iter()
            .map(|advance| time(advance).map(times::to_text))
            .collect()
    };
    let next = texts(|advance| advance.next);
    let anchor = texts(|advance| advance.anchor);
    let last = texts(|advance| {
        let planned = advance.messages.iter();
        planned
            .filter_map(|message| message.occurrence?.planned)
            .max()
    });
    let unfinished_from: Vec<_> = locked
        .iter()
        .zip(advances)
        .map(|(locked, advance)| locked.unfinished_after(advance).map(times::to_text))
        .collect();
    let refusals: Vec<_> = advances
        .iter()
        .map(|advance| advance.refusal.as_ref().map(ScheduleRefusal::to_string))
        .collect();
    let values = ValueTable::default()
        .integers("id", locked.iter().map(|locked| locked.candidate.row.id))
        .integers(
            "from_current_timetable",
            advances
                .iter()
                .map(|advance| i64::from(advance.from_current_timetable)),
        )
        .nullable("next_run", next.iter().map(Option::as_deref))
        .nullable("anchor", anchor.iter().map(Option::as_deref))
        .nullable("last_run", last.iter().map(Option::as_deref))
        .nullable(
            "unfinished_from",
            unfinished_from.iter().map(Option::as_deref),
        )
        .nullable("refusal", refusals.iter().map(Option::as_deref));
    engine.update_schedules(&values, &advance_assignments::<E>())
}

/// The columns that an advance changes and their new values.
fn advance_assignments<E: Engine>() -> [(&'static str, String); 6] {
    [
        ("next_run", E::text_to_time("v.next_run")),
        (
            "anchor",
            format!("COALESCE(m.anchor, {})", E::text_to_time("v.anchor")),
        ),
        (
            "last_run",
            format!("COALESCE({}, m.last_run)", E::text_to_time("v.last_run")),
        ),
        ("unfinished_from", E::text_to_time("v.unfinished_from")),
        ("refusal", "v.refusal".to_owned()),
        (
            "planned_for",
            format!(
                "CASE WHEN v.from_current_timetable = 1 THEN {} ELSE m.planned_for END",
                E::TIMETABLE
            ),
        ),
    ]
}
