//! The statements of pruning, in a transaction.
//!
//! Pruning walks the table by its primary key, since an index on the time of a message's end would slow down every
//! end. It reads a range of the table without locks, so that no running message waits for it. It locks only the
//! rows that it deletes, and skips rows that others have locked.

use std::collections::HashMap;
use std::time::Duration;

use diesel::prelude::*;
use diesel::result::Error;
use diesel::sql_types::{BigInt, Nullable, Text};

use super::engine::Engine;
use super::guards::{is_in, status_literal};
use super::transition::end_time;
use crate::config::History;
use crate::state::Status;
use crate::store::{PruneRange, Pruned};

pub(super) fn prune(engine: &mut impl Engine, range: &PruneRange<'_>) -> QueryResult<Pruned> {
    let Some(youngest) = range.history.ages().map(|(_, age)| age).min() else {
        return Ok(Pruned::default());
    };
    let seen = summarize_range(engine, range, youngest)?;
    let Some(last) = seen.last else {
        return Ok(Pruned::default());
    };
    let old = find_expired(engine, range, last)?;
    if range.delete && !old.is_empty() {
        let ids: Vec<i64> = old.iter().map(|row| row.id).collect();
        engine.delete(&ids)?;
    }
    let length = usize::try_from(seen.length).unwrap_or(usize::MAX);
    let lasting = usize::try_from(seen.lasting).unwrap_or(0);
    let mut counts = HashMap::new();
    for status in old.iter().filter_map(|row| row.status.parse().ok()) {
        *counts.entry(status).or_default() += 1;
    }
    Ok(Pruned {
        counts,
        next: (length >= range.limit).then_some(last),
        recent: seen.recent == seen.length,
        settled: range.delete && old.len() + lasting >= length,
    })
}

/// What a range of the table contains.
#[derive(QueryableByName)]
struct RangeSummary {
    #[diesel(sql_type = BigInt)]
    length: i64,
    /// The highest id.
    #[diesel(sql_type = Nullable<BigInt>)]
    last: Option<i64>,
    /// How many messages are younger than the shortest age.
    #[diesel(sql_type = BigInt)]
    recent: i64,
    /// How many messages are final and kept forever.
    #[diesel(sql_type = BigInt)]
    lasting: i64,
}

fn summarize_range<E: Engine>(
    engine: &mut E,
    range: &PruneRange<'_>,
    youngest: Duration,
) -> QueryResult<RangeSummary> {
    let lasting = Status::finals().filter(|status| range.history.age(*status).is_none());
    let lasting: Vec<Status> = lasting.collect();
    let is_lasting = match lasting.is_empty() {
        true => "1 = 0".to_owned(),
        false => is_in("status", lasting),
    };
    let sql = format!(
        "SELECT count(*) AS length, CAST(max(id) AS {bigint}) AS last, \
             count(CASE WHEN publish_time >= {since} AND publish_time <= {now} THEN 1 END) AS recent, \
             count(CASE WHEN {is_lasting} THEN 1 END) AS lasting \
         FROM (SELECT id, status, publish_time FROM carrot_messagelog \
             WHERE id > {after} ORDER BY id LIMIT {limit}) stretch",
        bigint = E::BIGINT,
        since = time_before::<E>(youngest),
        // A message to be published later does not show that the messages after it are recent.
        now = E::NOW,
        after = range.after,
        limit = range.limit,
    );
    let seen: Vec<RangeSummary> = engine.load_unprepared(&sql)?;
    seen.into_iter().next().ok_or(Error::NotFound)
}

#[derive(QueryableByName)]
struct ExpiredRow {
    #[diesel(sql_type = BigInt)]
    id: i64,
    #[diesel(sql_type = Text)]
    status: String,
}

/// The expired messages up to `last`, locked if they are to be deleted.
fn find_expired<E: Engine>(
    engine: &mut E,
    range: &PruneRange<'_>,
    last: i64,
) -> QueryResult<Vec<ExpiredRow>> {
    let lock = if range.delete {
        E::FOR_UPDATE_SKIP_LOCKED
    } else {
        ""
    };
    let sql = format!(
        "SELECT CAST(m.id AS {bigint}) AS id, m.status FROM carrot_messagelog m \
         WHERE m.id > {after} AND m.id <= {last} AND ({is_expired}) ORDER BY m.id {lock}",
        bigint = E::BIGINT,
        after = range.after,
        is_expired = is_expired::<E>(range.history),
    );
    engine.load_unprepared(&sql)
}

/// The condition that a message has been final for longer than the age of its status. A row without the time of its end
/// counts from its publish time, which is not later than the end. A row without either is kept.
fn is_expired<E: Engine>(history: &History) -> String {
    let conditions: Vec<String> = history
        .ages()
        .map(|(status, age)| {
            let end = end_time(status).unwrap_or("failure_time");
            let before = time_before::<E>(age);
            // A value that is no time may sort before all times.
            let first = E::text_to_time("'0001-01-01 00:00:00'");
            let time = |column: &str| format!("CASE WHEN {column} >= {first} THEN {column} END");
            format!(
                "(m.status = {} AND COALESCE({}, {}) < {before})",
                status_literal(status),
                time(&format!("m.{end}")),
                time("m.publish_time")
            )
        })
        .collect();
    conditions.join(" OR ")
}

/// The time `age` ago, by the database's clock.
fn time_before<E: Engine>(age: Duration) -> String {
    E::now_plus(i64::try_from(age.as_secs()).map_or(i64::MIN, |seconds| -seconds))
}
