//! The link to one broker: connections that publish, reopened as often as needed.
//!
//! One connection is the current one, on which messages are sent. Older ones stay open only until the broker has
//! confirmed what was sent on them, or they end.

mod declare;
mod follow_up;
mod link;
mod log;
mod refusals;
mod result_slots;
mod settle;

pub(super) use self::link::{AWAY_PROBE_DELAY, BrokerLink};
pub(super) use self::settle::SendAttempt;
