//! Messages that a worker gives back unrun and that the broker may not deliver again.

use diesel::QueryResult;

use super::engine::Engine;
use super::transition::{EventSql, EventTerms};
use super::values::ValueTable;
use crate::state::Event;
use crate::store::{BrokerCopy, REDELIVERY_GRACE, Republish, WorkerId};

/// Makes the messages PENDING, so that the sweep publishes them: after a grace time if the broker may still redeliver
/// its copy, or at once if the copy is gone.
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
