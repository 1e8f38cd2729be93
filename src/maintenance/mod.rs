//! Threads beside the tree: what a death left undone is taken up (`sweep`), this worker says that it lives
//! (`heartbeat`), and old messages are deleted (`prune`).

pub(crate) mod heartbeat;
pub(crate) mod prune;
pub(crate) mod sweep;
