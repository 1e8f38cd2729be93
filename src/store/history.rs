//! What is pruned from the history, and what became of it.

use std::collections::HashMap;

use crate::config::History;
use crate::state::Status;

/// A stretch of the messages, in the order of their ids, which is that of their recording.
#[derive(Debug, Clone, Copy)]
pub struct PruneRange<'a> {
    /// It begins after this id.
    pub after: i64,
    /// It has so many messages, unless there are no more.
    pub limit: usize,
    /// How old those that are over may be.
    pub history: &'a History,
    /// Whether to delete those that are older, or only to count them.
    pub delete: bool,
}

/// What became of a [`PruneRange`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pruned {
    /// How many messages were deleted, or would be, by their state.
    pub counts: HashMap<Status, usize>,
    /// The id after which the next stretch begins; `None` if this was the last.
    pub next: Option<i64>,
    /// Nothing in it was recorded long enough ago to be too old, and so is nothing after it.
    pub recent: bool,
    /// Nothing is left in it that will ever be too old.
    pub settled: bool,
}
