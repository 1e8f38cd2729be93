//! The statements of the scheduler: what is due, or to be reckoned, and what becomes of it.

use std::collections::{HashMap, HashSet};

use chrono::{DateTime, Utc};
use diesel::prelude::*;
use diesel::result::Error;
use diesel::sql_types::{BigInt, Nullable, Text};

use super::engine::{Engine, Id};
use super::guards::{joined, list};
use super::publishing::record;
use super::schedules::{Row, time_of};
use super::times;
use super::values::Values;
use crate::failpoint;
use crate::message::Message;
use crate::state::Status;
use crate::store::{Advance, Agenda, Anew, Candidate, NewRow, Ready, Unfinished};

#[derive(QueryableByName)]
struct AgendaRow {
    #[diesel(sql_type = Text)]
    now: String,
    #[diesel(sql_type = Nullable<Text>)]
    next: Option<String>,
    #[diesel(sql_type = BigInt)]
    unplanned: i64,
}

/// So many seconds a clock may be set back without a trace.
const A_CLOCKS_ERROR: i64 = 10;

/// What leaves out those that are held back.
fn but(held: &[i64]) -> String {
    if held.is_empty() {
        String::new()
    } else {
        format!(" AND m.id NOT IN ({})", joined(held))
    }
}

pub(super) fn agenda<E: Engine>(engine: &mut E, held: &[i64]) -> QueryResult<Agenda> {
    let but = but(held);
    let sql = format!(
        "SELECT {now} AS now, \
             (SELECT {next} FROM carrot_scheduledtask m WHERE {planned}{but} \
                 ORDER BY m.next_run LIMIT 1) AS next, \
             CAST(CASE WHEN EXISTS (SELECT 1 FROM carrot_scheduledtask m WHERE {unplanned}{but}) \
                 THEN 1 ELSE 0 END AS {bigint}) AS unplanned",
        now = E::time_text(E::NOW),
        next = E::time_text("m.next_run"),
        planned = E::PLANNED,
        unplanned = E::UNPLANNED,
        bigint = E::BIGINT,
    );
    let rows: Vec<AgendaRow> = if held.is_empty() {
        engine.load(&sql, None)?
    } else {
        engine.load_once(&sql)?
    };
    let row = rows.into_iter().next().ok_or(Error::NotFound)?;
    Ok(Agenda {
        now: time_of(&row.now)?,
        next: row.next.as_deref().and_then(times::parse),
        unplanned: row.unplanned != 0,
    })
}

/// In a transaction: what is to be reckoned anew is what has no note of a timetable.
pub(super) fn reckon_anew<E: Engine>(engine: &mut E, which: Anew) -> QueryResult<usize> {
    let condition = match which {
        Anew::AtStart => format!(
            "(m.refusal IS NOT NULL AND m.next_run IS NULL \
                 OR m.last_run > {later} AND m.next_run > {later})",
            later = E::now_and(A_CLOCKS_ERROR)
        ),
        Anew::SetBack => format!("m.next_run > {}", E::NOW),
    };
    let sql = format!(
        "SELECT CAST(m.id AS {}) AS id FROM carrot_scheduledtask m WHERE m.active AND {condition} \
         ORDER BY m.id",
        E::BIGINT
    );
    let found: Vec<Id> = engine.load_once(&sql)?;
    if !found.is_empty() {
        let values = Values::default().integers("id", found.iter().map(|row| row.id));
        engine.update_schedules(&values, &[("planned_for", "NULL".to_owned())])?;
    }
    Ok(found.len())
}

/// In a transaction: locks schedules that nobody else has locked, asks what becomes of each, and writes
/// that with the messages. Returns how many there were, and these.
pub(super) fn advance<E: Engine>(
    engine: &mut E,
    ready: Ready,
    limit: usize,
    held: &[i64],
    decide: &mut dyn FnMut(&Candidate) -> Advance,
) -> QueryResult<(usize, Vec<Message>)> {
    let locked = lock(engine, ready, limit, held)?;
    if locked.is_empty() {
        return Ok((0, Vec::new()));
    }
    let candidates = locked.iter().map(|locked| &locked.candidate);
    let mut advances: Vec<Advance> = candidates.map(decide).collect();
    write(engine, &locked, &advances)?;
    let messages = advances
        .iter_mut()
        .flat_map(|advance| std::mem::take(&mut advance.messages))
        .collect();
    let messages = without_those_there(engine, messages)?;
    if !messages.is_empty() {
        let rows: Vec<NewRow> = messages.iter().map(NewRow::pending).collect();
        record(engine, &rows)?;
    }
    failpoint::hit("schedule.before-commit");
    Ok((locked.len(), messages))
}

