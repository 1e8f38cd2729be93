//! The conditions that stand inside the statements, made from the states' transitions.

use crate::state::{Event, Status};

/// The condition that `m.owner` is dead.
pub(super) const OWNER_IS_DEAD: &str =
    "NOT EXISTS (SELECT 1 FROM carrot_worker w WHERE w.id = m.owner)";

/// The states in which `event` is legal, as a list of SQL.
pub(super) fn sources(event: Event) -> String {
    list(event.sources())
}

/// `states` as a list of SQL.
pub(super) fn list(states: impl IntoIterator<Item = Status>) -> String {
    let quoted: Vec<_> = states
        .into_iter()
        .map(|status| format!("'{status}'"))
        .collect();
    quoted.join(", ")
}
