//! What the ledger writes in one transaction, and what becomes of it.

use std::time::Duration;

use super::{Finish, NewRow, WorkerId};
use crate::state::{Cause, Status};

/// One message to claim.
#[derive(Debug, Clone)]
pub struct ClaimRequest {
    /// The message's key.
    pub key: String,
    /// A row to insert first, if none of ours has the key.
    pub adopt: Option<NewRow>,
}

/// What became of a claim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Claim {
    /// It is ours to run.
    Ours {
        /// RunStore that are known to have begun before.
        attempts: u32,
        /// Claimed before by a worker that vanished: it may be what made it vanish.
        crash_suspect: bool,
    },
    /// It is over.
    Final(Status),
    /// A live worker has it.
    Owned(WorkerId),
    /// There is no row.
    NoRow,
}

/// What became of the end of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FinishResult {
    /// It is recorded.
    Written,
    /// It had been recorded already.
    Already,
    /// Another worker has the message now, and will record its own.
    Taken,
    /// The row was deleted on purpose while the task ran.
    Gone,
}

/// A run whose message must be seen to be ours before it starts, and that is counted by then.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Begin {
    /// The message's key.
    pub key: String,
    /// What its row counts then: a number, so that writing it twice counts once.
    pub attempts: u32,
}

/// A message that is given back unrun, and that the broker can't be relied on to deliver again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Republish {
    /// The message's key.
    pub key: String,
    /// What the broker has of it.
    pub copy: BrokerCopy,
}

/// What the broker has of a message that is given back unrun.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BrokerCopy {
    /// One that goes back to a queue that counts how often it does, and may drop it: the sweep publishes the
    /// message again after [`REDELIVERY_GRACE`](super::REDELIVERY_GRACE), unless it is claimed before.
    MayBeDropped,
    /// None that counts: the sweep publishes the message at once.
    Gone,
}

/// A run that could not begin, or was handed back: its message waits in its row, until the sweep publishes
/// it again.
#[derive(Debug, Clone, PartialEq)]
pub struct PutOff {
    /// The message as it came, whatever its row had: that is what is published.
    pub row: NewRow,
    /// RunStore that are known to have begun before: this one does not count.
    pub attempts: u32,
    /// It may be what made an earlier worker vanish.
    pub crash_suspect: bool,
    /// Why. The times below count from the first of those that were put off for the same cause.
    pub cause: Cause,
    /// The reason, as [`Cause::noted`] has it.
    pub reason: String,
    /// When it is published again.
    pub due: PutOffDue,
}

/// When a message is published again whose run is put off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PutOffDue {
    /// At once: somebody else may take it.
    Now,
    /// In a second, doubling to half a minute; not again when it has been put off for longer than this, if
    /// there is a limit.
    Later(Option<Duration>),
}

/// What became of a run that was to be put off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PutOffResult {
    /// The message waits.
    Waits,
    /// It has been put off for long enough, and is ours still.
    TooLong,
    /// It had ended already.
    Already,
    /// Another worker has the message now.
    Taken,
    /// The row was deleted on purpose meanwhile.
    Gone,
    /// The database does not take the row: nothing is written.
    Refused,
}

/// What the ledger writes in one transaction.
#[derive(Debug, Clone, Default)]
pub struct Batch {
    /// Ends of runs.
    pub finishes: Vec<Finish>,
    /// RunStore that are put off.
    pub put_offs: Vec<PutOff>,
    /// Keys to give back, not started: `→ PUBLISHED`.
    pub releases: Vec<String>,
    /// Messages to give back, not started: `→ PENDING`.
    pub republishes: Vec<Republish>,
    /// Suspects that are about to run: their attempt is counted now.
    pub begins: Vec<Begin>,
    /// Messages to claim.
    pub claims: Vec<ClaimRequest>,
    /// Keys of messages of which it is asked whether they have a row.
    pub row_checks: Vec<String>,
}

impl Batch {
    /// Whether there is nothing to write.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.only_claims() && self.claims.is_empty() && self.row_checks.is_empty()
    }

    const fn only_claims(&self) -> bool {
        self.finishes.is_empty()
            && self.put_offs.is_empty()
            && self.releases.is_empty()
            && self.republishes.is_empty()
            && self.begins.is_empty()
    }

    /// Whether the batch only claims rows that are there: if the database crashes and forgets that, the messages are
    /// delivered again, so such a commit need not wait for the disk.
    #[must_use]
    pub fn may_be_forgotten(&self) -> bool {
        self.only_claims() && self.claims.iter().all(|claim| claim.adopt.is_none())
    }
}

/// What became of a [`Batch`]; the lists of verdicts are in its order.
#[derive(Debug, Clone, Default)]
pub struct BatchResult {
    /// Of [`Batch::finishes`].
    pub finished: Vec<FinishResult>,
    /// Of [`Batch::put_offs`].
    pub put_offs: Vec<PutOffResult>,
    /// Of [`Batch::begins`]: whether the message is still ours to run.
    pub begun: Vec<bool>,
    /// Of [`Batch::claims`].
    pub claims: Vec<Claim>,
    /// Those of [`Batch::row_checks`] that have a row, in no order.
    pub with_row: Vec<String>,
}
