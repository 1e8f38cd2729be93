//! The maintenance threads, which run beside the actor tree: `sweep` recovers messages that a dead worker left
//! behind, `heartbeat` shows that this worker is alive, and `prune` deletes old messages.

pub(crate) mod heartbeat;
pub(crate) mod prune;
pub(crate) mod sweep;
