//! From the recording of a message to the confirmation by its broker.

mod blocked_destinations;
mod delayed;
mod dying_caller;
mod forbidden;
mod large_messages;
mod late_confirms;
