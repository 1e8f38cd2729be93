//! Pruning the history of messages.

use std::collections::HashMap;

use crate::config::History;
use crate::state::Status;

/// A range of the messages to prune, in the order of their ids, in which they were recorded.
#[derive(Debug, Clone, Copy)]
pub struct PruneRange<'a> {
    /// The range begins after this id.
    pub after: i64,
    /// How many messages it has, unless there are no more.
    pub limit: usize,
    /// How old a final message may become.
    pub history: &'a History,
    /// Whether to delete older messages, or only to count them.
    pub delete: bool,
}

/// The result of pruning a [`PruneRange`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pruned {
    /// How many messages were deleted, or would be, by their state.
    pub counts: HashMap<Status, usize>,
    /// The id after which the next range begins; `None` after the last range.
    pub next: Option<i64>,
    /// All of its messages were recorded too recently to be too old, and so were all messages after it.
    pub recent: bool,
    /// No message is left in it that can ever become too old.
    pub settled: bool,
}
