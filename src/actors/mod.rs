//! The actor tree, which holds the service's state and control. No actor blocks, and none touches diesel or
//! amiquip: blocking work runs on threads that send messages to their actor.
//!
//! A shutdown goes down the tree as messages: first to the scheduler, so that nothing new is published, then to
//! all sets at once. Each set tells all its consumers to stop before it waits for any.

mod consumer;
mod consumer_set;
mod messages;
mod probe;
mod scheduler;
mod subscription;
mod supervisor;
mod tree;

pub use probe::all_respond;
pub use supervisor::{Shutdown, SupervisorActor, ThreadDied, TreeOutcome};
pub use tree::{ConsumedQueue, Tree};
