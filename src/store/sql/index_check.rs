//! Compares the indexes that our statements need with those that the database has.

use diesel::prelude::*;

use super::engine::Engine;
use super::indexes::{ExistingIndex, Index, IndexFault};
use crate::store::Tables;

/// The indexes needed for `tables` that are missing, invalid or different.
pub(in crate::store) fn index_faults<E: Engine>(
    engine: &mut E,
    tables: Tables,
) -> QueryResult<Vec<(&'static Index, IndexFault)>> {
    let existing: Vec<ExistingIndex> = engine.load_unprepared(E::SELECT_INDEXES)?;
    let wanted = E::INDEXES.iter().filter(|index| match tables {
        Tables::Plain => !index.embedded_broker_only,
        Tables::WithQueues => true,
    });
    let fault = |index: &'static Index| {
        let fault = match existing.iter().find(|found| found.name == index.name) {
            None => IndexFault::Missing,
            Some(found) if !index.matches(found, E::SHOWS_DESCENDING) => {
                let unique = if found.is_unique == 0 { "" } else { "unique, " };
                let of = &found.key_columns;
                IndexFault::Different(match found.predicate.as_str() {
                    "" => format!("{unique}on {of}"),
                    predicate => format!("{unique}on {of}, where {predicate}"),
                })
            }
            Some(found) if found.is_valid == 0 => IndexFault::Invalid,
            Some(_) => return None,
        };
        Some((index, fault))
    };
    Ok(wanted.filter_map(fault).collect())
}
