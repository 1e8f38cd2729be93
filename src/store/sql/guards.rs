//! The conditions that stand inside the statements, made from the states' transitions.

use crate::state::{Event, Status};

/// The condition that `m.owner` is dead.
pub(super) const OWNER_IS_DEAD: &str =
    "NOT EXISTS (SELECT 1 FROM carrot_worker w WHERE w.id = m.owner)";

/// The condition that `event` is legal for `m`.
pub(super) fn allows(event: Event) -> String {
    format!("m.status IN ({})", list(event.sources()))
}

/// `states` as a list of SQL.
pub(super) fn list(states: impl IntoIterator<Item = Status>) -> String {
    joined(states.into_iter().map(|status| format!("'{status}'")))
}

/// `items` as a list of SQL.
pub(super) fn joined<T: ToString>(items: impl IntoIterator<Item = T>) -> String {
    let items: Vec<_> = items.into_iter().map(|item| item.to_string()).collect();
    items.join(", ")
}
