//! Whether a schedule's run would overlap with one before: which of its messages are not finished.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use diesel::prelude::*;
use diesel::sql_types::{BigInt, Nullable, Text};

use super::engine::Engine;
use super::guards::{is_in, joined};
use super::loose::LooseText;
use super::times;
use super::values::ValueTable;
use crate::state::Status;
use crate::store::{Advance, Candidate, NewRow, UnfinishedMessage};
use crate::timetable::Overlap;

/// A schedule that is locked.
pub(super) struct LockedSchedule {
    pub(super) candidate: Candidate,
    /// No message of an occurrence planned before then is unfinished. Nobody keeps that where runs may
    /// overlap.
    pub(super) unfinished_from: Option<DateTime<Utc>>,
}

impl LockedSchedule {
    fn may_overlap(&self) -> bool {
        self.candidate.row.spec.overlap != Overlap::Skip.as_str()
    }

    /// The same once it is advanced.
    pub(super) fn unfinished_after(&self, advance: &Advance) -> Option<DateTime<Utc>> {
        let planned = advance.messages.iter();
        let planned = planned.filter_map(|message| message.occurrence?.planned);
        // A clock may have been set back.
        let from = self.unfinished_from.filter(|_| !self.may_overlap())?;
        Some(planned.min().map_or(from, |first| first.min(from)))
    }
}

#[derive(QueryableByName)]
struct UnfinishedRow {
    /// The schedule's.
    #[diesel(sql_type = BigInt)]
    id: i64,
    #[diesel(sql_type = Nullable<Text>)]
    uuid: Option<LooseText>,
    #[diesel(sql_type = Nullable<Text>)]
    status: Option<LooseText>,
    #[diesel(sql_type = Nullable<Text>)]
    since: Option<LooseText>,
    #[diesel(sql_type = Nullable<Text>)]
    planned: Option<LooseText>,
}

/// Sees which of those that must not overlap would, and with what: the first of their occurrences whose
/// message is not finished, or one beside the timetable. Those that are known to be finished are not read
/// again, as many as they may be.
pub(super) fn load_unfinished<E: Engine>(
    engine: &mut E,
    locked: &mut [LockedSchedule],
) -> QueryResult<()> {
    let mut asked: HashMap<i64, &mut LockedSchedule> = locked
        .iter_mut()
        .filter(|locked| !locked.may_overlap() && locked.candidate.is_due())
        .map(|locked| (locked.candidate.row.id, locked))
        .collect();
    if asked.is_empty() {
        return Ok(());
    }
    let rows: Vec<UnfinishedRow> =
        engine.load_unprepared(&unfinished_sql::<E>(joined(asked.keys())))?;
    for asked in asked.values_mut() {
        asked.unfinished_from = asked.candidate.row.last_run;
    }
    for row in rows {
        let Some(asked) = asked.get_mut(&row.id) else {
            continue;
        };
        let text = |text: Option<LooseText>| text.map(LooseText::into_display);
        if let Some(planned) = text(row.planned) {
            // Of one that can't be read, all are read again next time.
            asked.unfinished_from = times::parse(&planned);
        }
        if let Some(Ok(status)) = text(row.status).map(|status| status.parse()) {
            let since = text(row.since).as_deref().and_then(times::parse);
            asked.candidate.unfinished = Some(UnfinishedMessage {
                key: text(row.uuid).unwrap_or_default(),
                status,
                since: since.unwrap_or(asked.candidate.now),
            });
        }
    }
    Ok(())
}

/// Selects the [`UnfinishedRow`]s of the schedules with these ids.
fn unfinished_sql<E: Engine>(ids: String) -> String {
    let is_unfinished = is_in(
        "l.status",
        Status::ALL.into_iter().filter(|status| !status.is_final()),
    );
    let first = |which: &str| {
        format!(
            "(SELECT l.id FROM {} WHERE l.schedule_id = m.id AND {which} AND {is_unfinished} \
                 ORDER BY l.planned_time LIMIT 1)",
            E::FROM_OCCURRENCES
        )
    };
    format!(
        "SELECT q.id, l.uuid, l.status, {since} AS since, {planned} AS planned \
         FROM (SELECT CAST(m.id AS {bigint}) AS id, COALESCE({of_timetable}, {beside}) AS message \
             FROM carrot_scheduledtask m WHERE m.id IN ({ids})) q \
         JOIN carrot_messagelog l ON l.id = q.message",
        since = E::time_to_text(&format!("COALESCE(l.publish_time, {})", E::NOW)),
        planned = E::time_to_text("l.planned_time"),
        bigint = E::BIGINT,
        of_timetable = first(&format!(
            "l.planned_time >= COALESCE(m.unfinished_from, {})",
            E::text_to_time("'0001-01-01 00:00:00'")
        )),
        beside = first("l.planned_time IS NULL"),
    )
}

/// In a transaction that has made messages of occurrences anew: they are unfinished.
pub(super) fn lower_unfinished_from<E: Engine>(engine: &mut E, rows: &[NewRow]) -> QueryResult<()> {
    let mut first: HashMap<i64, DateTime<Utc>> = HashMap::new();
    for of in rows.iter().filter_map(|row| row.occurrence) {
        if let Some(planned) = of.planned {
            let first = first.entry(of.schedule).or_insert(planned);
            *first = planned.min(*first);
        }
    }
    if first.is_empty() {
        return Ok(());
    }
    let times: Vec<String> = first.values().copied().map(times::to_text).collect();
    let values = ValueTable::default()
        .integers("id", first.keys().copied())
        .texts("planned", times.iter().map(String::as_str));
    let planned = E::text_to_time("v.planned");
    let earlier = format!(
        "CASE WHEN m.unfinished_from > {planned} THEN {planned} ELSE m.unfinished_from END"
    );
    engine.update_schedules(&values, &[("unfinished_from", earlier)])
}
