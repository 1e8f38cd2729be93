//! Messages that their publisher holds: their leases, and since when the broker refuses them.

use std::time::Duration;

use diesel::prelude::*;

use super::engine::Engine;
use super::rows::KeyStatusRow;
use super::transition::{EventSql, EventTerms};
use super::values::ValueTable;
use crate::state::{Event, Status};

/// The prefix of `put_off_reason` in rows that the broker refuses. Rows without it are of runs that were put off.
const REFUSED: &str = "refused by the broker: ";

/// The broker may refuse a message for this long before it is FAILED.
const MAX_REFUSED_TIME: Duration = Duration::from_hours(24);

/// The condition that the broker refused the message when it was last published.
pub(super) fn is_refused() -> String {
    format!("m.put_off_reason LIKE '{REFUSED}%'")
}

/// Renews the publisher's lease on messages, which then ends `lease` from now.
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
        time: Some(&until),
        ..EventTerms::default()
    };
    let change = EventSql::new::<E>(Event::RenewLease, &terms);
    engine
        .update(&change.for_keys(ValueTable::keys(keys)))
        .map(drop)
}

/// Records that the broker refuses messages, and why. Returns the keys of messages that it has refused for too long,
/// which are FAILED now.
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
    let hours = MAX_REFUSED_TIME.as_secs() / 3600;
    let ends: Vec<String> = refused
        .iter()
        .map(|(_, reason)| format!("the broker has refused it for {hours} hours: {reason}"))
        .collect();
    let then = E::now_plus(i64::try_from(MAX_REFUSED_TIME.as_secs()).map_or(i64::MIN, |s| -s));
    let is_refused = is_refused();
    let is_over = format!("{is_refused} AND m.put_off_since <= {then}");
    let terms = EventTerms {
        same_cause: Some(&is_refused),
        too_long: Some(&is_over),
        ..EventTerms::default()
    };
    let change = EventSql::new::<E>(Event::Refuse, &terms);
    let values = ValueTable::keys(refused.iter().map(|(key, _)| key.as_str()))
        .texts("reason", reasons.iter().map(String::as_str))
        .texts("exception", ends.iter().map(String::as_str));
    let changed: Vec<KeyStatusRow> =
        engine.update_returning(&change.for_keys(values), &["uuid", "status"])?;
    let failed = changed
        .into_iter()
        .filter(|row| row.status == Status::Failed.as_str());
    Ok(failed.map(|row| row.uuid).collect())
}
