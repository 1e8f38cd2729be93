//! Finds and locks the schedules that the scheduler advances next.

use diesel::QueryResult;

use super::engine::Engine;
use super::guards::joined;
use super::overlap::{LockedSchedule, load_unfinished};
use super::rows::IdRow;
use super::schedule_row::LooseScheduleRow;
use super::schedules::parse_database_time;
use super::times;
use super::values::ValueTable;
use crate::store::{Candidate, ReadySchedules};

/// The condition that excludes the schedules that are held back.
pub(super) fn excluding(held: &[i64]) -> String {
    if held.is_empty() {
        String::new()
    } else {
        format!(" AND m.id NOT IN ({})", joined(held))
    }
}

/// The ids of schedules `m`, without locks: this search reads all schedules, and must not lock them on the way.
fn find_ids<E: Engine>(engine: &mut E, condition: &str, limit: usize) -> QueryResult<Vec<i64>> {
    let sql = format!(
        "SELECT CAST(m.id AS {}) AS id FROM {} WHERE {condition} LIMIT {limit}",
        E::BIGINT,
        E::FROM_SCHEDULES
    );
    let found: Vec<IdRow> = engine.load_unprepared(&sql)?;
    Ok(found.into_iter().map(|row| row.id).collect())
}

/// Locks ready schedules that nobody else has locked, and loads their unfinished messages.
pub(super) fn lock_candidates<E: Engine>(
    engine: &mut E,
    ready: ReadySchedules,
    limit: usize,
    held: &[i64],
) -> QueryResult<Vec<LockedSchedule>> {
    let Some(condition) = ready_condition(engine, ready, limit, held)? else {
        return Ok(Vec::new());
    };
    let sql = format!(
        "SELECT {} FROM {} WHERE {condition} LIMIT {limit} {}",
        LooseScheduleRow::columns::<E>(),
        E::FROM_SCHEDULES,
        E::FOR_UPDATE_SKIP_LOCKED
    );
    let rows: Vec<LooseScheduleRow> = engine.load_unprepared(&sql)?;
    let mut locked = Vec::with_capacity(rows.len());
    let mut not_canonical = Vec::new();
    for row in rows {
        let (unfinished_from, is_canonical) = row.unfinished_from();
        let candidate = Candidate {
            now: parse_database_time(&row.now)?,
            row: row.into(),
            unfinished: None,
        };
        if !is_canonical {
            not_canonical.push((candidate.row.id, unfinished_from.map(times::to_text)));
        }
        locked.push(LockedSchedule {
            candidate,
            unfinished_from,
        });
    }
    rewrite_unfinished_from(engine, &not_canonical)?;
    load_unfinished(engine, &mut locked)?;
    Ok(locked)
}

/// The condition, order included, of the ready schedules; `None` if there are none.
fn ready_condition<E: Engine>(
    engine: &mut E,
    ready: ReadySchedules,
    limit: usize,
    held: &[i64],
) -> QueryResult<Option<String>> {
    let excluded = excluding(held);
    Ok(Some(match ready {
        // Unordered, since sorting would lock all of them.
        ReadySchedules::Unplanned => format!("{}{excluded}", E::IS_UNPLANNED),
        ReadySchedules::Saved(id) => format!("{}{excluded} AND m.id = {id}", E::IS_UNPLANNED),
        ReadySchedules::Due => format!(
            "{} AND m.next_run <= {}{excluded} ORDER BY m.next_run",
            E::IS_PLANNED,
            E::NOW
        ),
        ReadySchedules::Malformed => {
            let malformed = format!(
                "{} AND {}{excluded}",
                E::IS_PLANNED,
                E::NEXT_RUN_IS_MALFORMED
            );
            let ids = find_ids(engine, &malformed, limit)?;
            if ids.is_empty() {
                return Ok(None);
            }
            format!("{malformed} AND m.id IN ({})", joined(ids))
        }
    }))
}

/// Rewrites the `unfinished_from` of these schedules in our format, in which the next statement compares it.
fn rewrite_unfinished_from<E: Engine>(
    engine: &mut E,
    schedules: &[(i64, Option<String>)],
) -> QueryResult<()> {
    if schedules.is_empty() {
        return Ok(());
    }
    let times = schedules.iter().map(|(_, from)| from.as_deref());
    let values = ValueTable::default()
        .integers("id", schedules.iter().map(|(id, _)| *id))
        .nullable("unfinished_from", times);
    let set = [("unfinished_from", E::text_to_time("v.unfinished_from"))];
    engine.update_schedules(&values, &set)
}
