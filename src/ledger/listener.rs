//! What the ledger reports to the set of consumers that asked it.

use std::collections::HashMap;
use std::time::Duration;

use crate::broker::{DeliveryHandle, Envelope};
use crate::execution::Attempt;
use crate::state::Status;
use crate::store::WorkerId;

/// Receives the ledger's reports for one set of consumers. Except for [`joined`](Self::joined), each call follows
/// the commit that it reports, which took `commit`.
pub trait LedgerListener: Send + Sync {
    /// `count` claims named messages that are already in flight: they have joined those runs, and are settled
    /// with them, which is reported later than this.
    fn joined(&self, count: usize);

    /// The outcomes of claims.
    fn claimed(&self, outcomes: Vec<ClaimOutcome>, commit: Duration);

    /// Deliveries to settle, and how many runs of this set ended.
    fn settle(&self, settlement: Settlement, commit: Duration);

    /// The keys that [`Ledger::look_up_rows`](super::Ledger::look_up_rows) was given, and whether each has a row.
    fn looked_up(&self, has_row: HashMap<String, bool>);
}

/// The outcome of a claim.
#[derive(Debug)]
pub enum ClaimOutcome {
    /// This worker owns the message and may run it.
    Ours(Attempt),
    /// The message is in a final state.
    Final(Envelope, Status),
    /// A live worker owns the message.
    Owned(Envelope, WorkerId),
    /// The message has no row.
    NoRow(Envelope),
}

/// Deliveries to settle.
#[derive(Debug, Default)]
pub struct Settlement {
    /// Deliveries to acknowledge.
    pub accept: Vec<DeliveryHandle>,
    /// Deliveries to return to the broker.
    pub give_back: Vec<DeliveryHandle>,
    /// How many runs of the set ended.
    pub finished: usize,
    /// How many claimed messages of the set were given back before their run began.
    pub released: usize,
    /// The total duration of the runs that ended.
    pub ran: Duration,
}