#[derive(QueryableByName)]
struct There {
    #[diesel(sql_type = BigInt)]
    position: i64,
}

/// Without those whose occurrence has a message, as after a clock that was set back, or when a table came
/// from a dump.
fn without_those_there<E: Engine>(
    engine: &mut E,
    messages: Vec<Message>,
) -> QueryResult<Vec<Message>> {
    let times = |message: &Message| {
        let of = message.occurrence?;
        Some((of.schedule, times::text(of.planned?)))
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
    let values = Values::default()
        .integers("nth", planned().map(|(nth, _)| nth))
        .integers("schedule_id", planned().map(|(_, (schedule, _))| *schedule))
        .texts(
            "planned",
            planned().map(|(_, (_, planned))| planned.as_str()),
        );
    // Not as a join, which may be made the other way round: the messages may be millions.
    let sql = format!(
        "SELECT CAST(v.nth AS {bigint}) AS position FROM {source} \
         WHERE (SELECT count(*) FROM carrot_messagelog l \
             WHERE l.schedule_id = v.schedule_id AND l.planned_time = {planned}) > 0",
        bigint = E::BIGINT,
        source = engine.source(&values),
        planned = E::time_of("v.planned"),
    );
    let there: Vec<There> = engine.load(&sql, Some(&values))?;
    let there: HashSet<i64> = there.iter().map(|row| row.position).collect();
    let messages = (0_i64..).zip(messages);
    let left = messages.filter(|(nth, _)| !there.contains(nth));
    Ok(left.map(|(_, message)| message).collect())
}

/// A schedule that is locked.
struct Locked {
    candidate: Candidate,
    /// No message of an occurrence planned before then is unfinished. Nobody keeps that where runs may
    /// overlap.
    unfinished_from: Option<DateTime<Utc>>,
}

impl Locked {
    fn may_overlap(&self) -> bool {
        self.candidate.row.spec.overlap != "skip"
    }

    /// The same once it is advanced.
    fn unfinished_after(&self, advance: &Advance) -> Option<DateTime<Utc>> {
        let planned = advance.messages.iter();
        let planned = planned.filter_map(|message| message.occurrence?.planned);
        // A clock may have been set back.
        let from = self.unfinished_from.filter(|_| !self.may_overlap())?;
        Some(planned.min().map_or(from, |first| first.min(from)))
    }
}

fn lock<E: Engine>(
    engine: &mut E,
    ready: Ready,
    limit: usize,
    held: &[i64],
) -> QueryResult<Vec<Locked>> {
    let columns = Row::columns::<E>();
    let but = but(held);
    let lock = E::LOCK_FREE;
    let condition = match ready {
        // In whatever order they are found: to sort them would be to lock them all.
        Ready::Unplanned => format!("{}{but}", E::UNPLANNED),
        Ready::Saved(id) => format!("{}{but} AND m.id = {id}", E::UNPLANNED),
        Ready::Due => format!(
            "{} AND m.next_run <= {}{but} ORDER BY m.next_run",
            E::PLANNED,
            E::NOW
        ),
    };
    let sql = format!(
        "SELECT {columns} FROM {} WHERE {condition} LIMIT {limit} {lock}",
        E::SCHEDULES
    );
    let rows: Vec<Row> = engine.load_once(&sql)?;
    let mut locked = Vec::with_capacity(rows.len());
    for row in rows {
        locked.push(Locked {
            unfinished_from: row.unfinished_from(),
            candidate: Candidate {
                now: time_of(&row.now)?,
                row: row.into(),
                unfinished: None,
            },
        });
    }
    see_unfinished(engine, &mut locked)?;
    Ok(locked)
}

#[derive(QueryableByName)]
struct UnfinishedRow {
    /// The schedule's.
    #[diesel(sql_type = BigInt)]
    id: i64,
    #[diesel(sql_type = Text)]
    uuid: String,
    #[diesel(sql_type = Text)]
    status: String,
    #[diesel(sql_type = Text)]
    since: String,
    #[diesel(sql_type = Nullable<Text>)]
    planned: Option<String>,
}

/// Sees which of those that must not overlap would, and with what: the first of their occurrences whose
/// message is not finished, or one beside the timetable. Those that are known to be finished are not read
/// again, as many as they may be.
fn see_unfinished<E: Engine>(engine: &mut E, locked: &mut [Locked]) -> QueryResult<()> {
    let mut asked: HashMap<i64, &mut Locked> = locked
        .iter_mut()
        .filter(|locked| !locked.may_overlap() && locked.candidate.is_due())
        .map(|locked| (locked.candidate.row.id, locked))
        .collect();
    if asked.is_empty() {
        return Ok(());
    }
    let rows: Vec<UnfinishedRow> = engine.load_once(&unfinished::<E>(joined(asked.keys())))?;
    for asked in asked.values_mut() {
        asked.unfinished_from = asked.candidate.row.last_run;
    }
    for row in rows {
        let Some(asked) = asked.get_mut(&row.id) else {
            continue;
        };
        if let Some(planned) = row.planned {
            asked.unfinished_from = Some(time_of(&planned)?);
        }
        if let Ok(status) = row.status.parse() {
            asked.candidate.unfinished = Some(Unfinished {
                key: row.uuid,
                status,
                since: time_of(&row.since)?,
            });
        }
    }
    Ok(())
}

/// Selects the [`UnfinishedRow`]s of the schedules with these ids.
fn unfinished<E: Engine>(ids: String) -> String {
    let states = list(Status::ALL.into_iter().filter(|status| !status.is_final()));
    let first = |which: &str| {
        format!(
            "(SELECT l.id FROM {} WHERE l.schedule_id = m.id AND {which} AND l.status IN ({states}) \
                 ORDER BY l.planned_time LIMIT 1)",
            E::OCCURRENCES
        )
    };
    format!(
        "SELECT q.id, l.uuid, l.status, {since} AS since, {planned} AS planned \
         FROM (SELECT CAST(m.id AS {bigint}) AS id, COALESCE({of_timetable}, {beside}) AS message \
             FROM carrot_scheduledtask m WHERE m.id IN ({ids})) q \
         JOIN carrot_messagelog l ON l.id = q.message",
        since = E::time_text(&format!("COALESCE(l.publish_time, {})", E::NOW)),
        planned = E::time_text("l.planned_time"),
        bigint = E::BIGINT,
        of_timetable = first(&format!(
            "l.planned_time >= COALESCE(m.unfinished_from, {})",
            E::time_of("'0001-01-01 00:00:00'")
        )),
        beside = first("l.planned_time IS NULL"),
    )
}

/// In a transaction that has made messages of occurrences anew: they are unfinished.
pub(super) fn not_finished_after_all<E: Engine>(
    engine: &mut E,
    rows: &[NewRow],
) -> QueryResult<()> {
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
    let times: Vec<String> = first.values().copied().map(times::text).collect();
    let values = Values::default()
        .integers("id", first.keys().copied())
        .texts("planned", times.iter().map(String::as_str));
    let planned = E::time_of("v.planned");
    let earlier = format!(
        "CASE WHEN m.unfinished_from > {planned} THEN {planned} ELSE m.unfinished_from END"
    );
    engine.update_schedules(&values, &[("unfinished_from", earlier)])
}

fn write<E: Engine>(engine: &mut E, locked: &[Locked], advances: &[Advance]) -> QueryResult<()> {
    let texts = |time: fn(&Advance) -> Option<DateTime<Utc>>| -> Vec<Option<String>> {
        advances
            .iter()
            .map(|advance| time(advance).map(times::text))
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
        .map(|(locked, advance)| locked.unfinished_after(advance).map(times::text))
        .collect();
    let refusals = advances.iter().map(|advance| advance.refusal.as_deref());
    let values = Values::default()
        .integers("id", locked.iter().map(|locked| locked.candidate.row.id))
        .nullable("next_run", next.iter().map(Option::as_deref))
        .nullable("anchor", anchor.iter().map(Option::as_deref))
        .nullable("last_run", last.iter().map(Option::as_deref))
        .nullable(
            "unfinished_from",
            unfinished_from.iter().map(Option::as_deref),
        )
        .nullable("refusal", refusals);
    let set = [
        ("next_run", E::time_of("v.next_run")),
        (
            "anchor",
            format!("COALESCE(m.anchor, {})", E::time_of("v.anchor")),
        ),
        (
            "last_run",
            format!("COALESCE({}, m.last_run)", E::time_of("v.last_run")),
        ),
        ("unfinished_from", E::time_of("v.unfinished_from")),
        ("refusal", "v.refusal".to_owned()),
        ("planned_for", E::TIMETABLE.to_owned()),
    ];
    engine.update_schedules(&values, &set)
}
