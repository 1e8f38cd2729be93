//! The transactional outbox, and the only way by which messages reach the broker: record, then flush.
//!
//! *Record* writes PENDING rows. *Flush* publishes them with publisher confirms, and marks them PUBLISHED. A
//! process that dies in between leaves PENDING rows, which the sweep flushes. If a message is published twice
//! for that reason, its second delivery finds the row claimed or finished.

mod broker_link;
mod forbidden;
mod outbox;
mod publish_result;
mod tracking_outbox;
mod unconfirmed;

pub use self::outbox::{Flushed, Outbox};
pub(crate) use self::tracking_outbox::{NextWork, TrackingOutbox};
