//! The conditions of the statements.

use crate::state::Status;

/// The condition that `m.owner` is dead.
pub(super) const OWNER_IS_DEAD: &str =
    "NOT EXISTS (SELECT 1 FROM carrot_worker w WHERE w.id = m.owner)";

/// The condition that `column` is one of these statuses.
pub(super) fn is_in(column: &str, states: impl IntoIterator<Item = Status>) -> String {
    match literals(states).as_slice() {
        [state] => format!("{column} = {state}"),
        states => format!("{column} IN ({})", joined(states)),
    }
}

/// The condition that `column` is none of these statuses.
pub(super) fn is_not_in(column: &str, states: impl IntoIterator<Item = Status>) -> String {
    match literals(states).as_slice() {
        [state] => format!("{column} <> {state}"),
        states => format!("{column} NOT IN ({})", joined(states)),
    }
}

/// A status as an SQL literal. It is never bound as a value: the planner matches a partial index with the statement's
/// text.
pub(super) fn status_literal(state: Status) -> String {
    format!("'{state}'")
}

fn literals(states: impl IntoIterator<Item = Status>) -> Vec<String> {
    states.into_iter().map(status_literal).collect()
}

/// `items`, separated by commas.
pub(super) fn joined<T: ToString>(items: impl IntoIterator<Item = T>) -> String {
    let items: Vec<_> = items.into_iter().map(|item| item.to_string()).collect();
    items.join(", ")
}
