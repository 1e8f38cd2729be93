//! Messages that are given back unrun, where the broker can't be relied on to deliver them again.

use diesel::QueryResult;

use super::engine::Engine;
use super::transition::{EventSql, EventTerms};
use super::values::ValueTable;
use crate::state::Event;
use crate::store::{BrokerCopy, REDELIVERY_GRACE, Republish, WorkerId};

/// `→ PENDING`, for the sweep to publish.
pub(super) fn republish<E: Engine>(
    engine: &mut E,
    owner: WorkerId,
    republishes: &[Republish],
) -> QueryResult<()> {
    let grace = i64::try_from(REDELIVERY_GRACE.as_secs()).unwrap_or(i64::MAX);
    for (copy, due) in [
        (BrokerCopy::MayBeDropped, E::now_plus(grace)),
        (BrokerCopy::Gone, E::NOW.to_owned()),
    ] {
        let mut keys: Vec<&str> = republishes
            .iter()
            .filter(|republish| republish.copy == copy)
            .map(|republish| republish.key.as_str())
            .collect();
        if keys.is_empty() {
            continue;
        }
        keys.sort_unstable();
        let terms = EventTerms {
            time: Some(&due),
            ..EventTerms::of(owner)
        };
        let change = EventSql::new::<E>(Event::Republish, &terms);
        engine.update(&change.for_keys(ValueTable::keys(keys)))?;
    }
    Ok(())
}
