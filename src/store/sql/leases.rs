//! Messages that wait with whoever publishes them: their leases, and since when the broker refuses them.

use std::time::Duration;

use diesel::prelude::*;
use diesel::sql_types::Text;

use super::engine::{Engine, KeyedRow};
use super::transition::{EventSql, EventTerms};
use super::values::ValueTable;
use crate::state::{Event, Status};

/// What the reason in a row begins with that the broker refuses; others are of runs that are put off.
const REFUSED: &str = "refused by the broker: ";

/// A message that the broker refuses for so long is FAILED.
const MOST_REFUSED: Duration = Duration::from_hours(24);

/// The condition that the broker refused the message when it was last published.
pub(super) fn is_refused() -> String {
    format!("m.put_off_reason LIKE '{REFUSED}%'")
}

/// Has messages be their publisher's for so long from now.
pub(super) fn renew<E: Engine>(
    engine: &mut E,
    keys: &[String],
    lease: Duration,
) -> QueryResult<()> {
    let until = match i64::try_from(lease.as_secs()).unwrap_or(i64::MAX) {
        0 => E::NOW.to_owned(),
        seconds => E::now_plus(seconds),
    };
    let mut keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    keys.sort_unstable();
    let terms = EventTerms {
        then: Some(&until),
        ..EventTerms::default()
    };
    let change = EventSql::of::<E>(Event::RenewLease, &terms);
    engine
        .update(&change.of_keys(ValueTable::keys(keys)))
        .map(drop)
}

#[derive(QueryableByName)]
struct RefusedRow {
    #[diesel(sql_type = Text)]
    uuid: String,
    #[diesel(sql_type = Text)]
    status: String,
}

impl KeyedRow for RefusedRow {
    fn key(&self) -> &str {
        &self.uuid
    }
}

/// Notes that the broker refuses messages, and why. Returns the keys of those that are FAILED for it.
pub(super) fn note_refused<E: Engine>(
    engine: &mut E,
    refused: &[(String, String)],
) -> QueryResult<Vec<String>> {
    let mut refused: Vec<_> = refused.iter().collect();
    refused.sort_unstable();
    let reasons: Vec<String> = refused
        .iter()
        .map(|(_, reason)| format!("{REFUSED}{reason}"))
        .collect();
    let hours = MOST_REFUSED.as_secs() / 3600;
    let ends: Vec<String> = refused
        .iter()
        .map(|(_, reason)| format!("the broker has refused it for {hours} hours: {reason}"))
        .collect();
    let then = E::now_plus(i64::try_from(MOST_REFUSED.as_secs()).map_or(i64::MIN, |s| -s));
    let is_refused = is_refused();
    let is_over = format!("{is_refused} AND m.put_off_since <= {then}");
    let terms = EventTerms {
        same_cause: Some(&is_refused),
        too_long: Some(&is_over),
        ..EventTerms::default()
    };
    let change = EventSql::of::<E>(Event::Refuse, &terms);
    let values = ValueTable::keys(refused.iter().map(|(key, _)| key.as_str()))
        .texts("reason", reasons.iter().map(String::as_str))
        .texts("exception", ends.iter().map(String::as_str));
    let noted: Vec<RefusedRow> =
        engine.update_returning(&change.of_keys(values), &["uuid", "status"])?;
    let failed = noted
        .into_iter()
        .filter(|row| row.status == Status::Failed.as_str());
    Ok(failed.map(|row| row.uuid).collect())
}
