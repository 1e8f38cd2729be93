//! Messages that are given back unrun, where the broker can't be relied on to deliver them again.

use diesel::QueryResult;

use super::engine::{ALWAYS, Engine, Update};
use super::guards::allows;
use super::values::Values;
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
        (BrokerCopy::MayBeDropped, E::now_and(grace)),
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
        engine.update(&Update {
            values: Values::keys(keys),
            set: &[
                // One that is set says since when a copy is missing.
                ("due_time", &format!("COALESCE(m.due_time, {due})")),
                ("status", "'PENDING'"),
                // A mark that comes late must not find it without one: it would be PUBLISHED, with no copy.
                ("owner", &owner.0.to_string()),
            ],
            // Nobody's: a crash of the database may have forgotten the claim.
            given: &format!(
                "(({} AND m.owner = {}) OR ({} AND m.owner IS NULL))",
                allows(Event::Recover),
                owner.0,
                allows(Event::Republish)
            ),
            and: ALWAYS,
        })?;
    }
    Ok(())
}
