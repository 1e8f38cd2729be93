//! Finds whether a schedule's next run would overlap with an earlier one, that is, has an unfinished message.

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

/// A schedule that this transaction has locked.
pub(super) struct LockedSchedule {
    pub(super) candidate: Candidate,
    /// No occurrence planned before this time has an unfinished message. Not kept for schedules whose runs may overlap.
    pub(super) unfinished_from: Option<DateTime<Utc>>,
}

impl LockedSchedule {
    fn may_overlap(&self) -> bool {
        self.candidate.row.spec.overlap != Overlap::Skip.as_str()
    }

    /// The `unfinished_from` of the advanced schedule.
    pub(super) fn unfinished_after(&self, advance: &Advance) -> Option<DateTime<Utc>> {
        let planned = advance.messages.iter();
        let planned = planned.filter_map(|message| message.occurrence?.planned);
        // The first occurrence may be earlier if a clock was set back.
        let from = self.unfinished_from.filter(|_| !self.may_overlap())?;
        Some(planned.min().map_or(from, |first| first.min(from)))
    }
}

#[derive(QueryableByName)]
struct UnfinishedRow {
    /// The schedule's id.
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

/// Loads, for each due schedule whose runs must not overlap, its first unfinished message: of the timetable's
/// occurrences, or else of a run outside of the timetable. It never reads messages again that are known to be
/// finished, however many there are.
pub(super) fn load_unfinished<E: Engine>(
    engine: &mut E,
    locked: &mut [LockedSchedule],
) -> QueryResult<()> {
    let mut schedules: HashMap<i64, &mut LockedSchedule> = locked
        .iter_mut()
        .filter(|locked| !locked.may_overlap() && locked.candidate.is_due())
        .map(|locked| (locked.candidate.row.id, locked))
        .collect();
    if schedules.is_empty() {
        return Ok(());
    }
    let rows: Vec<UnfinishedRow> =
        engine.load_unprepared(&unfinished_sql::<E>(joined(schedules.keys())))?;
    for schedule in schedules.values_mut() {
        schedule.unfinished_from = schedule.candidate.row.last_run;
    }
    for row in rows {
        let Some(schedule) = schedules.get_mut(&row.id) else {
            continue;
        };
        let text = |text: Option<LooseText>| text.map(LooseText::into_display);
        if let Some(planned) = text(row.planned) {
            // If the time can't be read, the next call reads all messages again.
            schedule.unfinished_from = times::parse(&planned);
        }
        if let Some(Ok(status)) = text(row.status).map(|status| status.parse()) {
            let since = text(row.since).as_deref().and_then(times::parse);
            schedule.candidate.unfinished = Some(UnfinishedMessage {
                key: text(row.uuid).unwrap_or_default(),
                status,
                since: since.unwrap_or(schedule.candidate.now),
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
         FROM (SELECT CAST(m.id AS {bigint}) AS id, COALESCE({of_timetable}, {outside}) AS message \
             FROM carrot_scheduledtask m WHERE m.id IN ({ids})) q \
         JOIN carrot_messagelog l ON l.id = q.message",
        since = E::time_to_text(&format!("COALESCE(l.publish_time, {})", E::NOW)),
        planned = E::time_to_text("l.planned_time"),
        bigint = E::BIGINT,
        of_timetable = first(&format!(
            "l.planned_time >= COALESCE(m.unfinished_from, {})",
            E::text_to_time("'0001-01-01 00:00:00'")
        )),
        outside = first("l.planned_time IS NULL"),
    )
}

/// Lowers the `unfinished_from` of schedules whose occurrences got new messages, by a requeue in this transaction.
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
